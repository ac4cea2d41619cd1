"""Temperature scaling: one number that divides the logits of a model, such that its probabilities are calibrated.

Guo et al. 2017, "On calibration of modern neural networks", section 4.2. The temperature does not change which pixels
exceed a probability of 0.5.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from darts_assets.training.fit.training_set import IGNORE

_LARGEST, _BINS = 20.0, 4000
_LIMITS = (0.05, 20.0)


def fitted_temperature(patches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """The temperature with the least cross entropy.

    Logits are counted in bins of 0.01; those beyond +-20 count as 20.

    Args:
        patches: logits (float32) and labels of the same shape, see `TrainingSet.patch`. Shares of experts count as
            the probability of slump.

    Returns:
        A number between 0.05 and 20; None if there are no pixels of slump, or none of background.
    """
    counts = np.zeros((2, _BINS))
    for logits, labels in patches:
        counted = labels != IGNORE
        share = labels[counted].double().numpy()
        scaled = (logits[counted].double().numpy() / _LARGEST + 1) / 2 * _BINS
        bins = np.clip(scaled.astype(np.int64), 0, _BINS - 1)
        for row, weights in enumerate((1 - share, share)):
            counts[row] += np.bincount(bins, weights=weights, minlength=_BINS)
    if not counts.sum(axis=1).all():
        return None
    centres = ((np.arange(_BINS) + 0.5) / _BINS * 2 - 1) * _LARGEST
    result = minimize_scalar(_cross_entropy, bounds=np.log(_LIMITS), args=(counts, centres), method="bounded")
    return round(float(np.exp(result.x)), 4)


def _cross_entropy(log_temperature: float, counts: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> float:
    logits = centres / np.exp(log_temperature)
    per_class = np.logaddexp(0, logits), np.logaddexp(0, -logits)
    return float((counts[0] * per_class[0] + counts[1] * per_class[1]).sum() / counts.sum())
