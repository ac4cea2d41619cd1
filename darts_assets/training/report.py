"""Evaluate a model on a dataset: metrics per region, calibration, best threshold.

Pixels are counted by probability, patch by patch, so memory does not grow with the dataset. Choose the threshold on the
validation part; on the test part it would be biased.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from darts_assets.errors import CheckpointError
from darts_assets.model import CheckpointHeader
from darts_assets.model.device import pick_device
from darts_assets.model.header import terrain_convention
from darts_assets.model.networks import load_model
from darts_assets.training.evaluation import Evaluation, difference, evaluate
from darts_assets.training.fit import metrics
from darts_assets.training.fit.baselines import Baseline, BaselinePredictor
from darts_assets.training.fit.batches import Batches
from darts_assets.training.fit.training_set import TrainingSet, check_patch_size, majority, model_stride
from darts_assets.training.stitching import Stitched, stitched

BINS = 10
"""Bins of the reliability diagram."""

THRESHOLDS = 101
"""Number of thresholds from 0 to 1; those below 1 are bin edges of `metrics.BINS`."""


@dataclass(frozen=True)
class Reliability:
    """Calibration of probabilities in bins of equal width.

    Attributes:
        predicted: mean probability per bin, NaN in empty bins; float64 (BINS).
        observed: fraction of slump pixels per bin, NaN in empty bins; float64 (BINS).
        pixels: number of pixels per bin; int64 (BINS).
    """

    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |predicted - observed| over pixels; NaN without pixels."""
        if not self.pixels.sum():
            return float("nan")
        return float(np.nansum(np.abs(self.predicted - self.observed) * self.pixels) / self.pixels.sum())


@dataclass(frozen=True)
class Report:
    """Evaluation of a model on patches.

    Attributes:
        figures: IoU, F1, precision, recall (at a probability of 0.5) and AUROC over all pixels, NaN where undefined;
            number of `patches`; number of `slump` and `background` pixels. A pixel in several patches of an image
            counts once.
        regions: the same figures per region.
        reliability: calibration.
        thresholds: float64 (THRESHOLDS).
        ious: IoU at each threshold; NaN without slump pixels.
        best_threshold: threshold with the highest IoU; the middle one of several; NaN without slump pixels.
        best_iou: IoU at the best threshold; NaN without slump pixels.
        evaluation: counts of pixels, boundaries and objects.
        baselines: evaluation of each baseline on the same pixels.
    """

    figures: dict[str, float]
    regions: dict[str, dict[str, float]]
    reliability: Reliability
    thresholds: npt.NDArray[np.float64]
    ious: npt.NDArray[np.float64]
    best_threshold: float
    best_iou: float
    evaluation: Evaluation
    baselines: list[tuple[Baseline, Evaluation]]

    @property
    def verdict(self) -> str:
        """Sentence that compares the IoU with that of the best baseline on these pixels; "" without baselines."""
        ious = [(evaluation.figures()["iou"], baseline, evaluation) for baseline, evaluation in self.baselines]
        ious = [each for each in ious if np.isfinite(each[0])]
        if not ious:
            return ""
        iou, baseline, evaluation = max(ious, key=lambda each: each[0])
        change, (low, high) = difference(self.evaluation, evaluation)
        # A model that predicts nothing where there is no slump has no IoU.
        better = change > 0 if np.isnan(low) else low > 0
        interval = "" if np.isnan(low) else f", 95 % interval {low:+.3f} to {high:+.3f}"
        return (
            f"{'Better' if better else 'No better'} than the {baseline.kind} ({baseline}; IoU {iou:.3f}): "
            f"difference {change:+.3f}{interval}"
        )


