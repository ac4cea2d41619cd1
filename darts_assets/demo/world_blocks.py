"""Blocks of large worlds, whose ground is computed block by block to limit memory.

The landscape is a function of the coordinates, so neighbouring blocks agree if they have a margin. Slumps and confusers
lie within one block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_assets.demo.noise import pixel_centres

_SIDE = 3000
"""Side of a block in pixels (1.7 GB of memory)."""

LARGEST = 3000
"""Side in pixels of the largest scene whose world is a single block."""

_MARGIN = 300
"""Margin of a block in pixels: a lake levels the ground up to 2.7 km around it."""

_RIM = 16
"""Margin in pixels of other grids around a block, because slopes at the edge of an array are inaccurate."""

_CLEAR = 40
"""Width in pixels along the edge of a block without slumps, patches and burns."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the ground's grid.

    Attributes:
        numbers: row and column of the block; empty if it is the whole world.
        core: rows and columns of the core in the whole grid.
        geobox: grid of the block, with a margin around the core.
        inner: rows and columns of the core in this grid.
        share: fraction of the area of the world, 0 to 1.
    """

    numbers: tuple[int, ...]
    core: tuple[slice, slice]
    geobox: GeoBox
    inner: tuple[slice, slice]
    share: float

    @property
    def within(self) -> npt.NDArray[np.bool_]:
        """Mask of the pixels where slumps and patches may lie, shape of the grid."""
        inside = np.zeros(self.geobox.shape, dtype=bool)
        rim = _CLEAR if self.numbers else 0
        inside[tuple(slice(part.start + rim, part.stop - rim) for part in self.inner)] = True
        return inside

    def window_of(self, grid: GeoBox) -> tuple[slice, slice] | None:
        """Even rows and columns of another grid that cover the core; None without overlap."""
        if not self.numbers:
            return slice(0, int(grid.shape[0])), slice(0, int(grid.shape[1]))
        box = self.geobox[self.inner].extent.to_crs(str(grid.crs), resolution=500).boundingbox
        left, top = grid.wld2pix(box.left, box.top)
        right, bottom = grid.wld2pix(box.right, box.bottom)
        rows, columns = (
            slice(max(int(low) // 2 * 2 - _RIM, 0), min(int(high) // 2 * 2 + _RIM, int(length)))
            for low, high, length in ((top, bottom, grid.shape[0]), (left, right, grid.shape[1]))
        )
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def covers(self, grid: GeoBox) -> npt.NDArray[np.bool_]:
        """Mask of the pixels of another grid whose centres lie in the core."""
        if not self.numbers:
            return np.ones(grid.shape, dtype=bool)
        x, y = pixel_centres(grid)
        transformer = Transformer.from_crs(str(grid.crs), str(self.geobox.crs), always_xy=True)
        x, y = transformer.transform(*np.meshgrid(x, y))
        columns, rows = self.geobox.wld2pix(x, y)
        inside = np.ones(grid.shape, dtype=bool)
        for position, part in zip((rows, columns), self.inner, strict=True):
            inside &= (position >= part.start) & (position < part.stop)
        return inside


def blocks_of(area: GeoBox, size: int) -> Iterator[Block]:
    """Yield the blocks of a world with scenes of `size` pixels: one up to `LARGEST`, several above."""
    height, width = (int(n) for n in area.shape)
    if size <= LARGEST:
        whole = (slice(0, height), slice(0, width))
        yield Block((), whole, area, whole, 1.0)
        return
    for row, rows in enumerate(_cut(height)):
        for column, columns in enumerate(_cut(width)):
            grown = tuple(
                slice(max(part.start - _MARGIN, 0), min(part.stop + _MARGIN, length))
                for part, length in ((rows, height), (columns, width))
            )
            inner = tuple(
                slice(part.start - outer.start, part.stop - outer.start)
                for part, outer in zip((rows, columns), grown, strict=True)
            )
            share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
            yield Block((row, column), (rows, columns), area[grown], (inner[0], inner[1]), share)


def _cut(length: int) -> list[slice]:
    edges = np.linspace(0, length, -(-length // _SIDE) + 1).round().astype(int)
    return [slice(int(low), int(high)) for low, high in pairwise(edges)]
