"""Whether features can be true: what each may be, and what is suspicious."""

from collections.abc import Mapping
from types import MappingProxyType

from darts_assets.bands import FEATURES, TERRAIN, VISIBLE_NIR, band
from darts_assets.stores.statistics import BandStatistics

POSSIBLE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "ndvi": (-1, 1),
        "relative_elevation": (-1000, 1000),
        "slope": (0, 90),
        "aspect": (-1, 360),  # -1 where it is flat
        "hillshade": (0, 1),
        "curvature": (-1e4, 1e4),  # 1/100 m: a step of 10,000 m2 between cells of 10 m
        "dem": (-100, 3000),
    }
)
"""The lowest and highest possible value, in the units of the bands, before storing clips it."""

_ROUNDING = 1e-3


def feature_faults(
    statistics: Mapping[str, BandStatistics], darkest: float, brightest: float, missing: float
) -> list[str]:
    """What is wrong or suspicious about a preprocessed tile, in sentences.

    Args:
        statistics: of each band.
        darkest: reflectance; a lower median of a band is suspicious (an offset was subtracted twice).
        brightest: reflectance; a higher median is (snow and clouds reflect about as much as falls on them).
        missing: fraction of the pixels with data that a feature may lack.
    """
    faults = []
    for name, (low, high) in POSSIBLE.items():
        found = statistics[name]
        if found.pixels and not (low - _ROUNDING <= found.low and found.high <= high + _ROUNDING):
            unit = "" if band(name).units == "1" else f" {band(name).units}"
            faults.append(
                f"{name} runs from {found.low:.4g} to {found.high:.4g}, possible is {low:g} to {high:g}{unit}"
            )
    for name in VISIBLE_NIR:
        median = statistics[name].median
        if statistics[name].pixels and not darkest <= median <= brightest:
            faults.append(f"half of {name} is {'below' if median < darkest else 'above'} a reflectance of {median:.3f}")
    # Trends are 0 both where they are unknown and where they are 0: what they lack cannot be told from this.
    whole = dict.fromkeys((*VISIBLE_NIR, "ndvi"), "red") | dict.fromkeys(TERRAIN, "dem")
    for name, of in whole.items():
        lacking = 1 - statistics[name].pixels / statistics[of].pixels if statistics[of].pixels else 0.0
        if lacking > missing:
            faults.append(f"{name} is missing in {100 * lacking:.1f} % of the pixels that have {of}")
    faults += [f"{name} is {statistics[name].low:g} everywhere" for name in FEATURES if statistics[name].is_constant]
    return faults
