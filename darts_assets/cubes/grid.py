"""The chunk grid of a cube: partition key <-> chunk index <-> geobox, and which chunks a scene needs.

A cube's grid never changes: chunk (0, 0) is at the top left, chunks are squares of 1024 pixels, and the cube is made of
whole chunks, so it reaches past the area it was made for at the right and at the bottom (the padding is never read from
a source outside its coverage: it is filled and empty).

A geographic grid continues past 180 degrees: the globe is not a whole number of TCVIS pixels around (1,335,833.89), so
columns west and east of the antimeridian do not share a lattice and cannot be put side by side. A grid that crosses it
is therefore addressed by longitudes beyond 180, in chunks of their own; both sides come from one plain window.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from darts_assets.cubes.area import GLOBE, in_pixels, without_jumps
from darts_assets.errors import CubeError

CHUNK = 1024
"""Pixels of a chunk's side."""

_EDGE_POINTS = 1000
_SLACK = 0.01  # cube pixels; edges sag by 43 m / 1000^2 between the points of a 110 km tile
_ROUNDING = 1e-6  # cube pixels; within the cube's own CRS, where edges are straight
_KERNEL = 2  # pixels around a position that cubic resampling reads


@dataclass(frozen=True)
class CubeGrid:
    """Where the chunks of a cube are.

    Attributes:
        prefix: what keys begin with: a resolution (`10m`) or a vintage (`2024`).
        geobox: grid of the whole cube, north up, whole chunks.
    """

    prefix: str
    geobox: GeoBox

    def __post_init__(self) -> None:
        if self.geobox.crs is None or any(n % CHUNK for n in self.geobox.shape):
            raise ValueError(
                f"a cube of {tuple(self.geobox.shape)} pixels has no CRS or is not made of whole chunks of {CHUNK}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of chunks."""
        height, width = self.geobox.shape
        return height // CHUNK, width // CHUNK

    def key(self, row: int, col: int) -> str:
        """The partition key of a chunk, such as `10m-r0123-c0456`.

        Raises:
            CubeError: if there is no such chunk.
        """
        key = f"{self.prefix}-r{row:04d}-c{col:04d}"
        if not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]):
            raise CubeError(f"{key}: there is no such chunk; {self._expected()}")
        return key

    def parse(self, key: str) -> tuple[int, int]:
        """Row and column of the chunk with this partition key.

        Raises:
            CubeError: if the key is malformed, of another cube, or outside the grid.
        """
        match = re.fullmatch(rf"{re.escape(self.prefix)}-r(\d{{4}})-c(\d{{4}})", key, re.ASCII)
        if match is None:
            raise CubeError(f"{key!r} is not a chunk of this cube; {self._expected()}")
        row, col = int(match[1]), int(match[2])
        self.key(row, col)
        return row, col

    def chunk_slices(self, row: int, col: int) -> tuple[slice, slice]:
        """Pixel rows and columns of a chunk in the whole cube."""
        return slice(row * CHUNK, (row + 1) * CHUNK), slice(col * CHUNK, (col + 1) * CHUNK)

    def chunk_geobox(self, row: int, col: int) -> GeoBox:
        """The grid of one chunk, 1024 x 1024 pixels.

        Raises:
            CubeError: if there is no such chunk.
        """
        self.key(row, col)
        return self.geobox[self.chunk_slices(row, col)]

    def overlaps(self, geobox: GeoBox, buffer: int = 0) -> bool:
        """Whether any pixel of the cube lies under `geobox` grown by `buffer` cube pixels.

        Raises:
            CubeError: see `window`.
        """
        return _length(self._cropped(geobox, buffer)) > 0

    def window(self, geobox: GeoBox, buffer: int = 0) -> tuple[slice, slice]:
        """The cube's pixels under `geobox`, which may have any CRS, cropped to the cube.

        Args:
            geobox: a grid; its edges are densified before they are projected.
            buffer: cube pixels to add on each side.

        Returns:
            Pixel rows and columns of the cube, never empty.

        Raises:
            CubeError: if the grid lies outside the cube, cannot be projected to its CRS, or, for a geographic cube,
                contains the pole or reaches too far across the antimeridian.
        """
        rows, cols = self._cropped(geobox, buffer)
        if _length((rows, cols)) == 0:
            raise CubeError(f"the {self.prefix} cube does not cover the grid {_describe(geobox)}")
        return rows, cols

    def chunks_for(self, geobox: GeoBox, buffer: int = 0) -> list[str]:
        """Partition keys of the chunks that hold any pixel under `geobox` grown by `buffer`, row by row.

        A scene stands askew in the cube's CRS, by up to 45 degrees: chunks in the corners of its `window` that do not
        lie under it (nearly half of them) are not among these.

        Raises:
            CubeError: see `window`.
        """
        window = self.window(geobox, buffer)
        outline = shapely.make_valid(shapely.Polygon(np.stack(self._edge(geobox, buffer), axis=1)))
        return self._keys(_touched(shapely.buffer(outline, buffer + _KERNEL), *window))

    def chunks_under(self, geometry: shapely.Geometry, crs: CRS, buffer: int = 0) -> list[str]:
        """Partition keys of the chunks that scenes within an area need, row by row.

        Exactly those that the area touches in the cube's CRS, grown by `buffer` and by what resampling reads; not those
        of its bounding box. Where it crosses the antimeridian, scenes in it are addressed in two ways, and a geographic
        cube needs both: columns past 180 degrees for scenes that cross it, columns from -180 on for those east of it.

        Args:
            geometry: any, valid; its edges are densified before they are projected, longitudes may go on past 180.
            crs: the CRS of `geometry`.
            buffer: cube pixels to add on each side.

        Returns:
            The keys; none where the cube does not cover the area.

        Raises:
            CubeError: if the area cannot be projected to the cube's CRS, or, for a geographic cube, contains the pole.
        """
        reach = buffer + _KERNEL
        found = [np.empty((0, 2), dtype=np.int64)]
        for shape in in_pixels(geometry, crs, self.geobox, reach * abs(float(self.geobox.resolution.x))):
            left, top, right, bottom = shapely.bounds(shape)
            window = self._outward(np.array([left, right]), np.array([top, bottom]), reach, 0)
            if _length(window) > 0:
                found.append(_touched(shapely.buffer(shape, reach), *window))
        return self._keys(np.unique(np.concatenate(found), axis=0))

    def _keys(self, chunks: npt.NDArray[np.int64]) -> list[str]:
        return [self.key(int(row), int(col)) for row, col in chunks]

    def _cropped(self, geobox: GeoBox, buffer: int) -> tuple[slice, slice]:
        slack = -_ROUNDING if geobox.crs == self.geobox.crs else _SLACK
        return self._outward(*self._edge(geobox, buffer), buffer, slack)

    def _outward(
        self, columns: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], buffer: int, slack: float
    ) -> tuple[slice, slice]:
        """Rows and columns of the cube's whole pixels from the first to the last position, and `buffer` around them."""
        height, width = (int(n) for n in self.geobox.shape)
        return _span(rows, buffer, slack, height), _span(columns, buffer, slack, width)

    def _edge(self, geobox: GeoBox, buffer: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The outer edge of a grid in cube pixels: a closed ring of columns and of rows."""
        if buffer < 0:
            raise ValueError(f"a buffer is a number of pixels, not {buffer}")
        own, other = self.geobox.crs, geobox.crs
        if own is None or other is None:
            raise CubeError(f"the grid {_describe(geobox)} has no CRS")
        height, width = geobox.shape
        t = np.linspace(0, 1, _EDGE_POINTS, endpoint=False)
        one, zero = np.ones_like(t), np.zeros_like(t)
        across = np.concatenate([t, one, 1 - t, zero, [0.0]]) * width
        down = np.concatenate([zero, t, one, 1 - t, [0.0]]) * height
        x, y = other.transformer(own, always_xy=True).transform(*geobox.pix2wld(across, down))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise CubeError(f"the grid {_describe(geobox)} cannot be projected to {own}")
        if own.geographic:
            x = self._unwrapped(x, geobox, buffer * abs(float(self.geobox.resolution.x)))
        columns, rows = self.geobox.wld2pix(x, y)
        return columns, rows

    def _unwrapped(self, lon: npt.NDArray[np.float64], geobox: GeoBox, pad: float) -> npt.NDArray[np.float64]:
        """Longitudes of a ring without jumps, moved by whole turns to where the cube holds them."""
        lon = without_jumps(lon, f"the grid {_describe(geobox)}")
        cube = self.geobox.boundingbox
        west, east = float(cube.left), float(cube.right)
        if lon.min() - pad < west or lon.max() + pad > east:
            lon = lon - GLOBE * math.floor((lon.min() - pad - west) / GLOBE)
        if lon.max() + pad > east:
            raise CubeError(
                f"the grid {_describe(geobox)} reaches to {lon.max():.1f} degrees across the antimeridian; the "
                f"{self.prefix} cube ends at {east:.1f}: use a smaller area"
            )
        return lon

    def _expected(self) -> str:
        last_row, last_col = (n - 1 for n in self.shape)
        return f"expected {self.prefix}-rNNNN-cNNNN with row up to {last_row:04d} and column up to {last_col:04d}"


def whole_chunks(crs: str, resolution: float, left: float, top: float, width: float, height: float) -> GeoBox:
    """A north-up grid of whole chunks that covers `width` x `height` CRS units from the corner (`left`, `top`)."""
    rows, cols = (math.ceil(round(extent / resolution, 6) / CHUNK) * CHUNK for extent in (height, width))
    return GeoBox((rows, cols), Affine(resolution, 0, left, 0, -resolution, top), crs)


def _touched(shape: shapely.Geometry, rows: slice, cols: slice) -> npt.NDArray[np.int64]:
    """Row and column of the chunks within rows and columns of pixels that a shape in pixels touches, row by row."""
    first = np.array([rows.start, cols.start]) // CHUNK
    last = -(-np.array([rows.stop, cols.stop]) // CHUNK) - 1
    shapely.prepare(shape)
    # Blocks of chunks, halved until they are chunks: an area of the size of a country is found among millions.
    side = 1 << int(max(last - first)).bit_length()
    blocks = first[np.newaxis]
    while True:
        blocks = blocks[(blocks <= last).all(axis=1)]
        top, left = (blocks * CHUNK).T
        size = side * CHUNK
        blocks = blocks[shapely.intersects(shape, shapely.box(left, top, left + size, top + size))]
        if side == 1:
            return np.unique(blocks, axis=0)
        side //= 2
        blocks = (blocks[:, np.newaxis] + side * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).reshape(-1, 2)


def _span(pixels: npt.NDArray[np.float64], buffer: int, slack: float, size: int) -> slice:
    start = math.floor(pixels.min() - slack) - buffer
    stop = math.ceil(pixels.max() + slack) + buffer
    return slice(min(max(start, 0), size), min(max(stop, 0), size))


def _length(window: tuple[slice, slice]) -> int:
    rows, cols = window
    return int((rows.stop - rows.start) * (cols.stop - cols.start))


def _describe(geobox: GeoBox) -> str:
    box = geobox.boundingbox
    return f"{geobox.crs} x {box.left:.6g}..{box.right:.6g}, y {box.bottom:.6g}..{box.top:.6g}"
