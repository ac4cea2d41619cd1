"""Pictures of a fit and of a report: a few kilobytes each as lossless WebP, because the event log keeps them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL.Image import Image

from darts_assets.plots import new_figure, render
from darts_assets.training.fit.training_set import IGNORE, Labels, TrainingSet
from darts_assets.training.report import BINS, Predictor, Report

SIZE = (400, 300)
"""Width and height of drawings in pixels."""

CELL, GAP, HEADING = 128, 4, 16
"""Examples, in pixels: side of a panel, space around it, height of the headings."""

_SHOWN = ("nir", "red", "green")
_TEXT, _SMALL = 8, 7  # points


def loss_curves(history: Sequence[dict[str, float]], best: int) -> Image:
    """Loss of training and validation over epochs; a line at the best epoch."""
    return _curves(history, best, {"training_loss": "training loss", "validation_loss": "validation loss"})


def metric_curves(history: Sequence[dict[str, float]], best: int) -> Image:
    """IoU, F1, precision, recall and AUROC of the validation over epochs; a line at the best epoch."""
    labels = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC"}
    return _curves(history, best, {f"validation_{name}": label for name, label in labels.items()}, limits=(0, 1))


def reliability_diagram(report: Report) -> Image:
    """Observed share of slump over predicted probability; bars show the share of pixels in each bin."""
    figure, axes = _figure(f"calibration error {report.reliability.error:.3f}")
    counted = report.reliability.pixels
    axes.bar((np.arange(BINS) + 0.5) / BINS, counted / max(counted.sum(), 1), 1 / BINS, color="0.85", label="pixels")
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, label="perfect calibration")
    axes.plot(
        report.reliability.predicted,
        report.reliability.observed,
        marker="o",
        markersize=4,
        linewidth=1.2,
        label="model",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share of slump; bars: of pixels")
    return _with_legend(figure)


def threshold_curve(report: Report) -> Image:
    """IoU over the threshold; a line at the best."""
    best = f"best IoU {report.best_iou:.3f}, at a threshold of {report.best_threshold:.2f}"
    figure, axes = _figure("IoU is undefined: no slump pixels" if np.isnan(report.best_iou) else best)
    axes.plot(report.thresholds, report.ious, linewidth=1.2)
    axes.axvline(report.best_threshold, color="0.5", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold", ylabel="IoU")
    return render(figure)


def examples(predictor: Predictor, data: TrainingSet, numbers: Sequence[int], rows: int = 3) -> Image:
    """The patches with most slump among the first 200, one per row: false colours, labels, probabilities.

    Ignored pixels of the labels are grey.
    """
    areas = {int(number): _slump(data.patch(int(number))[1]) for number in numbers[:200]}
    shown = sorted(areas, key=lambda number: -areas[number])[:rows]
    width, height = 3 * CELL + 4 * GAP, HEADING + len(shown) * (CELL + GAP) + GAP
    figure = new_figure(width, height)
    titles = (", ".join(_colours(data)), "labels", "probability")
    for row, (number, (probabilities, labels)) in enumerate(zip(shown, predictor.predict(shown), strict=True)):
        truth = np.where(labels.numpy() == IGNORE, 0.5, labels.numpy())
        for column, panel in enumerate((_false_colours(data, number), truth, probabilities.numpy())):
            left, top = GAP + column * (CELL + GAP), HEADING + GAP + row * (CELL + GAP)
            axes = figure.add_axes((left / width, 1 - (top + CELL) / height, CELL / width, CELL / height))
            axes.set_axis_off()
            axes.imshow(panel, cmap="gray", vmin=0, vmax=1)
            if row == 0:
                axes.set_title(titles[column], fontsize=_TEXT, loc="left", pad=2)
    return render(figure)


def _slump(labels: Labels) -> float:
    """Area of slump in pixels; shares of experts are summed."""
    return float(labels[labels != IGNORE].sum())


def _colours(data: TrainingSet) -> tuple[str, ...]:
    """Near infrared, red and green if the set has them, else its first bands."""
    return _SHOWN if set(_SHOWN) <= set(data.bands) else tuple((*data.bands, data.bands[0], data.bands[0])[:3])


def _false_colours(data: TrainingSet, number: int) -> npt.NDArray[np.float32]:
    """Three bands, each stretched from its 2nd to its 98th percentile; (rows, columns, 3)."""
    inputs, _ = data.patch(number)
    return np.stack([_stretched(inputs[data.bands.index(name)]) for name in _colours(data)], axis=-1)


def _stretched(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    valid = values[values != 0]
    if not valid.size:
        return np.zeros_like(values)
    low, high = np.percentile(valid, (2, 98))
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _curves(
    history: Sequence[dict[str, float]],
    best: int,
    names: dict[str, str],
    limits: tuple[float, float] | None = None,
) -> Image:
    epochs = [metrics["epoch"] + 1 for metrics in history]
    figure, axes = _figure(f"best epoch: {best + 1} of {len(history)}")
    for name, label in names.items():
        axes.plot(epochs, [metrics[name] for metrics in history], label=label, marker=".", markersize=3, linewidth=1.2)
    axes.axvline(epochs[best], color="0.5", linewidth=0.8)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if limits:
        axes.set_ylim(*limits)
    return _with_legend(figure)


def _figure(title: str) -> tuple[Figure, Any]:
    figure = new_figure(*SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=_TEXT)
    axes.tick_params(labelsize=_SMALL, length=2)
    axes.xaxis.label.set_fontsize(_TEXT)
    axes.yaxis.label.set_fontsize(_TEXT)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _with_legend(figure: Figure) -> Image:
    """The figure with a legend below the axes."""
    figure.legend(fontsize=_SMALL, loc="outside lower center", ncols=5, frameon=False, columnspacing=1)
    return render(figure)
