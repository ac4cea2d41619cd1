import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_assets.bands import FEATURES, TCVIS, TERRAIN
from darts_assets.errors import RasterError, SettingsError
from darts_assets.features import PreprocessParameters
from darts_assets.features.preprocess import ndvi, preprocess

PARAMETERS = PreprocessParameters()
NO_RIM = np.s_[12:-12, 12:-12]


def test_bands_grid_and_attributes(world):
    grid = world.tile(70, 90)
    scene = world.scene(grid, sun_azimuth=170.4, sun_elevation=35.6, scene="S2X")
    stream = preprocess(scene, world.elevations(grid), world.trends(grid), PARAMETERS, window_rows=32)
    assert stream.geobox == grid
    assert stream.bands == (*FEATURES, "dem", "arcticdem_data_mask", "quality_data_mask")
    assert stream.attrs == {
        "sun_azimuth": 170.4,
        "sun_elevation": 35.6,
        "scene": "S2X",
        "terrain": "darts-2025",
        "tpi_outer_radius": 100.0,
        "tpi_inner_radius": 0.0,
        "hillshade_azimuth": 170,
        "hillshade_elevation": 36,
    }
    windows = list(stream.windows)
    assert [window.sizes["y"] for window in windows] == [32, 32, 6]
    assert windows[1].odc.geobox == grid[32:64, :]
    for name in stream.bands:
        assert windows[0][name].dtype == (np.uint8 if name in TCVIS or name.endswith("mask") else np.float32)
        assert np.isfinite(windows[0][name].values).all()
    np.testing.assert_array_equal(windows[0]["red"].values, scene["red"].values[:32])


@pytest.mark.parametrize("terrain", ["darts-2025", "darts-2026", "physical"])
def test_windows_are_a_matter_of_memory_only(world, terrain):
    grid = world.tile(1100, 300)
    inputs = world.scene(grid), world.elevations(grid), world.trends(grid), PreprocessParameters(terrain=terrain)
    whole, parts = (preprocess(*inputs, window_rows=rows).collect() for rows in (1024, 100))
    for name in whole.data_vars:
        first, second = whole[name].values.astype(np.float64), parts[name].values.astype(np.float64)
        difference = np.abs(first - second)
        if name == "aspect":
            difference = np.minimum(difference, 360 - difference)
        np.testing.assert_array_equal(np.isnan(first), np.isnan(second), err_msg=name)
        assert np.nanmax(difference) < 1e-4, name


@pytest.mark.slow
def test_windows_do_not_matter_on_the_reference(reference):
    inputs = reference("optical"), reference("arcticdem"), reference("tcvis"), PARAMETERS
    whole, parts = (preprocess(*inputs, window_rows=rows).collect() for rows in (1024, 100))
    for name in whole.data_vars:
        np.testing.assert_allclose(parts[name].values, whole[name].values, rtol=0, atol=1e-6, err_msg=name)


def test_layers_that_are_not_there(world):
    grid = world.tile(30, 40)
    scene = world.scene(grid)
    scene["s2_scl"] = xr.full_like(scene["quality_data_mask"], 4)
    stream = preprocess(scene, None, None, PARAMETERS)
    assert stream.bands[-2:] == ("quality_data_mask", "s2_scl")
    assert "hillshade_azimuth" not in stream.attrs
    tile = stream.collect()
    for name in (*TERRAIN, "dem"):
        assert tile[name].dtype == np.float32
        assert np.isnan(tile[name].values).all()
    for name in (*TCVIS, "arcticdem_data_mask"):
        assert tile[name].dtype == np.uint8
        assert (tile[name].values == 0).all()
    assert (tile["s2_scl"].values == 4).all()
    assert np.isfinite(tile["ndvi"].values).all()


