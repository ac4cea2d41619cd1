"""Which epoch is the best."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from darts_assets.training.fit.resume_state import Progress

NAN = float("nan")


@pytest.mark.parametrize(
    ("ious", "losses", "best"),
    [
        ([0.1, 0.3, 0.3, 0.2], [4, 3, 2, 1], 1),
        ([NAN, 0.1, NAN], [1, 9, 1], 1),
        ([NAN, NAN, NAN], [3, 1, 2], 1),
    ],
    ids=["the first of equals", "an undefined value is worst", "all are undefined: the least loss"],
)
def test_the_best_epoch(ious: list[float], losses: list[float], best: int) -> None:
    progress, model = Progress("iou", patience=9, epochs=9), torch.nn.Linear(1, 1)
    module = SimpleNamespace(get_submodule=lambda name: model)
    for epoch, (iou, loss) in enumerate(zip(ious, losses, strict=True)):
        torch.nn.init.constant_(model.weight, epoch)
        figures = {"validation_iou": torch.tensor(iou), "validation_loss": torch.tensor(float(loss))}
        trainer = SimpleNamespace(callback_metrics=figures, current_epoch=epoch, should_stop=False)
        progress.on_train_epoch_end(cast(Any, trainer), cast(Any, module))
    assert progress.best == best
    assert float(progress.weights["weight"]) == best
