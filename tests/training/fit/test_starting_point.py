"""Training starts from a checkpoint, also for other bands."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.model.networks import load_model
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.starting_point import architecture_of, network_of
from darts_assets.training.fit.trainer import FitResult, fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.report import Predictor

pytestmark = pytest.mark.slow

CONTINUED = {"continue_from_checkpoint": "first", "arch": "unet", "architecture": {}}


@pytest.fixture(scope="module")
def first(data: TrainingSet, quick: FitParameters, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(data, quick.replace(epochs=6, learning_rate=6e-3), tmp_path_factory.mktemp("first") / "first.ckpt")


def test_a_frozen_encoder_keeps_its_weights_and_the_decoder_learns(
    data: TrainingSet, quick: FitParameters, first: FitResult, tmp_path: Path
) -> None:
    chosen = quick.replace(**CONTINUED, freeze_encoder=True, epochs=1, learning_rate=1e-4)
    result = fit(data, chosen, tmp_path / "second.ckpt", start=first.header)
    before, after = (load_model(header).state_dict() for header in (first.header, result.header))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "segmentation_head"}
    assert result.header.architecture["decoder_channels"] == first.header.architecture["decoder_channels"]
    fresh = fit(data, quick.replace(epochs=1, learning_rate=1e-4), tmp_path / "fresh.ckpt")
    assert result.history[0]["validation_loss"] < fresh.history[0]["validation_loss"]
    record = torch.load(result.header.path, weights_only=True)["hyper_parameters"]["training"]
    assert record["started_from"] == first.header.sha256
    assert result.fingerprint != fresh.fingerprint


def test_bands_are_assigned_by_name(data: TrainingSet, first: FitResult) -> None:
    bands = tuple(reversed(data.bands))
    other = replace(data, bands=bands)
    parameters = FitParameters(continue_from_checkpoint="first")
    network = network_of(first.header, architecture_of(parameters, other, first.header), other).eval()
    (expected, _), *_ = Predictor(first.header, data, "cpu").predict([0])
    inputs = torch.from_numpy(data.patch(0)[0])[None].flip(1)
    logits = network(inputs)[0, 0] / (first.header.temperature or 1)
    torch.testing.assert_close(logits.sigmoid(), expected, atol=1e-5, rtol=1e-4)


def test_bands_may_be_missing_or_new_and_other_terrain_is_refused(data: TrainingSet, first: FitResult) -> None:
    parameters = FitParameters(continue_from_checkpoint="first")

    def network(bands: tuple[str, ...], terrain: str) -> torch.nn.Module:
        other = replace(data, bands=bands, terrain=terrain)  # type: ignore[arg-type]
        return network_of(first.header, architecture_of(parameters, other, first.header), other).eval()

    optical = network(("red", "swir16"), "physical")
    still, moved = torch.rand((1, 2, 64, 64)), torch.rand((1, 2, 64, 64))
    moved[:, 0] = still[:, 0]
    assert torch.equal(optical(still), optical(moved)), "a new band has no effect before training"
    with pytest.raises(SettingsError, match="has terrain darts-2025, the training set has physical"):
        network(("red", "slope"), "physical")
    with pytest.raises(SettingsError, match=r"\(swir16\) have none in common"):
        network(("swir16",), "darts-2025")
