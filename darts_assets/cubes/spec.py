"""What a cube holds: its grid and the codecs of its variables; and what one chunk of it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_assets.bands import Band
from darts_assets.cubes.grid import CHUNK, CubeGrid

_CACHED_ROWS = 256
"""Rows of a chunk that are decoded at once: they stay in the processor's cache from one pass to the next."""


@dataclass(frozen=True)
class CubeSpec:
    """A kind of cube.

    Attributes:
        name: such as `arcticdem_10m` or `tcvis_2024`.
        grid: where its chunks are.
        variables: codecs; scaled ones are clipped to their valid range when they are loaded, not when they are stored.
        title: what the cube is, for people.
        source: where its data come from, for people.
    """

    name: str
    grid: CubeGrid
    variables: tuple[Band, ...]
    title: str = ""
    source: str = ""

    def fill_of(self, variable: Band) -> int:
        """The stored value that means "nothing here"."""
        return 0 if variable.fill is None else variable.fill

    def layout(self) -> dict[str, Any]:
        """What must not change during the life of a cube, as JSON types."""
        return {
            "cube": self.name,
            "crs": str(self.grid.geobox.crs),
            "transform": list(self.grid.geobox.affine)[:6],
            "shape": [int(n) for n in self.grid.geobox.shape],
            "chunk": CHUNK,
            "variables": {v.name: [str(v.stored), v.scale, v.offset, self.fill_of(v)] for v in self.variables},
        }


@dataclass(frozen=True)
class ChunkData:
    """One chunk as it comes from its source.

    Attributes:
        values: variable -> (1024, 1024) array of physical values, row 0 at the top.
        sources: ids of what the values come from, in order of precedence; empty where there is nothing.
        fill_fraction: share of pixels that have data, 0 to 1.
    """

    values: Mapping[str, npt.NDArray[Any]]
    sources: tuple[str, ...] = ()
    fill_fraction: float = 0.0


def fill_of(variable: Band) -> float:
    """What users see where there is nothing: NaN, or 0 for variables that know no NaN."""
    return 0.0 if variable.scale is None else np.nan


def decode_into(variable: Band, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Decode stored values into `values`, as users see them: scaled ones clipped to the valid range, fill as NaN.

    Args:
        variable: the codec.
        stored: stored values, (rows, columns).
        values: array of that shape in the memory dtype, which is overwritten.
    """
    if variable.scale is None:
        np.copyto(values, stored, casting="unsafe")
        return
    for row in range(0, len(stored), _CACHED_ROWS):
        _scale_into(variable, stored[row : row + _CACHED_ROWS], values[row : row + _CACHED_ROWS])


def _scale_into(variable: Band, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    assert variable.scale is not None
    np.multiply(stored, np.float32(variable.scale), out=values, dtype=np.float32, casting="unsafe")
    if variable.offset:
        values += np.float32(variable.offset)
    # Nearly all blocks are within the limits and without holes, and looking costs less than clipping and comparing.
    least, most = int(stored.min()), int(stored.max())
    low, high = variable.valid
    if variable.offset + least * variable.scale < low or variable.offset + most * variable.scale > high:
        np.clip(values, low, high, out=values)
    if variable.fill is not None and least <= variable.fill <= most:
        values[stored == variable.fill] = np.nan
