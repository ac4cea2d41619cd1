"""Worlds that are too large for one piece: their ground is made block by block, and never all of it at once.

The landscape is a function of place, so that neighbouring blocks agree once they are made with a margin. Slumps and
what looks like them stay inside their block.
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
"""Pixels of a block: 1.7 GB of memory."""

LARGEST = 3000
"""Pixels of the largest scene whose world is made in one piece."""

_MARGIN = 300
"""Pixels around a block: a lake is level with its shore up to 2.7 km away."""

_RIM = 16
"""Pixels of other grids that are made around a block; slopes at the edge of an image are not those of the ground."""

_CLEAR = 40
"""Pixels along a block's edge without slumps, patches and burns, so that none reaches into the next block."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the ground's grid.

    Attributes:
        numbers: of the block in its world; empty where it is all of it.
        core: rows and columns of the whole grid that it stands for.
        geobox: its grid, with a margin around the core.
        inner: rows and columns of that grid which are the core.
        share: of the world's area, 0 to 1.
    """

    numbers: tuple[int, ...]
    core: tuple[slice, slice]
    geobox: GeoBox
    inner: tuple[slice, slice]
    share: float

    @property
    def within(self) -> npt.NDArray[np.bool_]:
        """Where slumps and patches may be, shape of the grid."""
        inside = np.zeros(self.geobox.shape, dtype=bool)
        rim = _CLEAR if self.numbers else 0
        inside[tuple(slice(part.start + rim, part.stop - rim) for part in self.inner)] = True
        return inside

    def window_of(self, grid: GeoBox) -> tuple[slice, slice] | None:
        """Rows and columns of another grid that cover the core, even numbers; None where there are none."""
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

    def holds(self, grid: GeoBox) -> npt.NDArray[np.bool_]:
        """Which pixels of another grid have their centre in the core."""
        if not self.numbers:
            return np.ones(grid.shape, dtype=bool)
        x, y = pixel_centres(grid)
        there = Transformer.from_crs(str(grid.crs), str(self.geobox.crs), always_xy=True)
        x, y = there.transform(*np.meshgrid(x, y))
        columns, rows = self.geobox.wld2pix(x, y)
        inside = np.ones(grid.shape, dtype=bool)
        for position, part in zip((rows, columns), self.inner, strict=True):
            inside &= (position >= part.start) & (position < part.stop)
        return inside


def blocks_of(area: GeoBox, size: int) -> Iterator[Block]:
    """The blocks of a world with scenes of `size` pixels: one, or as many as its memory demands."""
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
