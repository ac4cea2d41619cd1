import math

import pytest
import torch
from torchmetrics.classification import BinaryAUROC

from darts_assets.training.fit.metrics import BinnedAUROC, metrics


def pixels(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (3, 40, 40), generator=random)
    return (0.3 * torch.randn(labels.shape, generator=random) + 0.3 + 0.3 * (labels == 1)).clamp(0, 1), labels


def test_auroc_is_that_of_the_pixels() -> None:
    binned, exact = BinnedAUROC(), BinaryAUROC(ignore_index=2)
    for seed in range(3):
        binned.update(*pixels(seed))
        exact.update(*pixels(seed))
    assert float(binned.compute()) == pytest.approx(float(exact.compute()), abs=1e-3)
    assert int(binned.counts.sum()) == sum(int((pixels(seed)[1] < 2).sum()) for seed in range(3))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_has_no_curve(label: int) -> None:
    binned = BinnedAUROC()
    binned.update(torch.rand(50), torch.full((50,), label))
    assert math.isnan(binned.compute())


@pytest.mark.parametrize(
    ("probability", "label", "undefined"),
    [
        (0.1, 0, {"iou", "f1", "precision", "recall", "auroc"}),
        (0.9, 0, {"recall", "auroc"}),
        (0.1, 1, {"precision", "auroc"}),
        (0.9, 1, {"auroc"}),
        (0.9, 2, {"iou", "f1", "precision", "recall", "auroc"}),
    ],
    ids=["a perfect empty prediction", "only false alarms", "all is missed", "all is found", "all is ignored"],
)
def test_metrics_of_one_class(probability: float, label: int, undefined: set[str]) -> None:
    figures = metrics()
    figures.update(torch.full((50,), probability), torch.full((50,), label))
    values = {name: float(value) for name, value in figures.compute().items()}
    assert {name for name, value in values.items() if math.isnan(value)} == undefined
    assert {value for value in values.values() if not math.isnan(value)} <= {float(label == 1 and probability > 0.5)}


def test_ignored_pixels_count_in_no_metric() -> None:
    probabilities, labels = pixels(0)
    other = torch.where(labels == 2, 1 - probabilities, probabilities)
    one, two = metrics(), metrics("validation_")
    one.update(probabilities, labels)
    two.update(other, labels)
    figures = {name: float(value) for name, value in one.compute().items()}
    assert figures == {name.removeprefix("validation_"): float(value) for name, value in two.compute().items()}
    found, true, counted = probabilities > 0.5, labels == 1, labels < 2
    hits = int((found & true).sum())
    assert figures["iou"] == pytest.approx(hits / int(((found | true) & counted).sum()))
    assert figures["precision"] == pytest.approx(hits / int((found & counted).sum()))
    assert figures["recall"] == pytest.approx(hits / int(true.sum()))
