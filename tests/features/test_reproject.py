import dask.array as da
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_assets.cubes.tcvis import tcvis_spec
from darts_assets.features.reproject import BLOCK_COLUMNS, reproject
from darts_assets.tiles import on_grid, row_windows

ACROSS_180 = {
    "01UBS": (199980, 5700000), "01UBT": (199980, 5800020), "01VCK": (300000, 7000020), "01VCL": (300000, 7100040),
    "01WCM": (300000, 7200000), "01WCN": (300000, 7300020), "01WCP": (300000, 7400040), "01WCQ": (300000, 7500000),
    "01WCR": (300000, 7600020), "01WCS": (300000, 7700040), "01WCT": (300000, 7800000), "01WCU": (300000, 7900020),
    "01WCV": (300000, 8000040), "60UXB": (600000, 5700000), "60UXC": (600000, 5800020), "60VXQ": (600000, 7000020),
    "60VXR": (600000, 7100040), "60WWD": (499980, 7900020), "60WWE": (499980, 8000040),
}  # fmt: skip
"""Left and top edge of the Sentinel-2 tiles on both sides of the antimeridian."""


def in_windows(source, names, grid, rows: int) -> dict[str, np.ndarray]:
    parts = [reproject(source, names, grid[window, :]) for window in row_windows(grid.shape[0], rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def test_every_cell_lands_where_it_belongs(world):
    grid = world.tile(300, 400)
    found = reproject(world.elevations(grid, lambda x, y: x + 0 * y), ("dem",), grid)["dem"]
    a = grid.transform
    columns, rows = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    x, _ = Transformer.from_crs(32616, 3413, always_xy=True).transform(a.c + a.a * columns, a.f + a.e * rows)
    # GDAL promises an eighth of a source pixel; float32 keeps 1/8 m of coordinates of that size.
    assert np.abs(found - x).max() < 10 / 8 + 1 / 8


@pytest.mark.parametrize("shape", [(600, 600), (150, BLOCK_COLUMNS + 200)])
def test_windows_leave_no_trace_at_an_angle(world, shape):
    grid = world.tile(*shape)
    source = world.elevations(grid)
    whole = reproject(source, ("dem", "arcticdem_data_mask"), grid)
    assert np.isfinite(whole["dem"]).all()
    assert (whole["arcticdem_data_mask"] == 1).all()
    # Source windows begin at other pixels, which moves coordinates by some 1e-9 pixel.
    np.testing.assert_allclose(in_windows(source, ("dem",), grid, 61)["dem"], whole["dem"], rtol=0, atol=1e-3)


def test_blocks_meet_without_a_step(world):
    grid = world.tile(40, BLOCK_COLUMNS + 200)
    dem = reproject(world.elevations(grid), ("dem",), grid)["dem"]
    bends = np.abs(np.diff(dem, n=2, axis=1))
    seam = bends[:, BLOCK_COLUMNS - 3 : BLOCK_COLUMNS + 1]
    assert seam.max() <= bends[:, BLOCK_COLUMNS - 200 : BLOCK_COLUMNS + 197].max()


def test_only_what_lies_under_the_window_is_read(world):
    grid = world.tile(1200, 1200)
    source = world.elevations(grid)
    read = []

    def counting(block):
        read.append(block.size)
        return block

    meta = np.empty((0, 0), dtype=np.float32)
    source["dem"] = source["dem"].copy(data=da.map_blocks(counting, source["dem"].data, dtype=np.float32, meta=meta))
    reproject(source, ("dem",), grid[:32, :])
    assert 0 < sum(read) < source["dem"].size / 2


def test_dimensions_of_any_name(world):
    grid = world.tile(50, 60)
    source = world.trends(grid)
    geographic = source.rename(y="latitude", x="longitude")
    expected = reproject(source, ("tc_wetness",), grid)["tc_wetness"]
    assert expected.dtype == np.uint8
    assert expected.min() > 0
    np.testing.assert_array_equal(reproject(geographic, ("tc_wetness",), grid)["tc_wetness"], expected)


def trend(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """A smooth pattern without a step at the antimeridian, 28..228; periods of 0.2 degrees."""
    return 128 + 50 * np.sin(np.radians(1800 * lon)) + 50 * np.cos(np.radians(1800 * lat))


@pytest.mark.parametrize(
    "tile", [tile if tile in ("01VCK", "60WWE") else pytest.param(tile, marks=pytest.mark.slow) for tile in ACROSS_180]
)
def test_tiles_across_the_antimeridian_lose_nothing(tile):
    left, top = ACROSS_180[tile]
    scene = GeoBox((10980, 10980), Affine(10, 0, left, 0, -10, top), f"EPSG:326{tile[:2]}")
    cube = tcvis_spec(2024).grid
    window = cube.geobox[cube.window(scene)]
    assert window.boundingbox.left < 180 < window.boundingbox.right
    a = window.affine
    read = []

    def block(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        read.append(columns.size)
        return np.rint(trend(a.c + a.a * (columns + 0.5), a.f + a.e * (rows + 0.5))).astype(np.uint8)

    height, width = window.shape
    indices = da.broadcast_arrays(da.arange(width, chunks=1024)[None, :], da.arange(height, chunks=64)[:, None])
    values = da.map_blocks(block, *indices, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    source = on_grid({"tc_greenness": values}, window)
    to_degrees = Transformer.from_crs(scene.crs, 4326, always_xy=True)
    for start in (0, 5000, 10980 - 8):
        strip = scene[start : start + 8, :]
        warped = reproject(source, ("tc_greenness",), strip)["tc_greenness"]
        columns, rows = np.meshgrid(np.arange(10980) + 0.5, np.arange(8) + 0.5)
        expected = trend(*to_degrees.transform(*strip.pix2wld(columns, rows)))
        # Half a step each of the source's and the result's rounding, and an eighth of a pixel, which GDAL permits.
        assert np.abs(warped - expected).max() < 1.6
    assert sum(read) < 0.5 * height * width


def test_a_source_elsewhere_gives_nothing(world):
    here, elsewhere = world.tile(50, 60), world.tile(50, 60, latitude=72)
    found = reproject(world.elevations(elsewhere), ("dem", "arcticdem_data_mask"), here)
    assert np.isnan(found["dem"]).all()
    assert (found["arcticdem_data_mask"] == 0).all()


def test_a_hole_changes_nothing_where_it_does_not_reach(world):
    grid = world.tile(300, 300)
    source = world.elevations(grid).load()
    before = reproject(source, ("dem",), grid)["dem"]
    middle = tuple(slice(size // 2 - 10, size // 2 + 10) for size in source["dem"].shape)
    source["dem"].values[middle] = np.nan
    after = reproject(source, ("dem",), grid)["dem"]
    hole = np.isnan(after)
    assert 300 < hole.sum() < 500
    # Cubic interpolation reaches two pixels of the source.
    rows, columns = np.nonzero(hole)
    after[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = np.nan
    untouched = np.isfinite(after)
    assert untouched.sum() > 0.97 * after.size
    np.testing.assert_array_equal(after[untouched], before[untouched])


def test_a_constant_band_ends_where_the_source_ends(world):
    grid = world.tile(100, 400)
    half = world.elevations(world.tile(100, 200)).load()
    found = reproject(half, ("arcticdem_data_mask", "dem"), grid)
    np.testing.assert_array_equal(found["arcticdem_data_mask"] == 1, np.isfinite(found["dem"]))
    assert (found["arcticdem_data_mask"] == 0).sum() > 5000


@pytest.mark.slow
def test_every_time_the_same_bits(world):
    grid = world.tile(400, BLOCK_COLUMNS + 300)
    source, trends = world.elevations(grid), world.trends(grid)
    first = reproject(source, ("dem",), grid) | reproject(trends, ("tc_wetness",), grid)
    for _ in range(3):
        again = reproject(source, ("dem",), grid) | reproject(trends, ("tc_wetness",), grid)
        for name, values in first.items():
            np.testing.assert_array_equal(again[name], values)
