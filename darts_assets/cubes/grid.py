"""The chunk grid of a cube: partition key <-> chunk index <-> geobox, and the chunks under a scene or an area.

A cube's grid never changes: chunk (0, 0) is at the top left, chunks are squares of 1024 pixels, and the cube consists
of whole chunks. It therefore extends past its area at the right and at the bottom; this padding is filled as empty and
never read from a source.

A geographic grid continues past 180 degrees: 360 degrees are not a whole number of TCVIS pixels (1,335,833.89), so that
columns west and east of the antimeridian are not on one lattice and cannot be joined. A grid that crosses it is
addressed by longitudes beyond 180, in separate chunks; one plain window then contains both sides.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from darts_assets.errors import CubeError

CHUNK = 1024
"""Pixels of a chunk's side."""

_GLOBE = 360.0
_EARTH_RADIUS = 6_371_000.0
_EDGE_POINTS = 1000
_STEP = 1000.0  # metres between the points of an area's densified edge, which sags by 4 mm
_SLACK = 0.01  # cube pixels; edges sag by 43 m / 1000^2 between the points of a 110 km tile
_ROUNDING = 1e-6  # cube pixels; within the cube's own CRS, where edges are straight
_LON_ROUNDING = 1e-9  # degrees
_KERNEL = 2  # pixels around a position that cubic resampling reads

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CubeGrid:
    """The chunks of a cube.

    Attributes:
        prefix: of the keys: a resolution (`10m`) or a vintage (`2024`).
        geobox: grid of the whole cube, north up, whole chunks.
    """

    prefix: str
    geobox: GeoBox

    def __post_init__(self) -> None:
        if self.geobox.crs is None or any(n % CHUNK for n in self.geobox.shape):
            raise ValueError(
                f"a cube of {tuple(self.geobox.shape)} pixels has no CRS or does not consist of whole chunks of {CHUNK}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of chunks."""
        height, width = self.geobox.shape
        return height // CHUNK, width // CHUNK

    def key(self, row: int, col: int) -> str:
        """The partition key of a chunk, such as `10m-r0123-c0456`.

        Raises:
            CubeError: if the chunk is outside of the grid.
        """
        key = f"{self.prefix}-r{row:04d}-c{col:04d}"
        if not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]):
            raise CubeError(f"chunk {key} does not exist; {self._expected()}")
        return key

    def parse(self, key: str) -> tuple[int, int]:
        """Row and column of the chunk with this partition key.

        Raises:
            CubeError: if the key is malformed, of another cube, or outside of the grid.
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
            CubeError: if the chunk is outside of the grid.
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
        """The cube's pixels under `geobox`, cropped to the cube.

        Args:
            geobox: a grid in any CRS; its edges are densified before projection.
            buffer: cube pixels to add on each side.

        Returns:
            Pixel rows and columns of the cube, never empty.

        Raises:
            CubeError: if the grid lies outside of the cube, cannot be projected to its CRS, or, for a geographic cube,
                contains the pole or extends too far across the antimeridian.
        """
        rows, cols = self._cropped(geobox, buffer)
        if _length((rows, cols)) == 0:
            raise CubeError(f"the {self.prefix} cube does not cover the grid {_describe(geobox)}")
        return rows, cols

    def chunks_for(self, geobox: GeoBox, buffer: int = 0) -> list[str]:
        """Partition keys of the chunks with any pixel under `geobox` grown by `buffer`, row by row.

        Scenes are rotated in the cube's CRS by up to 45 degrees: chunks in the corners of the `window` that do not lie
        under the scene (nearly half of them) are left out.

        Raises:
            CubeError: see `window`.
        """
        window = self.window(geobox, buffer)
        outline = shapely.make_valid(shapely.Polygon(np.stack(self._edge(geobox, buffer), axis=1)))
        return self._keys(_touched(shapely.buffer(outline, buffer + _KERNEL), *window))

    def chunks_under(self, geometry: shapely.Geometry, crs: CRS, buffer: int = 0) -> list[str]:
        """Partition keys of the chunks that scenes within an area need, row by row.

        These are the chunks that the area touches in the cube's CRS, grown by `buffer` and the kernel of resampling;
        not those of its bounding box. Scenes of an area that crosses the antimeridian are addressed in two ways, and a
        geographic cube needs both: columns past 180 degrees for scenes that cross it, and columns from -180 on for
        scenes east of it.

        Args:
            geometry: any valid geometry; its edges are densified before projection, longitudes may exceed 180.
            crs: the CRS of `geometry`.
            buffer: cube pixels to add on each side.

        Returns:
            The keys; none if the cube does not cover the area.

        Raises:
            CubeError: if the area cannot be projected to the cube's CRS, or, for a geographic cube, contains the pole.
        """
        reach = buffer + _KERNEL
        chunks = [np.empty((0, 2), dtype=np.int64)]
        for shape in _in_pixels(geometry, crs, self.geobox, reach * abs(float(self.geobox.resolution.x))):
            left, top, right, bottom = shapely.bounds(shape)
            window = self._outward(np.array([left, right]), np.array([top, bottom]), reach, 0)
            if _length(window) > 0:
                chunks.append(_touched(shapely.buffer(shape, reach), *window))
        return self._keys(np.unique(np.concatenate(chunks), axis=0))

    def _keys(self, chunks: npt.NDArray[np.int64]) -> list[str]:
        return [self.key(int(row), int(col)) for row, col in chunks]

    def _cropped(self, geobox: GeoBox, buffer: int) -> tuple[slice, slice]:
        slack = -_ROUNDING if geobox.crs == self.geobox.crs else _SLACK
        return self._outward(*self._edge(geobox, buffer), buffer, slack)

    def _outward(self, columns: Points, rows: Points, buffer: int, slack: float) -> tuple[slice, slice]:
        """Rows and columns of the cube's whole pixels from the first to the last position, and `buffer` around them."""
        height, width = (int(n) for n in self.geobox.shape)
        return _span(rows, buffer, slack, height), _span(columns, buffer, slack, width)

    def _edge(self, geobox: GeoBox, buffer: int) -> tuple[Points, Points]:
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

    def _unwrapped(self, lon: Points, geobox: GeoBox, pad: float) -> Points:
        """Longitudes of a ring without jumps, shifted by whole turns into the range of the cube."""
        lon = _without_jumps(lon, f"the grid {_describe(geobox)}")
        cube = self.geobox.boundingbox
        west, east = float(cube.left), float(cube.right)
        if lon.min() - pad < west or lon.max() + pad > east:
            lon = lon - _GLOBE * math.floor((lon.min() - pad - west) / _GLOBE)
        if lon.max() + pad > east:
            raise CubeError(
                f"the grid {_describe(geobox)} extends to {lon.max():.1f} degrees across the antimeridian; the "
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
    # Blocks of chunks are halved until they are chunks, so that an area of the size of a country takes few tests.
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


def _in_pixels(geometry: shapely.Geometry, crs: CRS, geobox: GeoBox, pad: float) -> Iterator[shapely.Geometry]:
    """The parts of an area in pixels of a cube, x to the right and y down, with densified edges.

    On a geographic grid, a part that crosses the antimeridian is yielded twice, the second time shifted by 360 degrees.
    `pad` is the distance around the area to which pixels are needed, in units of the cube's CRS.
    """
    own = CRS.from_user_input(str(geobox.crs))
    transform = Transformer.from_crs(crs, own, always_xy=True).transform
    bounds = "x {0:.6g}..{2:.6g}, y {1:.6g}..{3:.6g}".format(*shapely.bounds(geometry))
    description = f"the area {crs.to_string() if crs.to_epsg() else crs.name} {bounds}"

    def project(points: Points) -> Points:
        x, y = transform(*points.T)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise CubeError(f"{description} cannot be projected to {geobox.crs}")
        return np.stack([x, y], axis=1)

    def pixels(points: Points) -> Points:
        return np.stack(geobox.wld2pix(*points.T), axis=1)

    step = _STEP / (crs.axis_info[0].unit_conversion_factor or 1.0) / (_EARTH_RADIUS if crs.is_geographic else 1)
    west = float(geobox.boundingbox.left)
    for part in shapely.get_parts(shapely.get_parts(shapely.segmentize(geometry, step))):
        shape = shapely.transform(part, project)
        if not own.is_geographic:
            yield shapely.transform(shapely.make_valid(shape), pixels)
            continue
        shape = shapely.make_valid(_continued(shape, description))
        shape = _shifted(shape, -math.floor((shapely.bounds(shape)[0] - pad - west) / _GLOBE))
        yield shapely.transform(shape, pixels)
        if shapely.bounds(shape)[2] + pad > west + _GLOBE:
            yield shapely.transform(_shifted(shape, -1), pixels)


def _continued(part: shapely.Geometry, description: str) -> shapely.Geometry:
    """A point, line or polygon with longitudes without jumps."""

    def continued(points: Points) -> Points:
        return np.stack([_without_jumps(points[:, 0], description), points[:, 1]], axis=1)

    if not isinstance(part, shapely.Polygon):
        return shapely.transform(part, continued)
    outer, *holes = (continued(shapely.get_coordinates(ring)) for ring in (part.exterior, *part.interiors))
    # The longitudes of a hole may be whole turns away from those of the exterior.
    west = outer[:, 0].min() - _LON_ROUNDING
    inner = [hole - np.array([_GLOBE * math.floor((hole[:, 0].min() - west) / _GLOBE), 0]) for hole in holes]
    return shapely.Polygon(outer, inner)


def _without_jumps(lon: Points, description: str) -> Points:
    """Longitudes along a ring, continued past 180 degrees where it crosses the antimeridian.

    Raises:
        CubeError: if the ring goes once around the globe: a geographic grid has no columns at the pole.
    """
    lon = np.unwrap(lon, period=_GLOBE)
    if abs(lon[-1] - lon[0]) > _GLOBE / 2:
        raise CubeError(f"{description} contains the pole, where a geographic cube has no columns")
    return lon


def _shifted(shape: shapely.Geometry, turns: int) -> shapely.Geometry:
    return shapely.transform(shape, lambda points: points + np.array([turns * _GLOBE, 0])) if turns else shape


def _span(pixels: Points, buffer: int, slack: float, size: int) -> slice:
    start = math.floor(pixels.min() - slack) - buffer
    stop = math.ceil(pixels.max() + slack) + buffer
    return slice(min(max(start, 0), size), min(max(stop, 0), size))


def _length(window: tuple[slice, slice]) -> int:
    rows, cols = window
    return int((rows.stop - rows.start) * (cols.stop - cols.start))


def _describe(geobox: GeoBox) -> str:
    box = geobox.boundingbox
    return f"{geobox.crs} x {box.left:.6g}..{box.right:.6g}, y {box.bottom:.6g}..{box.top:.6g}"
