"""Pictures of a fit and of a report, small since the event log keeps them: some kilobytes as lossless WebP."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from darts_assets.training.fit.training_set import IGNORE, TrainingSet
from darts_assets.training.report import BINS, Predictor, Report

SIZE = (400, 300)
"""Of drawings: width and height in pixels."""

CELL, GAP, HEADING = 128, 4, 16
"""Of examples: side of a panel, the space around it, the height of the headings."""

_DPI = 100
_SHOWN = ("nir", "red", "green")
_TEXT, _SMALL = 8, 7  # points


def loss_curves(history: Sequence[dict[str, float]], best: int) -> Image.Image:
    """Loss of training and validation over epochs; a line at the best epoch."""
    return _curves(history, best, {"training_loss": "training loss", "validation_loss": "validation loss"})


def metric_curves(history: Sequence[dict[str, float]], best: int) -> Image.Image:
    """IoU, F1, precision, recall and AUROC of the validation over epochs; a line at the best epoch."""
    labels = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC"}
    return _curves(history, best, {f"validation_{name}": label for name, label in labels.items()}, limits=(0, 1))


def reliability_diagram(report: Report) -> Image.Image:
    """Share of slump over predicted probability, with the share of pixels in each bin as bars."""
    figure, axes = _figure(f"calibration error {report.reliability.error:.3f}")
    counted = report.reliability.pixels
    axes.bar((np.arange(BINS) + 0.5) / BINS, counted / max(counted.sum(), 1), 1 / BINS, color="0.85", label="pixels")
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, label="as it should be")
    axes.plot(
        report.reliability.predicted,
        report.reliability.observed,
        marker="o",
        markersize=4,
        linewidth=1.2,
        label="model",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share of slump; bars: of pixels")
    return _drawn(figure, legend=True)


def threshold_curve(report: Report) -> Image.Image:
    """IoU over the threshold; a line at the best."""
    figure, axes = _figure(f"best IoU {report.best_iou:.3f}, at a threshold of {report.best_threshold:.2f}")
    axes.plot(report.thresholds, report.ious, linewidth=1.2)
    axes.axvline(report.best_threshold, color="0.5", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold", ylabel="IoU")
    return _drawn(figure)


def examples(predictor: Predictor, data: TrainingSet, numbers: Sequence[int], rows: int = 3) -> Image.Image:
    """Patches with most slump among the first 200: false colours, labels (grey where ignored), probabilities.

    Below headings, a row of panels for each patch.
    """
    areas = {int(number): int((data.patch(int(number))[1] == 1).sum()) for number in numbers[:200]}
    shown = sorted(areas, key=lambda number: -areas[number])[:rows]
    size = (3 * CELL + 4 * GAP, HEADING + len(shown) * (CELL + GAP) + GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate((", ".join(_colours(data)), "labels", "probability")):
        draw.text((GAP + column * (CELL + GAP), GAP), text, fill="black")
    for row, (number, (probabilities, labels)) in enumerate(zip(shown, predictor.predict(shown), strict=True)):
        truth = np.where(labels.numpy() == IGNORE, 128, labels.numpy() * 255).astype(np.uint8)
        probable = (probabilities.numpy() * 255).round().astype(np.uint8)
        panels = (_false_colours(data, number), Image.fromarray(truth), Image.fromarray(probable))
        for column, panel in enumerate(panels):
            place = (GAP + column * (CELL + GAP), HEADING + GAP + row * (CELL + GAP))
            canvas.paste(panel.convert("RGB").resize((CELL, CELL), Image.Resampling.BOX), place)
    return canvas


def _colours(data: TrainingSet) -> tuple[str, ...]:
    """Near infrared, red and green where the set has them, else its first bands."""
    return _SHOWN if set(_SHOWN) <= set(data.bands) else tuple((*data.bands, data.bands[0], data.bands[0])[:3])


def _false_colours(data: TrainingSet, number: int) -> Image.Image:
    """Three bands, each stretched to 2 .. 98 %."""
    inputs, _ = data.patch(number)
    return Image.fromarray(np.stack([_stretched(inputs[data.bands.index(name)]) for name in _colours(data)], axis=-1))


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
    epochs = [figures["epoch"] + 1 for figures in history]
    figure, axes = _figure(f"best epoch: {best + 1} of {len(history)}")
    for name, label in names.items():
        axes.plot(epochs, [figures[name] for figures in history], label=label, marker=".", markersize=3, linewidth=1.2)
    axes.axvline(epochs[best], color="0.5", linewidth=0.8)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if limits:
        axes.set_ylim(*limits)
    return _drawn(figure, legend=True)


def _figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=_TEXT)
    axes.tick_params(labelsize=_SMALL, length=2)
    axes.xaxis.label.set_fontsize(_TEXT)
    axes.yaxis.label.set_fontsize(_TEXT)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _drawn(figure: Figure, legend: bool = False) -> Image.Image:
    if legend:  # below the axes, where it hides nothing
        figure.legend(fontsize=_SMALL, loc="outside lower center", ncols=5, frameon=False, columnspacing=1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
