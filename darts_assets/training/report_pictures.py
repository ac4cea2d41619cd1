"""Pictures of a fit and of a report, 256 pixels wide: they are kept in Dagster's event log."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from darts_assets.training.fit_set import IGNORE, TrainingSet
from darts_assets.training.report import BINS, Predictor, Report

SIDE = 256
_DPI = 100
_CELL = 80
_GAP = 4
_SHOWN = ("nir", "red", "green")


def loss_curves(history: Sequence[dict[str, float]], best: int) -> Image.Image:
    """Loss of training and validation over epochs; a line at the best epoch."""
    return _curves(history, best, {"training_loss": "training loss", "validation_loss": "validation loss"})


def metric_curves(history: Sequence[dict[str, float]], best: int) -> Image.Image:
    """IoU, F1, precision, recall and AUROC of the validation over epochs; a line at the best epoch."""
    names = {name: label for label in ("iou", "f1", "precision", "recall", "auroc") for name in [f"validation_{label}"]}
    return _curves(history, best, names, limits=(0, 1))


def reliability_diagram(report: Report) -> Image.Image:
    """Share of slump over predicted probability, with the share of pixels in each bin as bars."""
    figure, axes = _figure()
    counted = report.reliability.pixels
    axes.bar((np.arange(BINS) + 0.5) / BINS, counted / max(counted.sum(), 1), 1 / BINS, color="0.85")
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
    axes.plot(report.reliability.predicted, report.reliability.observed, marker="o", markersize=3, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("predicted probability", fontsize=6)
    axes.set_ylabel("share of slump; bars: of pixels", fontsize=6)
    return _drawn(figure)


def threshold_curve(report: Report) -> Image.Image:
    """IoU over the threshold; a line at the best."""
    figure, axes = _figure()
    axes.plot(report.thresholds, report.ious, linewidth=1)
    axes.axvline(report.best_threshold, color="0.5", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("threshold", fontsize=6)
    axes.set_ylabel("IoU", fontsize=6)
    return _drawn(figure)


def examples(predictor: Predictor, data: TrainingSet, numbers: Sequence[int], rows: int = 3) -> Image.Image:
    """Patches with most slump among the first 200: false colours, labels (grey where ignored), probabilities."""
    areas = {int(number): int((data.patch(int(number))[1] == 1).sum()) for number in numbers[:200]}
    shown = sorted(areas, key=lambda number: -areas[number])[:rows]
    size = (3 * _CELL + 4 * _GAP, len(shown) * (_CELL + _GAP) + _GAP)
    canvas = Image.new("RGB", size, "white")
    for row, (number, (probabilities, labels)) in enumerate(zip(shown, predictor.predict(shown), strict=True)):
        truth = np.where(labels.numpy() == IGNORE, 128, labels.numpy() * 255).astype(np.uint8)
        probable = (probabilities.numpy() * 255).round().astype(np.uint8)
        panels = (_false_colours(data, number), Image.fromarray(truth), Image.fromarray(probable))
        for column, panel in enumerate(panels):
            place = (_GAP + column * (_CELL + _GAP), _GAP + row * (_CELL + _GAP))
            canvas.paste(panel.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BOX), place)
    return canvas


def _false_colours(data: TrainingSet, number: int) -> Image.Image:
    """Near infrared, red and green where the set has them, else its first bands; each stretched to 2 .. 98 %."""
    names = _SHOWN if set(_SHOWN) <= set(data.bands) else tuple((*data.bands, data.bands[0], data.bands[0])[:3])
    inputs, _ = data.patch(number)
    return Image.fromarray(np.stack([_stretched(inputs[data.bands.index(name)]) for name in names], axis=-1))


def _stretched(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    present = values[values != 0]
    if not present.size:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = np.percentile(present, (2, 98))
    return (np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def _curves(
    history: Sequence[dict[str, float]],
    best: int,
    names: dict[str, str],
    limits: tuple[float, float] | None = None,
) -> Image.Image:
    figure, axes = _figure()
    epochs = [figures["epoch"] + 1 for figures in history]
    for name, label in names.items():
        axes.plot(epochs, [figures[name] for figures in history], label=label, marker=".", markersize=2, linewidth=1)
    axes.axvline(epochs[best], color="0.5", linewidth=0.8)
    axes.set_xlabel("epoch", fontsize=6)
    if limits:
        axes.set_ylim(*limits)
    axes.legend(fontsize=5)
    return _drawn(figure)


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(SIDE / _DPI, SIDE / _DPI), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=5, length=2)
    return figure, axes


def _drawn(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
