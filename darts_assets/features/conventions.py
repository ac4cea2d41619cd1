"""The three definitions of slope, aspect, hillshade and curvature that models were trained with, and grid north.

- `darts-2025`: xarray-spatial 0.4/0.5. Hillshade from central differences per *cell* (not per metre), rescaled from
  [-1, 1] to [0, 1].
- `darts-2026`: xarray-spatial 0.9. Hillshade from central differences per metre, clipped to [0, 1].
- `physical`: hillshade from Horn's gradient per metre, clipped to [0, 1], as in GDAL; directions from true north.

Both DARTS conventions rotate aspect and sun by `darts_turn`, flat cells included. Slope and curvature are the same in
all three. All rotations are degrees to *add* to a direction clockwise from the top of the grid to make it one
clockwise from north.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from pyproj import Proj

from darts_assets.features import terrain
from darts_assets.features.terrain import FloatArray

logger = logging.getLogger(__name__)

FloatVector = npt.NDArray[np.float64]

NODES = 33
"""Points per side at which convergence is computed; interpolation between them is exact to 1e-4 degrees on 110 km."""


@dataclass(frozen=True, slots=True)
class Sun:
    """Position of the sun in whole degrees.

    Attributes:
        azimuth: clockwise from north.
        elevation: above the horizon.
    """

    azimuth: int = 225
    elevation: int = 25

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> "Sun":
        """The sun from a tile's `sun_azimuth` and `sun_elevation`, rounded; the defaults where missing."""
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
    """Slope, aspect, hillshade and curvature as DARTS computes them.

    Args:
        dem: float32 (h + 2, w + 2) in metres, NaN where unknown.
        cell: cell size in metres.
        sun: position of the sun.
        turn: degrees added to aspect, a number or (h, w).
        sun_turn: degrees subtracted from the sun's azimuth.
        vintage: definition of hillshade.

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
        "aspect": terrain.rotate(terrain.aspect(horn), turn),
        "hillshade": hillshade,
        "curvature": terrain.curvature(dem, cell),
    }


def physical(dem: FloatArray, cell: float, sun: Sun, convergence: float | FloatArray) -> dict[str, FloatArray]:
    """Slope, aspect, hillshade and curvature relative to true north; with convergence 0 equal to `gdaldem`.

    Args:
        dem: float32 (h + 2, w + 2) in metres, NaN where unknown.
        cell: cell size in metres.
        sun: position of the sun, from true north.
        convergence: degrees between the top of the grid and true north, a number or (h, w).

    Returns:
        float32 (h, w) by name of the feature; aspect is -1 where flat.
    """
    horn, _ = terrain.gradients(dem, cell)
    aspect = terrain.aspect(horn)
    flat = aspect == -1
    terrain.rotate(aspect, convergence)
    np.copyto(aspect, -1, where=flat)
    return {
        "slope": terrain.slope(horn),
        "aspect": aspect,
        "hillshade": np.clip(terrain.illumination(horn, sun.azimuth - convergence, sun.elevation), 0, 1),
        "curvature": terrain.curvature(dem, cell),
    }


def darts_turn(grid: GeoBox) -> FloatArray:
    """Rotation that DARTS applies to each cell, float32 (h, w): `arctan2(x, y) + 90` degrees of projected coordinates.

    The formula holds for EPSG:3413, but DARTS applies it to UTM coordinates; its models were trained with that.
    """
    x, y = _cell_centres(grid)
    turn = np.arctan2(x.astype(np.float32), y.astype(np.float32)[:, None])
    turn *= np.float32(180 / math.pi)
    turn += np.float32(90)
    return turn


def darts_turn_at_centre(grid: GeoBox) -> float:
    """Rotation that DARTS applies to the sun: `darts_turn` at the centre of the grid."""
    x, y = _cell_centres(grid)
    return float(np.degrees(np.arctan2(x.mean(), y.mean())) + 90)


@dataclass(frozen=True)
class MeridianConvergence:
    """Angle between true north and the top of the grid over a tile, computed by PROJ for the tile's CRS.

    Attributes:
        rows: row numbers of the nodes.
        columns: column numbers of the nodes.
        degrees: convergence at the nodes, (rows, columns).
    """

    rows: FloatVector
    columns: FloatVector
    degrees: npt.NDArray[np.float64]

    @classmethod
    def of(cls, tile: GeoBox) -> "MeridianConvergence":
        """Convergence over a tile."""
        height, width = tile.shape
        rows, columns = np.linspace(0, height - 1, NODES), np.linspace(0, width - 1, NODES)
        x, y = np.meshgrid(_x_of(columns, tile), _y_of(rows, tile))
        projection = Proj(str(tile.crs))
        longitude, latitude = projection(x, y, inverse=True)
        return cls(rows, columns, np.asarray(projection.get_factors(longitude, latitude).meridian_convergence))

    def over(self, rows: slice) -> FloatArray:
        """Convergence of every cell of a full-width window of rows, float32 (h, w)."""
        position = np.interp(np.arange(rows.start, rows.stop), self.rows, np.arange(len(self.rows)))
        above = np.minimum(position.astype(np.intp), len(self.rows) - 2)
        fraction = (position - above).astype(np.float32)[:, None]
        lines = self._by_column[above]
        lines += (self._by_column[above + 1] - lines) * fraction
        return lines

    @cached_property
    def _by_column(self) -> FloatArray:
        """Convergence of every column at the nodes' rows."""
        columns = np.arange(self.columns[-1] + 1)
        weights = np.stack([np.interp(columns, self.columns, unit) for unit in np.eye(len(self.columns))])
        return (self.degrees @ weights).astype(np.float32)


def _x_of(columns: FloatVector, grid: GeoBox) -> FloatVector:
    """Projected x of the centres of columns, which may be fractional."""
    return grid.transform.c + grid.transform.a * (columns + 0.5)


def _y_of(rows: FloatVector, grid: GeoBox) -> FloatVector:
    """Projected y of the centres of rows, which may be fractional."""
    return grid.transform.f + grid.transform.e * (rows + 0.5)


def _cell_centres(grid: GeoBox) -> tuple[FloatVector, FloatVector]:
    """Projected x of every column and y of every row."""
    height, width = grid.shape
    return _x_of(np.arange(width, dtype=np.float64), grid), _y_of(np.arange(height, dtype=np.float64), grid)


def _whole_degrees(attrs: Mapping[str, Any], name: str, default: int) -> int:
    angle = attrs.get(name)
    if angle is None or not math.isfinite(angle):
        logger.warning("scene has no %s; hillshade uses the default of %d degrees", name, default)
        return default
    return round(float(angle))
