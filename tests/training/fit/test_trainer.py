import json
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.model.networks import load_model
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit import trainer
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.lightning_module import SegmentationModule
from darts_assets.training.fit.splits import split
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet

pytestmark = pytest.mark.slow

FIT = """
import json, sys, threading
from pathlib import Path

import torch
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.fit.fit_parameters import SplitParameters

class Stopping(TrainingSet):
    def patch(self, number):
        global left
        with lock:
            left -= 1
            if left == 0:
                print("half", flush=True)
            if left <= 0:
                threading.Event().wait()  # for the end
        return super().patch(number)

torch.set_num_threads(1)  # as in the tests, since sums depend on it
folder, out, state, parameters, left = sys.argv[1:]
left, lock, named = int(left), threading.Lock(), json.loads(parameters)
fit(Stopping.open(StoreLocation(folder)), FitParameters(**named), Path(out), StoreLocation(state))
"""
"""A fit that waits to be killed once so many patches have been read."""


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_one_seed_gives_the_same_weights_and_another_does_not(
    data: TrainingSet, quick: FitParameters, tmp_path: Path
) -> None:
    one, again, other = (
        fit(data, quick.replace(epochs=1, seed=seed, readers=readers), tmp_path / f"{name}.ckpt").header.path
        for name, seed, readers in (("one", 0, 1), ("again", 0, 3), ("other", 1, 1))
    )
    assert same(one, again)
    assert not same(one, other)


