"""Plausibility of a scene's probabilities."""

import numpy as np
import numpy.typing as npt

from darts_assets.bands import PERCENT
from darts_assets.stores.statistics import BandStatistics

_CERTAIN = 99  # percent
_ROUNDING = 1e-3  # of weighted means of patches in half precision


def percent_counts(probabilities: BandStatistics) -> npt.NDArray[np.int64]:
    """Number of pixels at 0, 1, ... 100 percent, rounded up (to nearest in tiles of version 0.1.0), int64 (101,)."""
    counts = np.zeros(101, dtype=np.int64)
    for stored, pixels in probabilities.counts.items():
        if stored != PERCENT.fill:
            counts[stored] += pixels
    return counts


def probability_errors(name: str, probabilities: BandStatistics, with_data: int) -> list[str]:
    """List the properties that make probabilities unusable, one sentence each.

    Args:
        name: band name.
        probabilities: statistics of the band.
        with_data: number of valid pixels of the scene.
    """
    if not probabilities.pixels:
        return [f"band {name} has no values, but the scene has {with_data} valid pixels"] if with_data else []
    if probabilities.low < -_ROUNDING or probabilities.high > 1 + _ROUNDING:
        return [f"band {name} ranges from {probabilities.low:.4g} to {probabilities.high:.4g}, expected 0 to 1"]
    return []


def probability_warnings(
    name: str, probabilities: BandStatistics, with_data: int, certain: float, slumps: float
) -> list[str]:
    """List suspicious properties of probabilities, one sentence each.

    Args:
        name: band name.
        probabilities: statistics of the band.
        with_data: number of valid pixels of the scene.
        certain: largest plausible fraction of valid pixels at 99 % or more; above it, the model is saturated.
        slumps: largest plausible fraction of valid pixels above 50 %; thaw slumps are rare.
    """
    if not with_data or not probabilities.pixels:
        return []
    warnings = []
    lacking = with_data - probabilities.pixels
    if lacking > 0:
        warnings.append(f"band {name} has no value in {lacking} of {with_data} valid pixels")
    if probabilities.is_constant:
        return [*warnings, f"band {name} is {probabilities.low:g} everywhere"]
    counts = percent_counts(probabilities)
    share_certain, share_slumps = (float(counts[over:].sum()) / with_data for over in (_CERTAIN, 51))
    if share_certain > certain:
        warnings.append(f"band {name} is {_CERTAIN} % or more in {100 * share_certain:.1f} % of the scene (saturated?)")
    elif share_slumps > slumps:
        warnings.append(f"band {name} exceeds 50 % in {100 * share_slumps:.1f} % of the scene; slumps are rare")
    return warnings
