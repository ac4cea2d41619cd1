"""Outlines of pixels as polygons, for all objects at once: no step is done object by object.

The boundary between the pixels of a mask and the others runs along grid lines and turns at *corners*, which are found
by comparing the four pixels around each vertex of the grid. Along a grid line, in order, each two corners are the ends
of one straight *run* of the boundary; so sorting the corners by row gives the horizontal runs, sorting them by column
the vertical ones, and following both in turn the rings. Where only two diagonal neighbours among the four pixels are
set, two boundaries meet: that vertex counts as two corners.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from scipy.sparse import csgraph, csr_array

from darts_assets.detection.objects import Mask, label
from darts_assets.tiles import row_windows

Index = npt.NDArray[np.int64]

BAND_ROWS = 64
"""Rows of the mask compared at a time: few enough for the processor's cache."""


@dataclass(frozen=True)
class _Vertices:
    """Vertices of the grid where a boundary turns, in row-major order.

    Attributes:
        row: int64 (n,); the vertex lies above the pixels of this row.
        column: int64 (n,); the vertex lies left of the pixels of this column.
        upper_left: bool (n,), whether that pixel is set; so the other three.
    """

    row: Index
    column: Index
    upper_left: Mask
    upper_right: Mask
    lower_left: Mask
    lower_right: Mask

    @property
    def shared(self) -> Mask:
        """Bool (n,): whether two boundaries meet there."""
        return (self.upper_left == self.lower_right) & (self.upper_right == self.lower_left)


@dataclass(frozen=True)
class _Runs:
    """Horizontal runs of the boundary, in row-major order, walked with the mask on the left.

    Attributes:
        row, column: int64 (runs, 2); the vertices where each run starts and ends.
        next: int64 (runs,); the run that the boundary goes on with.
        is_top: bool (runs,): whether the mask lies below.
    """

    row: Index
    column: Index
    next: Index
    is_top: Mask


def outlines(labels: npt.NDArray[np.int32], mask: Mask, geobox: GeoBox) -> npt.NDArray[np.object_]:
    """One valid geometry per object of a mask.

    A polygon outlines 4-connected pixels, which makes it valid; the parts of an 8-connected object meet at corners
    only, so that together they are a valid MultiPolygon.

    Args:
        labels: (height, width), 1..n for the 8-connected objects of `mask`.
        mask: (height, width).
        geobox: grid of both.

    Returns:
        Polygon or MultiPolygon (n,) in the order of the labels, in the coordinates of the grid.
    """
    vertices = _vertices(mask)
    if not len(vertices.row):
        return np.empty(0, dtype=object)
    parts = label(mask, connectivity=4)[0] if vertices.shared.any() else labels
    runs = _runs(vertices, parts)
    _, ring_of_run = csgraph.connected_components(_steps(runs.next), connection="strong")
    # A ring starts with its first run: the one at its top. There an outer ring has the mask below, a hole above.
    _, first, sizes = np.unique(ring_of_run, return_index=True, return_counts=True)
    is_hole = ~runs.is_top[first]
    pixel = runs.row[first, 0] - is_hole, runs.column[first].min(axis=1)
    part, of_object = parts[pixel], labels[pixel]
    order = np.lexsort((is_hole, part, of_object))
    rings = _ring_geometries(runs, first[order], sizes[order], geobox)
    # Groups of an outer ring and its holes, then groups of the polygons of an object.
    polygons = np.asarray(shapely.polygons(rings, indices=np.cumsum(~is_hole[order]) - 1))
    return _gathered(polygons, of_object[order][~is_hole[order]])


def _vertices(mask: Mask) -> _Vertices:
    """Where the boundary of a mask (height, width) turns."""
    height, width = mask.shape
    framed = np.pad(mask, 1)
    found = []
    for rows in row_windows(height + 1, BAND_ROWS):
        above, below = framed[rows], framed[rows.start + 1 : rows.stop + 1]
        edges = above ^ below
        left, right = edges[:, :-1], edges[:, 1:]
        turns = left & right & (above[:, :-1] ^ above[:, 1:])
        turns |= left ^ right
        found.append(np.flatnonzero(turns) + rows.start * (width + 1))
    row, column = np.divmod(np.concatenate(found), width + 1)
    around = (framed[row + down, column + right] for down in (0, 1) for right in (0, 1))
    return _Vertices(row, column, *around)