def test_a_hole_is_missing_there_only(world):
    grid = world.tile(200, 220)
    source = world.elevations(grid).load()
    middle = tuple(slice(size // 2 - 10, size // 2 + 10) for size in source["dem"].shape)
    source["dem"].values[middle] = np.nan
    source["arcticdem_data_mask"].values[middle] = 0
    tile = preprocess(world.scene(grid), source.chunk(64), world.trends(grid), PARAMETERS, window_rows=64).collect()
    hole = np.isnan(tile["dem"].values)
    assert 300 < hole.sum() < 500
    np.testing.assert_array_equal(tile["arcticdem_data_mask"].values == 0, hole)
    rows, columns = np.nonzero(hole)
    reach = {"relative_elevation": 10, "slope": 1, "aspect": 1, "hillshade": 1, "curvature": 1}
    for name in TERRAIN:
        missing = np.isnan(tile[name].values)
        assert missing[hole].all(), name
        box = np.s_[
            rows.min() - reach[name] : rows.max() + reach[name] + 1,
            columns.min() - reach[name] : columns.max() + reach[name] + 1,
        ]
        assert missing.sum() == missing[box].sum() > hole.sum(), name
    assert np.isfinite(tile["ndvi"].values).all()


def test_an_elevation_window_that_covers_only_half(world):
    grid = world.tile(100, 400)
    source = world.elevations(world.tile(100, 200))
    tile = preprocess(world.scene(grid), source, world.trends(grid), PARAMETERS).collect()
    assert np.isfinite(tile["relative_elevation"].values[:, :180]).all()
    assert np.isnan(tile["dem"].values[:, 300:]).all()


def test_features_are_finite_to_the_very_edge(world):
    grid = world.tile(40, 40)
    tile = preprocess(world.scene(grid), world.elevations(grid), None, PARAMETERS).collect()
    for name in TERRAIN:
        assert np.isfinite(tile[name].values).all(), name


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (7, 3)])
def test_a_tile_smaller_than_the_neighbourhood(world, shape):
    big = world.tile(60, 60)
    small = big[20 : 20 + shape[0], 30 : 30 + shape[1]]
    source = world.elevations(big)
    wide = PreprocessParameters(terrain="physical", tpi_outer_radius=150)
    tiny = preprocess(world.scene(small), source, world.trends(big), wide).collect()
    whole = preprocess(world.scene(big), source, world.trends(big), wide).collect()
    cut = whole.isel(y=slice(20, 20 + shape[0]), x=slice(30, 30 + shape[1]))
    # Shorter scanlines are approximated better by GDAL, within an eighth of a pixel.
    np.testing.assert_allclose(tiny["dem"].values, cut["dem"].values, atol=0.05)
    np.testing.assert_allclose(tiny["relative_elevation"].values, cut["relative_elevation"].values, atol=0.05)
    np.testing.assert_array_equal(tiny["tc_wetness"].values, cut["tc_wetness"].values)


def test_a_ring_leaves_out_what_is_near(world):
    grid = world.tile(80, 80)
    a = grid.transform
    peak = Transformer.from_crs(32616, 3413, always_xy=True).transform(a.c + 405, a.f - 405)

    def dome(x, y):
        return 500 - ((x - peak[0]) ** 2 + (y - peak[1]) ** 2) / 1000

    source = world.elevations(grid, dome)
    ring, disk = (
        preprocess(world.scene(grid), source, None, PreprocessParameters(tpi_inner_radius=inner)).collect()
        for inner in (80.0, 0.0)
    )
    # The mean squared distance is 100^2 / 2 in the disk, (80^2 + 100^2) / 2 in the ring, but for whole cells.
    assert disk["relative_elevation"].values[40, 40] == pytest.approx(5.0, rel=0.03)
    assert ring["relative_elevation"].values[40, 40] == pytest.approx(8.2, rel=0.03)
    with pytest.raises(SettingsError, match="must be smaller than tpi_outer_radius"):
        preprocess(world.scene(grid), source, None, PreprocessParameters(tpi_inner_radius=95.0))


def test_true_north_far_from_the_central_meridian(world):
    # 5 degrees east of the meridian of zone 16, where the grid is turned by 4.7 degrees.
    grid = world.tile(60, 60, longitude=-82.0)
    to_degrees = Transformer.from_crs(3413, 4326, always_xy=True)

    def north_slope(x, y):
        """Falls by a tenth of a metre per metre along the meridian."""
        _, latitude = to_degrees.transform(*np.broadcast_arrays(x, y))
        return 1000 - (latitude - 70) * 111_560 * 0.1

    elevations = world.elevations(grid, north_slope)
    scene = world.scene(grid, sun_azimuth=0.0, sun_elevation=30.0)
    physical, peers = (
        preprocess(scene, elevations, None, PreprocessParameters(terrain=terrain)).collect()
        for terrain in ("physical", "darts-2026")
    )
    aspect = physical["aspect"].values[NO_RIM]
    assert np.median(np.minimum(aspect, 360 - aspect)) < 0.2
    assert np.median(physical["slope"].values) == pytest.approx(np.degrees(np.arctan(0.1)), abs=0.05)
    expected = np.sin(np.radians(30) + np.arctan(0.1))
    assert np.median(physical["hillshade"].values[NO_RIM]) == pytest.approx(expected, abs=1e-3)
    # The grid itself is off by the convergence, and DARTS by another 90 degrees.
    assert np.median(peers["aspect"].values[NO_RIM]) == pytest.approx(85 + 4, abs=3)


def test_defaults_replace_an_absent_sun_with_a_warning(world, caplog):
    grid = world.tile(20, 20)
    stream = preprocess(world.scene(grid, sun_azimuth=None), world.elevations(grid), None, PARAMETERS)
    assert (stream.attrs["hillshade_azimuth"], stream.attrs["hillshade_elevation"]) == (225, 25)
    assert caplog.text.count("hillshade uses the default of") == 2


