"""Where north is on a projected grid: truly, and as DARTS assumes it.

All angles are degrees to *add* to a direction clockwise from the top of the grid to make it one clockwise from north.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from pyproj import Proj

FloatArray = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]

NODES = 33
"""Convergence is computed at that many points a side and interpolated: exact to 1e-4 degrees on a 110 km tile."""


def darts_turn(grid: GeoBox) -> FloatArray:
    """DARTS's turn of every cell, float32 (h, w): `arctan2(x, y) + 90` degrees of the projected coordinates.

    The formula is the one for EPSG:3413, but DARTS applies it to UTM coordinates; models are trained with that.
    """
    x, y = _cell_centres(grid)
    turn = np.arctan2(x.astype(np.float32), y.astype(np.float32)[:, None])
    turn *= np.float32(180 / math.pi)
    turn += np.float32(90)
    return turn


def darts_turn_at_centre(grid: GeoBox) -> float:
    """DARTS's turn at the centre of the grid; it turns the sun by that."""
    x, y = _cell_centres(grid)
    return float(np.degrees(np.arctan2(x.mean(), y.mean())) + 90)


@dataclass(frozen=True)
class MeridianConvergence:
    """Angle between true north and the top of the grid over a tile, from the CRS's own definition.

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
        place = np.interp(np.arange(rows.start, rows.stop), self.rows, np.arange(len(self.rows)))
        above = np.minimum(place.astype(np.intp), len(self.rows) - 2)
        part = (place - above).astype(np.float32)[:, None]
        lines = self._across[above]
        lines += (self._across[above + 1] - lines) * part
        return lines

    @cached_property
    def _across(self) -> FloatArray:
        """Convergence of every column at the nodes' rows."""
        return (self.degrees @ _hats(np.arange(self.columns[-1] + 1), self.columns).T).astype(np.float32)


def _hats(positions: FloatVector, nodes: FloatVector) -> npt.NDArray[np.float64]:
    """Weights (positions, nodes) of linear interpolation between nodes."""
    return np.stack([np.interp(positions, nodes, one) for one in np.eye(len(nodes))], axis=-1)


def _x_of(columns: FloatVector, grid: GeoBox) -> FloatVector:
    """Projected x of the centres of columns, which need not be whole numbers."""
    return grid.transform.c + grid.transform.a * (columns + 0.5)


def _y_of(rows: FloatVector, grid: GeoBox) -> FloatVector:
    """Projected y of the centres of rows, which need not be whole numbers."""
    return grid.transform.f + grid.transform.e * (rows + 0.5)


def _cell_centres(grid: GeoBox) -> tuple[FloatVector, FloatVector]:
    """Projected x of every column and y of every row."""
    height, width = grid.shape
    return _x_of(np.arange(width, dtype=np.float64), grid), _y_of(np.arange(height, dtype=np.float64), grid)