def test_the_threads_of_the_process_change_nothing(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    one = fit(data, quick.replace(epochs=1), tmp_path / "one.ckpt")
    torch.set_num_threads(2)
    two = fit(data, quick.replace(epochs=1), tmp_path / "two.ckpt")
    assert torch.get_num_threads() == 2, "the process keeps its setting"
    torch.set_num_threads(1)
    assert same(one.header.path, two.header.path)
    assert one.header.temperature == two.header.temperature


def test_two_processes_train_one_model(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    result = fit(data, quick.replace(devices=2, batch_size=2), tmp_path / "model.ckpt")
    assert len(result.history) == 2
    assert result.history[1]["training_loss"] < result.history[0]["training_loss"]
    assert load_model(result.header)(torch.from_numpy(data.patch(0)[0])[None]).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [("cosine", [1, 0.5, 0]), ("exponential", [1, 0.5, 0.25]), ("constant", [1, 1, 1])],
)
def test_learning_rates(data: TrainingSet, quick: FitParameters, schedule: str, steps: list[float]) -> None:
    chosen = quick.replace(schedule=schedule, gamma=0.5, accumulate_grad_batches=3, epochs=2, learning_rate=1)
    module = SegmentationModule(torch.nn.Conv2d(1, 1, 1), data, split(data.samples, chosen), chosen)
    module.trainer = Mock(current_epoch=0, global_rank=0)
    schedules = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(7):  # 32 patches in batches of 4, 3 batches a step: 3 steps an epoch
        rates.append(schedules.get_last_lr()[0])
        schedules.step()
    assert rates[::3] == pytest.approx(steps, abs=1e-9)


def test_gradients_are_added_up(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    chosen = quick.replace(epochs=1, calibrate=False, precision="bf16")
    one, two = (
        fit(data, chosen.replace(accumulate_grad_batches=count), tmp_path / f"{count}.ckpt").header.path
        for count in (1, 4)
    )
    assert not same(one, two)


def test_a_fit_killed_at_half_goes_on_and_ends_as_if_nothing_had_happened(
    data: TrainingSet, quick: FitParameters, tmp_path: Path
) -> None:
    chosen = quick.replace(epochs=3)
    out = tmp_path / "resumed" / "model.ckpt"
    whole = fit(data, chosen, tmp_path / "whole" / "model.ckpt")
    of_an_epoch = len(whole.parts.training) + len(whole.parts.validation)
    assert of_an_epoch == len(data) == 48
    state = StoreLocation(str(tmp_path / "state"))
    named = {
        "architecture": dict(chosen.architecture), "epochs": 3, "batch_size": chosen.batch_size,
        "learning_rate": chosen.learning_rate, "device": "cpu", "folds": chosen.folds,
    }  # fmt: skip
    arguments = [data.location.url, str(out), state.url, json.dumps(named), str(3 * of_an_epoch // 2)]
    with subprocess.Popen([sys.executable, "-c", FIT, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    resumed = fit(data, chosen, out, state)
    assert resumed.resumed == 1, "the second of three epochs was half done"
    np.testing.assert_equal(resumed.history, whole.history)  # NaN, which is undefined, is equal to NaN
    assert same(out, whole.header.path)
    assert resumed.header.sha256 == whole.header.sha256, "not a bit of the file is another"
    again = fit(data, chosen, tmp_path / "again.ckpt", state)
    assert again.resumed == 3, "what is finished is not trained further"
    assert same(again.header.path, out)
    assert fit(data, quick.replace(epochs=1), tmp_path / "new.ckpt", state).resumed == 0, "other parameters"


def test_it_learns_and_the_checkpoint_says_how(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    # Fold 0 validates the only scene with clouds, of which the others have none to learn from.
    result = fit(data, quick.replace(epochs=12, fold=1), tmp_path / "model.ckpt")
    best = result.history[result.best]
    assert best["validation_iou"] > 0.5
    assert best["validation_auroc"] > 0.95
    assert best["validation_loss"] == min(epoch["validation_loss"] for epoch in result.history)
    assert best["validation_loss"] < result.history[0]["validation_loss"] / 2
    assert (result.header.bands, result.header.terrain, result.header.normalization) == (data.bands, "darts-2025", "v1")
    training = torch.load(result.header.path, weights_only=True)["hyper_parameters"]["training"]
    assert training["data"] == data.digest
    assert training["parameters"]["seed"] == 0
    assert training["best"] == best
    logits = load_model(result.header)(torch.from_numpy(data.patch(0)[0])[None])
    assert logits.shape == (1, 1, data.patch_size, data.patch_size)


def test_it_stops_where_nothing_gets_better(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    chosen = quick.replace(epochs=6, patience=1, learning_rate=1e-12, weight_decay=0, monitor="f1", losses={"bce": 1})
    result = fit(data, chosen, tmp_path / "model.ckpt")
    assert len(result.history) == result.best + 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"losses": {"dise": 1}}, "unknown loss dise; expected bce, dice"),
        ({"augmentations": ("shear",)}, "unknown augmentation shear"),
        ({"split_by": "region", "folds": 4}, "4 folds by region need at least as many groups"),
        ({"split_by": "region", "test": ["Atlantis"], "folds": 2}, "no region Atlantis; it has region 0"),
        ({"precision": "fp16"}, "precision fp16 needs a GPU"),
        ({"devices": 17}, "fewer patches for training or validation than devices"),
        ({"continue_from_checkpoint": "a", "architecture": {}}, "are given together"),
        ({"architecture": {"arch": "unet", "encoder_depth": 5, "encoder_name": "nonsense"}}, "nonsense"),
    ],
)
def test_what_cannot_be_is_named(
    data: TrainingSet, quick: FitParameters, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        fit(data, quick.replace(**changes), tmp_path / "model.ckpt")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_records_parameters_as_before() -> None:
    assert json.dumps(trainer._plain(FitParameters()), sort_keys=True) == (
        '{"architecture": {"arch": "unet", "encoder_name": "resnet34", "encoder_weights": null}, "augmentations": '
        '["turn", "mirror", "brightness", "noise", "holes"], "batch_size": 8, "epochs": 100, "learning_rate": 0.001, '
        '"losses": {"bce": 1.0, "dice": 1.0}, "monitor": "loss", "patience": 10, "precision": "fp32", "seed": 0, '
        '"split": {"block_size": null, "by": "auto", "distance": null, "fold": 0, "folds": null, "seed": 0, '
        '"test": []}, "weight_decay": 0.001}'
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"architecture": {"in_channels": 3}},
        {"architecture": {"checkpoint_path": "a"}},
        {"encoder_name": "tu-hf-hub:a/b"},
        {"freeze_encoder": True},
        {"continue_from_checkpoint": "slumps", "arch": "unetplusplus"},
        {"loggers": ["mlflow"]},
    ],
)
def test_parameters_outside_their_range(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        FitParameters(**changes)  # type: ignore[arg-type]
