"""What a cube holds: its grid and the codecs of its variables; and what one chunk of it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_assets.bands import Band
from darts_assets.cubes.grid import CHUNK, CubeGrid


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


def physical(variable: Band, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stored values as users see them: decoded, scaled ones clipped to the valid range (NaN stays NaN)."""
    values = variable.decode(stored)
    if variable.scale is not None:
        np.clip(values, *variable.valid, out=values)
    return values
