"""Keys, chunks and windows against brute force through pyproj."""

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from darts_assets.cubes import CHUNK, CubeGrid, arcticdem_spec, tcvis_spec
from darts_assets.cubes.tcvis import RESOLUTION
from darts_assets.errors import CubeError

GRIDS = [*(arcticdem_spec(resolution).grid for resolution in (2, 10, 32)), tcvis_spec(2024).grid]
ARCTICDEM = GRIDS[1]
TCVIS = GRIDS[3]


def utm(zone: int, left: float, top: float, size: int = 10980, resolution: float = 10) -> GeoBox:
    return GeoBox((size, size), Affine(resolution, 0, left, 0, -resolution, top), f"EPSG:{32600 + zone}")


def pixels_under(grid: CubeGrid, geobox: GeoBox, step: int = 61) -> tuple[np.ndarray, np.ndarray]:
    """Cube rows and columns of pixel corners: all of the edge, and a sample of the inside."""
    height, width = geobox.shape
    edge = np.arange(width + 1)
    inside = np.arange(0, width + 1, step)
    across = np.concatenate([edge, edge, np.zeros_like(edge), np.full_like(edge, width), np.tile(inside, len(inside))])
    down = np.concatenate([np.zeros_like(edge), np.full_like(edge, height), edge, edge, np.repeat(inside, len(inside))])
    transformer = Transformer.from_crs(geobox.crs.proj, grid.geobox.crs.proj, always_xy=True)
    x, y = transformer.transform(*geobox.pix2wld(across, down))
    col, row = grid.geobox.wld2pix(x, y)
    return row, col


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.prefix)
def test_key_index_and_geobox_round_trip(grid: CubeGrid) -> None:
    rows, cols = grid.shape
    for row, col in [(0, 0), (rows - 1, cols - 1), (rows // 2, cols // 3)]:
        key = grid.key(row, col)
        assert grid.parse(key) == (row, col)
        box = grid.chunk_geobox(row, col)
        assert box.shape == (CHUNK, CHUNK)
        assert grid.chunks_for(box) == [key]
        assert grid.window(box) == grid.chunk_slices(row, col)
        x, y = grid.geobox.pix2wld(col * CHUNK, row * CHUNK)
        assert (box.affine.c, box.affine.f) == pytest.approx((x, y), abs=1e-9)
        assert box.affine.e < 0


@settings(max_examples=50, deadline=None)
@given(data=st.data(), index=st.integers(0, 3))
def test_every_chunk_has_one_key(data: st.DataObject, index: int) -> None:
    grid = GRIDS[index]
    chunk = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    assert grid.parse(grid.key(*chunk)) == chunk


@pytest.mark.parametrize(
    "key",
    ["", "10m", "10m-r1-c1", "2m-r0001-c0001", "10m-r0001-c0001 ", "10m-r0801-c0000", "10m-r0000-c0801"],
)
def test_bad_keys_show_the_expected_form(key: str) -> None:
    with pytest.raises(CubeError, match="expected 10m-rNNNN-cNNNN with row up to 0800 and column up to 0800"):
        ARCTICDEM.parse(key)


def test_documented_origins_and_extents() -> None:
    for resolution in (2, 10, 32):
        box = arcticdem_spec(resolution).grid.geobox.boundingbox
        assert (box.left, box.top) == (-4_100_000, 4_100_000)
        # Padding to whole chunks, at the right and the bottom only.
        assert 4_100_000 <= box.right < 4_100_000 + CHUNK * resolution
        assert -4_100_000 >= box.bottom > -4_100_000 - CHUNK * resolution
    box = TCVIS.geobox.boundingbox
    assert (box.left, box.top) == (-180, 90)
    assert 45 >= box.bottom > 44.7
    assert TCVIS.geobox.resolution.x == RESOLUTION
    with pytest.raises(CubeError, match="not at 5 m"):
        arcticdem_spec(5)


def test_the_real_tile_index_lies_within_the_cubes_on_their_lattice(shared) -> None:
    import pyogrio

    folder = shared / "data" / "oggm" / "dem_sources" / "ArcticDEM"
    bounds = pyogrio.read_bounds(folder / "ArcticDEM_Tile_Index_Rel7_by_tile.shp")[1]
    for resolution in (2, 10, 32):
        box = arcticdem_spec(resolution).grid.geobox.boundingbox
        assert bounds[0].min() >= box.left
        assert bounds[2].max() <= box.right
        assert bounds[1].min() >= box.bottom
        assert bounds[3].max() <= box.top
        # Half tiles at coasts begin at odd multiples of 50 km, which is no whole number of 32 m.
        super_tiles = bounds[:, (bounds[2] - bounds[0] == 100_000) & (bounds[3] - bounds[1] == 100_000)]
        for edge, origin in ((super_tiles[0], box.left), (super_tiles[3], box.top)):
            np.testing.assert_array_equal((edge - origin) % resolution, 0)


@pytest.mark.parametrize("buffer", [0, 15])
@pytest.mark.parametrize(
    ("grid", "scene"),
    [
        (ARCTICDEM, utm(8, 499_980, 7_800_000)),
        (ARCTICDEM, utm(33, 300_000, 8_500_020)),
        (GRIDS[0], utm(54, 600_000, 7_900_020, 8000, 3)),
        (GRIDS[2], utm(22, 399_960, 7_300_020)),
        (TCVIS, utm(8, 499_980, 7_800_000)),
        (TCVIS, utm(33, 300_000, 8_900_020)),
    ],
)
def test_windows_hold_every_pixel_and_hardly_more(grid: CubeGrid, scene: GeoBox, buffer: int) -> None:
    row, col = pixels_under(grid, scene)
    rows, cols = grid.window(scene, buffer)
    assert rows.start + buffer <= row.min() <= rows.start + buffer + 1.02
    assert rows.stop - buffer - 1.02 <= row.max() <= rows.stop - buffer
    assert cols.start + buffer <= col.min() <= cols.start + buffer + 1.02
    assert cols.stop - buffer - 1.02 <= col.max() <= cols.stop - buffer


def test_straight_corners_would_miss_pixels() -> None:
    size = 36_600
    scene = utm(23, 445_000, 7_900_020, size, 3)  # 110 km, parallel to the cube's axes
    grid = GRIDS[0]
    row = pixels_under(grid, scene, 600)[0]
    corners = row[[0, size, size + 1, 2 * size + 1]]
    assert max(corners.min() - row.min(), row.max() - corners.max()) > 15  # pixels of 2 m
    rows = grid.window(scene)[0]
    assert rows.start <= row.min()
    assert rows.stop >= row.max()


@pytest.mark.parametrize("buffer", [0, 15])
@pytest.mark.parametrize("zone", [1, 8, 22, 33, 54])
def test_chunks_are_those_under_the_scene(zone: int, buffer: int) -> None:
    scene = utm(zone, 499_980, 7_800_000)
    row, col = pixels_under(ARCTICDEM, scene)
    touched = set()
    for dr in (-buffer, 0, buffer):
        for dc in (-buffer, 0, buffer):
            # A buffer is a distance; diagonals are reached at 1/sqrt(2) of it.
            scale = 1 if 0 in (dr, dc) else 0.7
            touched |= set(zip((row + dr * scale) // CHUNK, (col + dc * scale) // CHUNK, strict=True))
    keys = ARCTICDEM.chunks_for(scene, buffer)
    needed = {ARCTICDEM.key(int(r), int(c)) for r, c in touched}
    assert needed <= set(keys)
    assert len(keys) <= len(needed) + 4  # those that only the kernel touches
    assert keys == sorted(keys)
    rows, cols = ARCTICDEM.window(scene, buffer)
    in_window = len(range(rows.start // CHUNK, -(-rows.stop // CHUNK))) * len(
        range(cols.start // CHUNK, -(-cols.stop // CHUNK))
    )
    assert len(keys) <= in_window


def test_askew_scenes_leave_the_corners_of_their_window_out() -> None:
    scene = utm(1, 300_000, 7_800_000)  # 45 degrees askew
    rows, cols = ARCTICDEM.window(scene)
    in_window = (-(-rows.stop // CHUNK) - rows.start // CHUNK) * (-(-cols.stop // CHUNK) - cols.start // CHUNK)
    assert len(ARCTICDEM.chunks_for(scene)) < 0.7 * in_window


def test_windows_are_cropped_to_the_cube() -> None:
    edge = GeoBox((100, 100), Affine(10, 0, -4_100_500, 0, -10, 4_100_500), "EPSG:3413")
    assert ARCTICDEM.window(edge, 20) == (slice(0, 70), slice(0, 70))
    assert ARCTICDEM.chunks_for(edge, 20) == ["10m-r0000-c0000"]


def test_grids_outside_the_cube_are_refused() -> None:
    canaries = utm(28, 300_000, 3_100_020)
    assert not ARCTICDEM.overlaps(canaries)
    assert not TCVIS.overlaps(canaries)
    assert ARCTICDEM.overlaps(utm(8, 499_980, 7_800_000))
    for grid in (ARCTICDEM, TCVIS):
        with pytest.raises(CubeError, match="does not cover the grid EPSG:32628"):
            grid.window(canaries)
        with pytest.raises(CubeError, match="does not cover"):
            grid.chunks_for(canaries)
    with pytest.raises(ValueError, match="-1"):
        ARCTICDEM.window(utm(8, 499_980, 7_800_000), -1)


@pytest.mark.parametrize(("zone", "left"), [(1, 300_000), (60, 590_000)])
def test_scenes_across_the_antimeridian_have_one_narrow_window(zone: int, left: float) -> None:
    scene = utm(zone, left, 7_800_000)
    transformer = Transformer.from_crs(scene.crs.proj, "EPSG:4326", always_xy=True)
    row, col = np.meshgrid(np.arange(0, 10981, 61), np.arange(0, 10981, 61), indexing="ij")
    lon, lat = transformer.transform(*scene.pix2wld(col, row))
    assert lon.max() > 179
    assert lon.min() < -179
    rows, cols = TCVIS.window(scene)
    window = TCVIS.geobox[rows, cols].boundingbox
    east = np.where(lon < 0, lon + 360, lon)
    assert window.left <= east.min() <= window.left + 2 * RESOLUTION
    assert window.right - 2 * RESOLUTION <= east.max() <= window.right
    assert window.bottom <= lat.min()
    assert lat.max() <= window.top
    assert len(TCVIS.chunks_for(scene)) < 100


def test_just_east_of_the_antimeridian_a_buffer_reaches_across() -> None:
    box = GeoBox((100, 100), Affine(RESOLUTION, 0, -180, 0, -RESOLUTION, 70), "EPSG:4326")
    assert TCVIS.window(box)[1] == slice(0, 100)
    rows, cols = TCVIS.window(box, 10)
    assert cols.stop - cols.start in (120, 121)
    assert TCVIS.geobox[rows, cols].boundingbox.left == pytest.approx(180 - 10 * RESOLUTION, abs=RESOLUTION)


def test_the_pole() -> None:
    around = GeoBox((1000, 1000), Affine(100, 0, -50_000, 0, -100, 50_000), "EPSG:3413")
    beside = GeoBox((1000, 1000), Affine(100, 0, 500_000, 0, -100, 50_000), "EPSG:3413")
    assert ARCTICDEM.window(around) == (slice(405_000, 415_000), slice(405_000, 415_000))
    with pytest.raises(CubeError, match="contains the pole"):
        TCVIS.window(around)
    assert TCVIS.window(beside)
    cap = GeoBox((100, 3600), Affine(0.1, 0, -180, 0, -0.01, 90), "EPSG:4326")
    rows, cols = ARCTICDEM.window(cap)
    for axis, name in ((rows, "rows"), (cols, "cols")):
        assert axis.start < 400_000, name
        assert axis.stop > 420_000, name


def test_grids_that_are_too_wide_or_cannot_be_projected_are_refused() -> None:
    wide = GeoBox((10, 100), Affine(1, 0, 150, 0, -1, 75), "EPSG:4326")
    with pytest.raises(CubeError, match=r"extends to 250\.0 degrees"):
        TCVIS.window(wide)
    nowhere = GeoBox((10, 10), Affine(1e7, 0, 0, 0, -1e7, 1e9), "EPSG:32633")
    with pytest.raises(CubeError, match="EPSG:32633"):
        ARCTICDEM.window(nowhere)


# --- areas ------------------------------------------------------------------------------------------------------------

LONLAT = CRS("EPSG:4326")


def around(geobox: GeoBox) -> shapely.Polygon:
    box = geobox.boundingbox
    return shapely.box(box.left, box.bottom, box.right, box.top)


def chunks_of_points(grid: CubeGrid, geometry: shapely.Geometry, crs: CRS, step: float) -> set[str]:
    """The chunks under points inside a geometry, and nothing near its edges."""
    left, bottom, right, top = geometry.bounds
    x, y = (values.ravel() for values in np.meshgrid(np.arange(left, right, step), np.arange(bottom, top, step)))
    inside = shapely.contains_xy(geometry, x, y)
    x, y = Transformer.from_crs(crs, grid.geobox.crs.proj, always_xy=True).transform(x[inside], y[inside])
    col, row = grid.geobox.wld2pix(x, y)
    chunks = np.unique(np.stack([row // CHUNK, col // CHUNK], axis=1).astype(int), axis=0)
    return {grid.key(*chunk) for chunk in chunks}


def chunk_outlines(grid: CubeGrid, keys: list[str]) -> list[shapely.Polygon]:
    return [around(grid.chunk_geobox(*grid.parse(key))) for key in keys]


@pytest.mark.parametrize("buffer", [0, 15])
@pytest.mark.parametrize("zone", [8, 22, 33, 54])
@pytest.mark.parametrize("grid", [ARCTICDEM, TCVIS], ids=lambda grid: grid.prefix)
def test_the_area_of_a_scene_needs_the_chunks_of_the_scene(grid: CubeGrid, zone: int, buffer: int) -> None:
    scene = utm(zone, 499_980, 7_800_000)
    area, crs = around(scene), CRS(str(scene.crs))
    keys = grid.chunks_under(area, crs, buffer)
    assert set(keys) >= set(grid.chunks_for(scene, buffer))
    assert len(keys) <= len(grid.chunks_for(scene, buffer)) + 2
    assert keys == sorted(set(keys))
    in_lonlat = shapely.transform(
        shapely.segmentize(area, 500),
        lambda p: np.stack(Transformer.from_crs(crs, LONLAT, always_xy=True).transform(*p.T), 1),
    )
    assert grid.chunks_under(in_lonlat, LONLAT, buffer) == keys


def test_an_area_needs_exactly_the_chunks_that_it_touches_not_those_of_its_box() -> None:
    area = shapely.Polygon([(500_000, -1_000_000), (560_000, -1_000_000), (500_000, -1_600_000)])
    with_hole = area.difference(shapely.box(505_000, -1_150_000, 530_000, -1_050_000))
    polar = CRS("EPSG:3413")
    for shape in (area, with_hole, shapely.MultiPolygon([area, shapely.box(900_000, -900_000, 900_100, -899_900)])):
        keys = ARCTICDEM.chunks_under(shape, polar)
        everything = [ARCTICDEM.key(row, col) for row in range(485, 565) for col in range(445, 495)]
        near = shapely.intersects(shapely.buffer(shape, 2 * 10), chunk_outlines(ARCTICDEM, everything))
        assert set(keys) == {key for key, touched in zip(everything, near, strict=True) if touched}
    box = ARCTICDEM.chunks_under(shapely.box(*area.bounds), polar)
    assert len(ARCTICDEM.chunks_under(area, polar)) < 0.6 * len(box)
    assert len(ARCTICDEM.chunks_under(with_hole, polar)) < len(ARCTICDEM.chunks_under(area, polar))


def test_long_edges_are_bent_before_they_are_projected() -> None:
    parallel = shapely.box(10, 70, 70, 70.05)  # its straight chord in the polar grid is 450 km off
    keys = ARCTICDEM.chunks_under(parallel, LONLAT)
    assert set(keys) >= chunks_of_points(ARCTICDEM, parallel, LONLAT, 0.01)
    assert len(keys) < 600
    side = shapely.LineString([(-1_000_000, -1_000_000), (1_000_000, -1_000_000)])
    in_degrees = TCVIS.chunks_under(side, CRS("EPSG:3413"))
    x = np.linspace(-1e6, 1e6, 20_000)
    lon, lat = Transformer.from_crs("EPSG:3413", LONLAT, always_xy=True).transform(x, np.full_like(x, -1e6))
    col, row = TCVIS.geobox.wld2pix(lon, lat)
    assert {TCVIS.key(int(r), int(c)) for r, c in zip(row // CHUNK, col // CHUNK, strict=True)} <= set(in_degrees)


def test_points_and_lines_are_areas_too() -> None:
    assert ARCTICDEM.chunks_under(shapely.Point(0, -1_000_000), CRS("EPSG:3413")) == ["10m-r0498-c0400"]
    assert len(TCVIS.chunks_under(shapely.LineString([(20, 70), (21, 70)]), LONLAT)) in (4, 5)


WEST, EAST = shapely.box(175, 66, 180, 68), shapely.box(-180, 66, -175, 68)


@pytest.mark.parametrize(
    "area", [shapely.box(175, 66, 185, 68), shapely.box(-185, 66, -175, 68), shapely.MultiPolygon([WEST, EAST])]
)
def test_an_area_across_the_antimeridian_serves_scenes_on_it_and_on_both_sides(area: shapely.Geometry) -> None:
    keys = set(TCVIS.chunks_under(area, LONLAT))
    for lon in (176, 179, -179, -176):
        box = GeoBox((2000, 2000), Affine(RESOLUTION, 0, lon, 0, -RESOLUTION, 67.5), "EPSG:4326")
        assert set(TCVIS.chunks_for(box)) <= keys
    crossing = utm(1, 360_000, 7_500_000, 2000)
    assert TCVIS.window(crossing)[1].stop * RESOLUTION - 180 > 180
    assert set(TCVIS.chunks_for(crossing)) <= keys
    columns = {int(key[-4:]) for key in keys}
    side = math.ceil(5 / RESOLUTION / CHUNK)
    assert len(columns) <= 3 * side + 3, "from 175 to 185 and from -180 to -175, no further"
    polar = set(ARCTICDEM.chunks_under(area, LONLAT))
    assert polar == set(ARCTICDEM.chunks_under(shapely.MultiPolygon([WEST, EAST]), LONLAT))


def test_an_area_on_one_side_of_the_antimeridian_stays_there() -> None:
    for box, columns in (
        (shapely.box(-179, 66, -175, 68), range(3, 19)),
        (shapely.box(185, 66, 189, 68), range(18, 33)),
    ):
        assert {int(key[-4:]) for key in TCVIS.chunks_under(box, LONLAT)} == set(columns)


def test_areas_and_the_pole() -> None:
    cap = shapely.box(-180, 88, 180, 90)
    keys = ARCTICDEM.chunks_under(cap, LONLAT)
    assert ARCTICDEM.key(400, 400) in keys
    assert set(keys) >= chunks_of_points(ARCTICDEM, shapely.Point(0, 0).buffer(215_000), CRS("EPSG:3413"), 5_000)
    ring = ARCTICDEM.chunks_under(shapely.box(-180, 80, 180, 85), LONLAT)
    assert ARCTICDEM.key(400, 400) not in ring
    assert 26_000 < len(ring) < 29_000
    assert len(TCVIS.chunks_under(cap, LONLAT)) > 9_000, "in its own CRS a cap is a strip"
    with pytest.raises(CubeError, match="contains the pole"):
        TCVIS.chunks_under(shapely.Point(0, 0).buffer(100_000), CRS("EPSG:3413"))


def test_areas_beyond_the_cube() -> None:
    assert ARCTICDEM.chunks_under(shapely.box(-16, 27, -15, 28), LONLAT) == []
    assert TCVIS.chunks_under(shapely.box(-16, 27, -15, 28), LONLAT) == []
    half = TCVIS.chunks_under(shapely.box(10, 40, 11, 46), LONLAT)
    assert {int(key[6:10]) for key in half} == set(range(159, TCVIS.shape[0]))
    with pytest.raises(CubeError, match=r"the area EPSG:32633 .* cannot be projected"):
        ARCTICDEM.chunks_under(shapely.Point(1e9, 1e9), CRS("EPSG:32633"))


def test_a_hole_across_the_antimeridian_stays_a_hole() -> None:
    polar = CRS("EPSG:3413")
    to_polar = Transformer.from_crs(LONLAT, polar, always_xy=True).transform

    def in_polar(box: shapely.Polygon) -> shapely.Polygon:
        return shapely.transform(shapely.segmentize(box, 0.05), lambda p: np.stack(to_polar(*p.T), axis=1))

    outer, hole = shapely.box(170, 66, 190, 74), shapely.box(176, 68, 184, 72)
    keys = TCVIS.chunks_under(in_polar(outer).difference(in_polar(hole)), polar)
    filled = TCVIS.chunks_under(in_polar(outer), polar)
    inside = {TCVIS.key(*(int(n) // CHUNK for n in TCVIS.geobox.wld2pix(lon, 70)[::-1])) for lon in (178, 180, 182)}
    assert inside <= set(filled)
    assert inside.isdisjoint(keys)
    assert set(keys) == set(TCVIS.chunks_under(outer.difference(hole), LONLAT))