def test_a_missing_band_is_named(world):
    grid = world.tile(20, 20)
    scene, elevations, trends = world.scene(grid), world.elevations(grid), world.trends(grid)
    with pytest.raises(RasterError, match=r"scene lacks the band\(s\) nir; it has blue"):
        preprocess(scene.drop_vars("nir"), elevations, trends, PARAMETERS)
    with pytest.raises(RasterError, match=r"ArcticDEM window lacks the band\(s\) arcticdem_data_mask"):
        preprocess(scene, elevations.drop_vars("arcticdem_data_mask"), trends, PARAMETERS)
    with pytest.raises(RasterError, match=r"TCVIS window lacks the band\(s\) tc_wetness"):
        preprocess(scene, elevations, trends.drop_vars("tc_wetness"), PARAMETERS)


@pytest.mark.parametrize(
    "grid",
    [
        GeoBox((20, 20), Affine(1e-4, 0, -90, 0, -1e-4, 70), "epsg:4326"),
        GeoBox((20, 20), Affine(10, 0, 5e5, 0, 10, 7.7e6), "epsg:32616"),
        GeoBox((20, 20), Affine(10, 0, 5e5, 0, -20, 7.7e6), "epsg:32616"),
    ],
    ids=["degrees", "south up", "oblong"],
)
def test_terrain_needs_square_metres(world, grid):
    scene = world.scene(grid)
    with pytest.raises(RasterError, match="expected a north-up grid with square cells in metres"):
        preprocess(scene, world.elevations(world.tile(20, 20)), None, PARAMETERS)


@pytest.mark.parametrize("inner", [0.0, 60.0])
def test_three_metre_pixels_with_a_neighbourhood_of_34(world, inner):
    coarse = world.tile(100, 100)
    grid = GeoBox((290, 310), Affine(3, 0, coarse.transform.c, 0, -3, coarse.transform.f), coarse.crs)
    inputs = world.scene(grid), world.elevations(grid), world.trends(grid)
    parameters = PreprocessParameters(tpi_inner_radius=inner)
    whole, parts = (preprocess(*inputs, parameters, window_rows=rows).collect() for rows in (512, 60))
    for name in whole.data_vars:
        np.testing.assert_allclose(parts[name].values, whole[name].values, rtol=0, atol=1e-3, err_msg=name)
    dem = whole["dem"].values.astype(np.float64)
    offset = np.arange(-34, 35)
    squared = offset[:, None] ** 2 + offset**2
    counts = (squared <= 34**2) & ((squared > 20**2) | (inner == 0))
    # At windows' edges and far from them.
    for row, column in ((34, 34), (59, 100), (60, 200), (150, 275)):
        mean = dem[row - 34 : row + 35, column - 34 : column + 35][counts].mean()
        assert whole["relative_elevation"].values[row, column] == pytest.approx(dem[row, column] - mean, abs=1e-3)


def test_an_unreadable_layer_stops_the_stream_where_it_is_needed(world):
    grid = world.tile(600, 100)
    source = world.elevations(grid)
    damaged = Transformer.from_crs(32616, 3413, always_xy=True).transform(*(grid.affine @ (50, 590)))
    column, row = ~source.odc.geobox.affine @ damaged

    def read(block, block_info=None):
        (top, bottom), (left, right) = block_info[0]["array-location"]
        if top <= row < bottom and left <= column < right:
            raise RasterError("tile 31_09 is damaged")
        return block

    meta = np.empty((0, 0), dtype=np.float32)
    source["dem"] = source["dem"].copy(data=da.map_blocks(read, source["dem"].data.rechunk(20), meta=meta))
    windows = preprocess(world.scene(grid), source, world.trends(grid), PARAMETERS, window_rows=50).windows
    assert sum(window.sizes["y"] for window in itertools.islice(windows, 8)) == 400
    with pytest.raises(RasterError, match="tile 31_09 is damaged"):
        list(windows)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


# Two threads in rasterio at a time get in the way of each other's warning filters.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_several_scenes_at_once(world):
    grids = [world.tile(150, 200, latitude=70 + step) for step in range(3)]
    worlds = [(world.scene(grid), world.elevations(grid), world.trends(grid)) for grid in grids]
    alone = [preprocess(*inputs, PARAMETERS, window_rows=40).collect() for inputs in worlds]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda inputs: preprocess(*inputs, PARAMETERS, window_rows=40).collect(), worlds))
    for one, other in zip(alone, together, strict=True):
        xr.testing.assert_identical(one, other)


def test_ndvi_of_clipped_reflectances():
    red = np.array([0.1, 0.2, -0.02, 0.3, np.nan, -0.1], dtype=np.float32)
    nir = np.array([0.3, 0.2, 0.1, 1.5, 0.2, -0.1], dtype=np.float32)
    values = ndvi(red, nir)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0.5, 0, 1, 0.7 / 1.3, np.nan, np.nan], rtol=1e-6)
