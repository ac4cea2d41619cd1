"""Plausibility of a preprocessed tile: possible ranges of the features and suspicious statistics."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from darts_assets.bands import FEATURES, TERRAIN, VISIBLE_NIR, band

if TYPE_CHECKING:
    from darts_assets.stores.statistics import BandStatistics

POSSIBLE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "ndvi": (-1, 1),
        "relative_elevation": (-1000, 1000),
        "slope": (0, 90),
        "aspect": (-1, 360),  # -1 where flat
        "hillshade": (0, 1),
        "curvature": (-1e4, 1e4),  # 1/100 m: a step of 10,000 m2 between cells of 10 m
        "dem": (-100, 3000),
    }
)
"""Lowest and highest possible value in the units of the bands, before clipping by the storage codec."""

DARKEST_MEDIAN = -0.01
"""Lowest plausible median reflectance of a band: near infrared of clear water at a low sun is slightly negative."""

BRIGHTEST_MEDIAN = 1.2
"""Highest plausible median reflectance of a band: snow and clouds have about 1."""

_ROUNDING = 1e-3
_SATURATED = 0.999


def reflectance_faults(
    statistics: "Mapping[str, BandStatistics]", darkest: float = DARKEST_MEDIAN, brightest: float = BRIGHTEST_MEDIAN
) -> list[str]:
    """List the properties of a preprocessed tile that only values that are no reflectance have, one sentence each.

    An offset that was subtracted twice, or not at all, has these results.

    Args:
        statistics: of each band.
        darkest: lowest plausible median reflectance of a band.
        brightest: highest plausible median reflectance.
    """
    faults = []
    for name in VISIBLE_NIR:
        median = statistics[name].median
        if statistics[name].pixels and not darkest <= median <= brightest:
            faults.append(f"the median of {name} is {median:.3f}, expected {darkest:g} to {brightest:g}")
    # -1 in most pixels is water whose near infrared is slightly negative.
    if statistics["ndvi"].pixels and statistics["ndvi"].median >= _SATURATED:
        faults.append("ndvi is 1 in most pixels: their red reflectance is not positive")
    return faults


def feature_faults(statistics: "Mapping[str, BandStatistics]", missing: float) -> list[str]:
    """List the other implausible properties of a preprocessed tile, one sentence each.

    Args:
        statistics: of each band.
        missing: largest plausible fraction of valid pixels without a value of a feature.
    """
    faults = []
    for name, (low, high) in POSSIBLE.items():
        values = statistics[name]
        if values.pixels and not (low - _ROUNDING <= values.low and values.high <= high + _ROUNDING):
            unit = "" if band(name).units == "1" else f" {band(name).units}"
            faults.append(
                f"{name} ranges from {values.low:.4g} to {values.high:.4g}, expected {low:g} to {high:g}{unit}"
            )
    # TCVIS is left out: it is stored as 0 both where it is unknown and where it is 0.
    references = dict.fromkeys((*VISIBLE_NIR, "ndvi"), "red") | dict.fromkeys(TERRAIN, "dem")
    for name, reference in references.items():
        valid = statistics[reference].pixels
        lacking = 1 - statistics[name].pixels / valid if valid else 0.0
        if lacking > missing:
            faults.append(f"{name} has no value in {100 * lacking:.1f} % of the pixels with {reference}")
    faults += [f"{name} is {statistics[name].low:g} everywhere" for name in FEATURES if statistics[name].is_constant]
    return faults
