from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_assets.errors import CheckpointError
from darts_assets.model.networks import load_model
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.trainer import FitResult, fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.report import Predictor, Report, report
from darts_assets.training.report_pictures import (
    CELL,
    GAP,
    HEADING,
    SIZE,
    examples,
    loss_curves,
    metric_curves,
    reliability_diagram,
    threshold_curve,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted(data: TrainingSet, quick: FitParameters, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    chosen = quick.replace(epochs=4, learning_rate=6e-3)
    return fit(data, chosen, tmp_path_factory.mktemp("fitted") / "model.ckpt")


@pytest.fixture(scope="module")
def predictor(fitted: FitResult, data: TrainingSet) -> Predictor:
    return Predictor(fitted.header, data, "cpu")


@pytest.fixture(scope="module")
def reported(predictor: Predictor, data: TrainingSet) -> Report:
    return report(predictor, data, range(len(data)), batch_size=5)


@pytest.fixture(scope="module")
def pixels(fitted: FitResult, data: TrainingSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability, label and region of every pixel that counts, straight from the model."""
    model = load_model(fitted.header)

    def each() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for number, region in enumerate(data.samples["region"]):
            inputs, labels = data.patch(number)
            logits = model(torch.from_numpy(inputs)[None])[0, 0] / (fitted.header.temperature or 1)
            probabilities = logits.sigmoid().numpy()
            counted = labels < 2
            yield probabilities[counted], labels[counted], np.full(counted.sum(), region)

    probabilities, labels, regions = (np.concatenate(part) for part in zip(*each(), strict=True))
    return probabilities, labels == 1, regions


def iou(predicted: np.ndarray, true: np.ndarray) -> float:
    return float((predicted & true).sum() / (predicted | true).sum())


def test_figures_are_those_of_the_pixels(reported: Report, pixels: tuple[np.ndarray, ...]) -> None:
    probabilities, true, regions = pixels
    assert set(reported.regions) == set(regions)
    for name, figures in {"all": reported.figures, **reported.regions}.items():
        here = slice(None) if name == "all" else regions == name
        found = probabilities[here] > 0.5
        assert figures["iou"] == pytest.approx(iou(found, true[here]), abs=1e-6)
        assert figures["precision"] == pytest.approx(true[here][found].mean(), abs=1e-6)
        assert figures["recall"] == pytest.approx(found[true[here]].mean(), abs=1e-6)
        assert (figures["slump"], figures["background"]) == (true[here].sum(), (~true[here]).sum())
    assert reported.figures["patches"] == sum(figures["patches"] for figures in reported.regions.values()) == 48


def test_the_best_threshold_is_the_best(reported: Report, pixels: tuple[np.ndarray, ...]) -> None:
    probabilities, true, _ = pixels
    tried = {threshold: iou(probabilities >= threshold, true) for threshold in reported.thresholds[5::10]}
    for threshold, value in tried.items():
        assert reported.ious[round(threshold * 100)] == pytest.approx(value, abs=1e-4)
    assert reported.best_iou >= max(tried.values()) - 2e-3
    assert iou(probabilities >= reported.best_threshold, true) == pytest.approx(reported.best_iou, abs=2e-3)


def test_reliability_is_counted_by_bins(reported: Report, pixels: tuple[np.ndarray, ...]) -> None:
    probabilities, true, _ = pixels
    assert reported.reliability.pixels.sum() == len(probabilities)
    for number in range(10):
        inside = (probabilities >= number / 10) & (probabilities < (number + 1) / 10)
        assert reported.reliability.pixels[number] == pytest.approx(inside.sum(), abs=3)
        if inside.sum() > 100:
            assert reported.reliability.observed[number] == pytest.approx(true[inside].mean(), abs=0.02)
            assert reported.reliability.predicted[number] == pytest.approx(probabilities[inside].mean(), abs=0.02)
    assert 0 <= reported.reliability.error < 0.5


def test_pictures_are_small_and_show_something(
    reported: Report, fitted: FitResult, predictor: Predictor, data: TrainingSet
) -> None:
    drawn = [
        loss_curves(fitted.history, fitted.best),
        metric_curves(fitted.history, fitted.best),
        reliability_diagram(reported),
        threshold_curve(reported),
    ]
    for picture in drawn:
        assert picture.size == SIZE
        assert len(picture.getcolors(2**16) or []) > 10
    shown = np.asarray(examples(predictor, data, range(len(data))))
    assert shown.shape == (HEADING + 3 * CELL + 4 * GAP, 3 * CELL + 4 * GAP, 3)
    first = shown[HEADING + GAP :][:CELL]
    colours, labels, _ = (first[:, GAP + column * (CELL + GAP) :][:, :CELL] for column in range(3))
    assert labels.max() == 255, "the patch with most slump comes first"
    assert np.ptp(colours) > 100


def test_a_model_of_other_features_is_refused(fitted: FitResult, data: TrainingSet) -> None:
    with pytest.raises(CheckpointError, match="terrain darts-2025, the dataset has physical"):
        Predictor(fitted.header, replace(data, terrain="physical"), "cpu")
    with pytest.raises(CheckpointError, match=r"needs the band.* tc_wetness"):
        Predictor(fitted.header, replace(data, bands=data.bands[:-1]), "cpu")


def test_an_empty_selection_has_no_figures(predictor: Predictor, data: TrainingSet) -> None:
    nothing = report(predictor, data, [])
    assert nothing.figures == {"patches": 0, "slump": 0, "background": 0}
    assert np.isnan(nothing.reliability.error)