def _runs(vertices: _Vertices, parts: npt.NDArray[np.int32]) -> _Runs:
    """The boundary's runs; `parts` (height, width) are the labels of the 4-connected components."""
    shared = vertices.shared
    # In row-major order the corner that ends a run comes before the one that starts the next, also at a shared vertex.
    vertex = np.repeat(np.arange(len(shared)), 1 + shared)
    row, column = vertices.row[vertex], vertices.column[vertex]

    # Column by column, each two corners are the ends of a vertical run. At a shared vertex the run from above ends in
    # the first corner or in the second one, as the boundary has to turn there.
    downwards = np.arange(len(vertex))
    swapped = np.flatnonzero(shared & _swapped(vertices, shared, parts))
    second = np.searchsorted(vertex, swapped, side="right") - 1
    downwards[second - 1], downwards[second] = second, second - 1
    narrow = column.astype(np.uint16) if parts.shape[1] < 1 << 16 else column  # sorted by radix
    downwards = downwards[np.argsort(narrow, kind="stable")]
    opposite = np.empty_like(downwards)
    opposite[downwards[0::2]], opposite[downwards[1::2]] = downwards[1::2], downwards[0::2]

    is_top = ~vertices.upper_right[vertex[0::2]]
    start = np.arange(0, len(vertex), 2) + is_top
    ends = np.stack([start, start ^ 1], axis=1)
    return _Runs(row[ends], column[ends], opposite[start ^ 1] // 2, is_top)


def _swapped(vertices: _Vertices, shared: Mask, parts: npt.NDArray[np.int32]) -> Mask:
    """Bool (n,): whether, at a shared vertex, the horizontal run that ends there turns down instead of up.

    The outlines of two parts touch there without crossing. One part's own outline must not touch itself: it goes round
    the pixels that are not set, of which one is then inside a hole.
    """
    row, column, falling = vertices.row[shared], vertices.column[shared], vertices.upper_left[shared]
    upper = parts[row - 1, column - falling]
    lower = parts[row, column - ~falling]
    swapped = np.zeros(len(shared), dtype=bool)
    swapped[shared] = (upper == lower) == falling
    return swapped


def _steps(following: Index) -> csr_array:
    """The graph in which each node points to one other."""
    count = len(following)
    return csr_array((np.ones(count, dtype=np.int8), following, np.arange(count + 1)), shape=(count, count))


def _ring_geometries(runs: _Runs, first: Index, sizes: Index, geobox: GeoBox) -> npt.NDArray[np.object_]:
    """LinearRings, in the order of their `first` runs (rings,); `sizes` (rings,) are their numbers of runs."""
    # Each ring opened and tied to the next one: a single walk visits all runs in order.
    before = np.empty_like(runs.next)
    before[runs.next] = np.arange(len(before))
    following = runs.next.copy()
    following[before[first]] = np.roll(first, -1)
    walk = csgraph.breadth_first_order(_steps(following), first[0], return_predecessors=False)
    x, y = geobox.pix2wld(runs.column[walk].ravel().astype(np.float64), runs.row[walk].ravel().astype(np.float64))
    of_ring = np.repeat(np.arange(len(first)), 2 * sizes)
    return np.asarray(shapely.linearrings(np.stack([x, y], axis=-1), indices=of_ring))


def _gathered(polygons: npt.NDArray[np.object_], groups: npt.NDArray[np.int32]) -> npt.NDArray[np.object_]:
    """One geometry per group, from polygons and the ascending groups (polygons,) that they belong to."""
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    gathered = polygons[first]
    several = sizes > 1
    members = several[group]
    if members.any():
        gathered[several] = shapely.multipolygons(polygons[members], indices=(np.cumsum(several) - 1)[group[members]])
    return gathered
