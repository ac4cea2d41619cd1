"""Whether the probabilities of a scene can be true."""

import numpy as np
import numpy.typing as npt

from darts_assets.bands import band
from darts_assets.stores.statistics import BandStatistics

_CERTAIN = 99  # percent
_ROUNDING = 1e-3  # weighted means of patches, in half precision even


def percent_counts(probabilities: BandStatistics) -> npt.NDArray[np.int64]:
    """Pixels at 0, 1, ... 100 percent, int64 (101,)."""
    fill = band("probabilities").fill
    counts = np.zeros(101, dtype=np.int64)
    for stored, pixels in probabilities.counts.items():
        if stored != fill:
            counts[stored] += pixels
    return counts


def probability_errors(name: str, probabilities: BandStatistics, with_data: int) -> list[str]:
    """What makes probabilities unusable, in sentences.

    Args:
        name: of the band.
        probabilities: its statistics.
        with_data: pixels of the scene that hold data.
    """
    if not probabilities.pixels:
        return [f"{name} has no value at all, though {with_data} pixels hold data"] if with_data else []
    if probabilities.low < -_ROUNDING or probabilities.high > 1 + _ROUNDING:
        return [f"{name} runs from {probabilities.low:.4g} to {probabilities.high:.4g}, which are no probabilities"]
    return []


def probability_warnings(
    name: str, probabilities: BandStatistics, with_data: int, certain: float, slumps: float
) -> list[str]:
    """What is suspicious about probabilities, in sentences.

    Args:
        name: of the band.
        probabilities: its statistics.
        with_data: pixels of the scene that hold data.
        certain: fraction of those pixels above which as many at 99 % or more are suspicious: the model is saturated.
        slumps: fraction of those pixels above which as many over 50 % are suspicious: thaw slumps are rare.
    """
    if not with_data or not probabilities.pixels:
        return []
    said = []
    lacking = with_data - probabilities.pixels
    if lacking > 0:
        said.append(f"{name} has no value in {lacking} of the {with_data} pixels that hold data")
    if probabilities.is_constant:
        return [*said, f"{name} is {probabilities.low:g} everywhere"]
    counts = percent_counts(probabilities)
    share_certain, share_slumps = (float(counts[over:].sum()) / with_data for over in (_CERTAIN, 51))
    if share_certain > certain:
        said.append(f"{name} is {_CERTAIN} % or more in {100 * share_certain:.1f} % of the scene: a saturated model")
    elif share_slumps > slumps:
        said.append(f"{name} is over 50 % in {100 * share_slumps:.1f} % of the scene, which thaw slumps never are")
    return said