class Predictor:
    """Predicts the patches of a dataset with a model.

    Raises:
        CheckpointError: if the dataset lacks bands of the model, or has another terrain convention.
        SettingsError: if the device is not available, or the patch size does not suit the model.
    """

    def __init__(self, header: CheckpointHeader, data: TrainingSet, device: str = "auto") -> None:
        missing = [name for name in header.bands if name not in data.bands]
        if missing:
            raise CheckpointError(
                f"model {header.name} needs the band(s) {', '.join(missing)}, which the dataset lacks"
            )
        if terrain_convention([header]) != data.terrain:
            raise CheckpointError(
                f"model {header.name} needs terrain {terrain_convention([header])}, the dataset has {data.terrain}"
            )
        check_patch_size(data, model_stride(dict(header.architecture)))
        self._channels = [data.bands.index(name) for name in header.bands]
        self._data, self._device = data, pick_device(device)
        self._model = load_model(header).to(self._device)
        self._temperature = header.temperature or 1.0

    @torch.inference_mode()
    def predict(
        self, numbers: Sequence[int], batch_size: int = 1, once: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield calibrated probabilities (float32) and labels of each patch: (rows, columns), on the CPU.

        Labels: see `TrainingSet.patch`; `once`: see `Batches`.
        """
        for inputs, labels in Batches(self._data, numbers, batch_size, once=once):
            logits = self._model(inputs[:, self._channels].to(self._device))
            probabilities = (logits[:, 0].float() / self._temperature).sigmoid()
            yield from zip(probabilities.cpu(), labels, strict=True)


def report(
    predictor: Predictor,
    data: TrainingSet,
    numbers: Sequence[int],
    batch_size: int = 1,
    baselines: Sequence[Baseline] = (),
) -> Report:
    """Evaluate a model on patches of a dataset; where patches of an image overlap, their mean probability counts.

    Args:
        predictor: the model.
        data: the dataset.
        numbers: row numbers of the patches.
        batch_size: patches per batch.
        baselines: rules that were fitted to the training part.
    """
    regions = {name: _Tally() for name in sorted(set(data.columns(numbers, "region")))}
    everything = _Tally()

    def counted() -> Iterator[Stitched]:
        for image in stitched(predictor, data, numbers, batch_size):
            for tally in (everything, regions[image.region]):
                tally.add(image)
            yield image

    side = data.patch_size
    evaluation = evaluate(counted(), side)
    compared = [(each, evaluate(stitched(BaselinePredictor(each, data), data, numbers), side)) for each in baselines]
    thresholds = np.linspace(0, 1, THRESHOLDS)
    ious = _ious(everything.counts)
    best = np.flatnonzero(ious == ious.max())
    best_threshold, best_iou = (each[best[len(best) // 2]] if len(best) else np.nan for each in (thresholds, ious))
    return Report(
        everything.figures(), {name: tally.figures() for name, tally in regions.items()},
        _reliability(everything.counts), thresholds, ious, float(best_threshold), float(best_iou), evaluation, compared,
    )  # fmt: skip


class _Tally:
    """Accumulated metrics."""

    def __init__(self) -> None:
        self._metrics = metrics.metrics()
        self._patches = 0

    def add(self, image: Stitched) -> None:
        self._metrics.update(torch.from_numpy(image.probabilities), majority(torch.from_numpy(image.labels)))
        self._patches += image.patches

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of background and slump pixels by probability: int64 (2, metrics.BINS)."""
        auroc = cast(metrics.BinnedAUROC, self._metrics["auroc"])
        return np.asarray(auroc.counts)

    def figures(self) -> dict[str, float]:
        values = {name: float(value) for name, value in self._metrics.compute().items()} if self._patches else {}
        background, slump = (int(count) for count in self.counts.sum(axis=1))
        return {**values, "patches": self._patches, "slump": slump, "background": background}


def _ious(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """IoU of `probability >= threshold` for each threshold; NaN without slump pixels."""
    steps = metrics.BINS // (THRESHOLDS - 1)
    above = np.zeros((2, THRESHOLDS))
    above[:, :-1] = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, ::steps]
    false, hits = above
    slump = counts[1].sum()
    return np.divide(hits, false + slump, out=np.full(THRESHOLDS, np.nan), where=slump > 0)


def _reliability(counts: npt.NDArray[np.int64]) -> Reliability:
    centres = (np.arange(metrics.BINS) + 0.5) / metrics.BINS
    both = counts.sum(axis=0)
    pixels, slump, probability = (each.reshape(BINS, -1).sum(axis=1) for each in (both, counts[1], both * centres))
    with np.errstate(invalid="ignore"):
        return Reliability(probability / pixels, slump / pixels, pixels)
