"""Baselines of a model: thresholds of NDVI and near infrared, fitted to the training part of a set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from darts_assets.bands import band
from darts_assets.training.fit.batches import Batches
from darts_assets.training.fit.training_set import TrainingSet, majority

_NDVI = np.linspace(-1, 1, 201)
"""Limits of NDVI that are tried."""

_NIR = np.linspace(0, 1, 201)
"""Limits of the reflectance in the near infrared that are tried."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Baseline:
    """A rule that calls a pixel slump: NDVI within limits, and near infrared above a limit.

    Attributes:
        kind: kind of the rule.
        ndvi_low: lower limit of NDVI, inclusive.
        ndvi_high: upper limit of NDVI, exclusive.
        nir_low: lower limit of the reflectance, inclusive.
        training_iou: IoU on the pixels that it was fitted to.
    """

    kind: str
    ndvi_low: float
    ndvi_high: float
    nir_low: float
    training_iou: float

    def __str__(self) -> str:
        low = f"{self.ndvi_low:.2f} <= " if self.ndvi_low > _NDVI[0] else ""
        nir = f" and NIR >= {self.nir_low:.3f}" if self.nir_low > _NIR[0] else ""
        return f"{low}NDVI < {self.ndvi_high:.2f}{nir}"

    def __call__(self, ndvi: npt.NDArray[np.float32], nir: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Whether pixels of NDVI and reflectance are slump; missing values are NaN, and not slump."""
        inside = (ndvi >= self.ndvi_low) & (ndvi < self.ndvi_high)
        return inside & (nir >= self.nir_low) if self.nir_low > _NIR[0] else inside


class BaselinePredictor:
    """Predicts patches of a set by a baseline; see `report.Predictor`."""

    def __init__(self, baseline: Baseline, data: TrainingSet) -> None:
        self._baseline, self._data = baseline, data

    def predict(
        self, numbers: Sequence[int], batch_size: int = 1, once: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield predictions (0 or 1, float32) and labels of each patch."""
        for inputs, labels in Batches(self._data, numbers, batch_size, once=once):
            for patch, truth in zip(inputs.numpy(), labels, strict=True):
                slump = self._baseline(*_indices(patch, self._data.bands))
                yield torch.from_numpy(slump.astype(np.float32)), truth


def fit_baselines(data: TrainingSet, numbers: Sequence[int]) -> list[Baseline]:
    """The best rule of each kind: NDVI below a limit, NDVI between limits, NDVI below and near infrared above a limit.

    A rule is best if its IoU over all pixels is; limits are tried in steps of 0.01 (NDVI) and 0.005 (near infrared).

    Args:
        data: the set.
        numbers: row numbers of the patches of the training part.

    Returns:
        No rules if the set lacks NDVI (or the bands for it) or slump pixels; without near infrared, two.
    """
    if not ({"ndvi"} <= set(data.bands) or {"red", "nir"} <= set(data.bands)):
        return []
    shape = (2, len(_NDVI) - 1, len(_NIR) - 1)
    counts = np.zeros(shape, np.int64)
    missing = np.zeros(2, np.int64)
    for inputs, labels in Batches(data, numbers, 1, once=True):
        ndvi, nir = _indices(inputs[0].numpy(), data.bands)
        truth = majority(labels[0]).numpy()
        valid = np.isfinite(ndvi) & np.isfinite(nir) & (truth < 2)
        missing += np.bincount(truth[~valid & (truth < 2)], minlength=2)
        cells = (
            truth[valid],
            *(
                np.clip(np.searchsorted(edges, values[valid], "right") - 1, 0, len(edges) - 2)
                for edges, values in ((_NDVI, ndvi), (_NIR, nir))
            ),
        )
        counts += np.bincount(np.ravel_multi_index(cells, shape), minlength=counts.size).reshape(shape)
    slump = int(counts[1].sum() + missing[1])
    if not slump:
        return []
    below = counts.sum(axis=2).cumsum(axis=1)
    baselines = [_best("best one-sided NDVI", _iou(below, slump)[None, :, None])]
    zero = np.concatenate([np.zeros((2, 1), np.int64), below], axis=1)
    between = np.maximum(zero[:, None, 1:] - zero[:, :-1, None], 0)  # (2, low, high)
    baselines.append(_best("best NDVI interval", _iou(between, slump)[:, :, None]))
    if "nir" in data.bands:
        corner = counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1].cumsum(axis=1)  # (2, high, nir)
        baselines.append(_best("NDVI below, NIR above", _iou(corner, slump)[None]))
    return baselines


def as_records(baselines: Sequence[Baseline]) -> list[dict[str, Any]]:
    """Plain data for the checkpoint."""
    return [asdict(baseline) for baseline in baselines]


def from_records(records: Sequence[Mapping[str, Any]]) -> list[Baseline]:
    """The baselines of a checkpoint."""
    return [Baseline(**record) for record in records]


def _best(kind: str, ious: npt.NDArray[np.float64]) -> Baseline:
    """The rule with the highest IoU of (lower limits of NDVI, upper limits, limits of near infrared)."""
    low, high, nir = np.unravel_index(int(np.nanargmax(ious)), ious.shape)
    limits = {"ndvi_low": _NDVI[low], "ndvi_high": _NDVI[high + 1], "nir_low": _NIR[nir]}
    rounded = {name: round(float(limit), 3) for name, limit in limits.items()}
    return Baseline(kind, **rounded, training_iou=round(float(ious[low, high, nir]), 4))


def _iou(counts: Counts, slump: int) -> npt.NDArray[np.float64]:
    """IoU from numbers of background and slump pixels that a rule takes: (2, ...)."""
    return counts[1] / (counts[0] + slump)


def _indices(inputs: npt.NDArray[np.float32], bands: Sequence[str]) -> tuple[npt.NDArray[np.float32], ...]:
    """NDVI and reflectance in the near infrared of a patch in model representation; NaN where missing.

    Without near infrared in the set, the second one is 0.
    """
    physical = {}
    for name in ("red", "nir", "ndvi"):
        if name in bands:
            values = inputs[list(bands).index(name)]
            low, high = band(name).valid
            physical[name] = np.where(values == 0, np.nan, values * (high - low) + low)
    if "ndvi" not in physical:
        red, nir = (np.clip(physical[name], 0, 1) for name in ("red", "nir"))
        with np.errstate(invalid="ignore", divide="ignore"):
            physical["ndvi"] = (nir - red) / (nir + red)
    return physical["ndvi"], physical.get("nir", np.zeros_like(physical["ndvi"]))
