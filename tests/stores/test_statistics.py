"""What is gathered of a tile while it is written."""

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.statistics import PREVIEW_SIDE, BandGatherer, BandStatistics
from darts_assets.stores.tiles import read_shapes, read_statistics, read_tile, write_tile
from darts_assets.tiles import TileStream, on_grid, row_windows

GRID = GeoBox((1100, 700), Affine(10, 0, 450000, 0, -10, 7720000), "EPSG:32608")


def stream(bands: dict[str, np.ndarray], rows: int = 300) -> TileStream:
    whole = on_grid(bands, GRID)
    return TileStream(GRID, tuple(bands), (whole.isel(y=window) for window in row_windows(GRID.shape[0], rows)))


@pytest.fixture
def bands() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    slope = random.uniform(-5, 130, GRID.shape).astype("float32")  # storing clips it to 0 .. 90
    slope[:400, :300] = np.nan
    classes = random.integers(0, 3, GRID.shape).astype("uint8")
    return {"slope": slope, "quality_data_mask": classes, "red": np.full(GRID.shape, np.nan, "float32")}


def test_statistics_are_of_the_values_before_they_are_stored(tmp_path, bands) -> None:
    place = Place(StoreLocation(str(tmp_path / "tile")))
    written = write_tile(place, stream(bands), metadata={})
    slope = written.statistics["slope"]
    assert slope.pixels == np.isfinite(bands["slope"]).sum()
    assert (slope.low, slope.high) == (np.nanmin(bands["slope"]), np.nanmax(bands["slope"]))
    np.testing.assert_allclose(slope.percentiles, np.nanpercentile(bands["slope"], (1, 50, 99)), atol=1.5)
    assert float(read_tile(place)["slope"].max()) == 90
    counts = np.bincount(bands["quality_data_mask"].ravel())
    assert written.statistics["quality_data_mask"].counts == dict(enumerate(counts.tolist()))
    assert written.statistics["red"] == BandStatistics(0)
    assert not written.statistics["red"].is_constant
    kept = read_statistics(place)
    assert kept["quality_data_mask"] == written.statistics["quality_data_mask"]
    assert (kept["slope"].pixels, kept["slope"].high) == (slope.pixels, slope.high)


def test_the_preview_is_every_nth_pixel_whatever_the_windows(tmp_path, bands) -> None:
    first = write_tile(Place(StoreLocation(str(tmp_path / "a"))), stream(bands, 300), metadata={})
    second = write_tile(Place(StoreLocation(str(tmp_path / "b"))), stream(bands, 7), metadata={})
    step = -(-1100 // PREVIEW_SIDE)
    for name, values in bands.items():
        np.testing.assert_array_equal(first.preview[name], values[step // 2 :: step, step // 2 :: step])
        np.testing.assert_array_equal(first.preview[name], second.preview[name])
    assert max(first.preview["slope"].shape) <= PREVIEW_SIDE


def test_probabilities_are_counted_by_percent_rounded_up(tmp_path) -> None:
    values = np.full(GRID.shape, np.nan, "float32")
    values.flat[:7] = [0, 0.001, 0.01, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.51, 1]
    place = Place(StoreLocation(str(tmp_path / "tile")))
    written = write_tile(place, stream({"probabilities": values}), metadata={})
    assert written.statistics["probabilities"].counts == {0: 1, 1: 2, 50: 1, 51: 2, 100: 1}


def test_probabilities_stored_in_percent_by_earlier_versions_are_read(tmp_path) -> None:
    stored = np.full(GRID.shape, 255, "uint8")
    stored.flat[:3] = [0, 50, 51]
    place = Place(StoreLocation(str(tmp_path / "tile")))
    written = write_tile(place, stream({"probabilities": stored}), metadata={}, encoded=True)
    assert written.statistics["probabilities"].counts == {0: 1, 50: 1, 51: 1, 255: GRID.shape[0] * GRID.shape[1] - 3}
    values = read_tile(place)["probabilities"].values
    np.testing.assert_allclose(values.flat[:4], [0, 0.5, 0.51, np.nan])


def test_infinity_is_the_largest_number() -> None:
    gatherer = BandGatherer((4, 4), None)
    values = np.ones((4, 4), "float32")
    values[0, 0] = np.inf
    gatherer.take(0, values, np.ones((4, 4), "int16"))
    statistics = gatherer.statistics()
    assert statistics.high == np.finfo("float32").max
    assert statistics.percentiles == (1, 1, 1)


def test_bands_that_stay_keep_their_statistics(tmp_path, bands) -> None:
    place = Place(StoreLocation(str(tmp_path / "tile")))
    write_tile(place, stream({"slope": bands["slope"]}), metadata={})
    slope = read_statistics(place)["slope"]
    more = {"quality_data_mask": bands["quality_data_mask"]}
    write_tile(place, stream(more), metadata={}, keep=place.require().contents)
    kept = read_statistics(place)
    assert kept["slope"] == slope
    assert kept.keys() == {"slope", "quality_data_mask"}
    assert read_shapes(place) == dict.fromkeys(("slope", "quality_data_mask"), (1100, 700))
