"""The three definitions of the terrain features that models were trained with.

- `darts-2025`: xarray-spatial 0.4/0.5. Hillshade from central differences per *cell* (not per metre), rescaled from
  [-1, 1] to [0, 1].
- `darts-2026`: xarray-spatial 0.9. Hillshade from central differences per metre, clipped to [0, 1].
- `physical`: hillshade from Horn's gradient per metre, clipped to [0, 1], as GDAL's; directions from true north.

Both DARTS conventions turn aspect and sun by `orientation.darts_turn`, flat cells included. Slope and curvature are
the same everywhere.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from darts_assets.features import terrain

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sun:
    """Where the sun is, in whole degrees.

    Attributes:
        azimuth: clockwise from north.
        elevation: above the horizon.
    """

    azimuth: int = 225
    elevation: int = 25

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> "Sun":
        """The sun of a tile from its `sun_azimuth` and `sun_elevation`, rounded; the defaults where missing."""
        return cls(
            azimuth=_whole_degrees(attrs, "sun_azimuth", cls().azimuth),
            elevation=_whole_degrees(attrs, "sun_elevation", cls().elevation),
        )


def darts(
    dem: FloatArray,
    cell: float,
    sun: Sun,
    turn: float | FloatArray,
    sun_turn: float,
    vintage: Literal["darts-2025", "darts-2026"],
) -> dict[str, FloatArray]:
    """Slope, aspect, hillshade and curvature as DARTS has them.

    Args:
        dem: float32 (h + 2, w + 2) in metres, NaN where unknown.
        cell: size of a cell in metres.
        sun: where the sun is.
        turn: degrees added to aspect, a number or (h, w).
        sun_turn: degrees subtracted from the sun's azimuth.
        vintage: which hillshade.

    Returns:
        float32 (h, w) by name of the feature.
    """
    horn, central = terrain.gradients(dem, cell)
    azimuth = (sun.azimuth - sun_turn) % 360
    if vintage == "darts-2025":
        for component in central:
            component *= np.float32(cell)
        hillshade = terrain.illumination(central, azimuth, sun.elevation)
        hillshade += 1
        hillshade /= 2
    else:
        hillshade = terrain.illumination(central, azimuth, sun.elevation)
        np.clip(hillshade, 0, 1, out=hillshade)
    return {
        "slope": terrain.slope(horn),
        "aspect": terrain.turned(terrain.aspect(horn), turn),
        "hillshade": hillshade,
        "curvature": terrain.curvature(dem, cell),
    }


def physical(dem: FloatArray, cell: float, sun: Sun, convergence: float | FloatArray) -> dict[str, FloatArray]:
    """Slope, aspect, hillshade and curvature as they are on the ground; with convergence 0 as `gdaldem` has them.

    Args:
        dem: float32 (h + 2, w + 2) in metres, NaN where unknown.
        cell: size of a cell in metres.
        sun: where the sun is, from true north.
        convergence: degrees to add to a direction from the top of the grid for one from true north, a number or (h, w).

    Returns:
        float32 (h, w) by name of the feature; aspect is -1 where flat.
    """
    horn, _ = terrain.gradients(dem, cell)
    aspect = terrain.aspect(horn)
    flat = aspect == -1
    terrain.turned(aspect, convergence)
    np.copyto(aspect, -1, where=flat)
    return {
        "slope": terrain.slope(horn),
        "aspect": aspect,
        "hillshade": np.clip(terrain.illumination(horn, sun.azimuth - convergence, sun.elevation), 0, 1),
        "curvature": terrain.curvature(dem, cell),
    }


def _whole_degrees(attrs: Mapping[str, Any], name: str, default: int) -> int:
    angle = attrs.get(name)
    if angle is None or not math.isfinite(angle):
        logger.warning("the scene has no %s: %d degrees are used for its hillshade", name, default)
        return default
    return round(float(angle))
