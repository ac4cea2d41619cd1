"""What a patch holds, which are kept, and where they lie."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from darts_assets.bands import band
from darts_assets.errors import RasterError, SettingsError
from darts_assets.training.patches import PatchCounts, cut
from darts_assets.training.sample_parameters import PatchParameters

from .conftest import GRID, outlines, pixels

SMALL = PatchParameters(bands=("red", "ndvi", "tc_wetness"), patch_size=64, overlap=16)


def test_patches_cover_the_tile_and_hold_what_models_are_given(tile) -> None:
    slump = pixels(slice(10, 20), slice(50, 60))
    patches = list(cut(tile, outlines(slump), None, SMALL))
    assert [(p.row, p.col) for p in patches] == [(r, c) for r in (0, 36) for c in (0, 48, 66)]
    for patch in patches:
        assert patch.x.shape == (3, 64, 64)
        assert patch.x.dtype == np.float32
        window = np.s_[patch.row : patch.row + 64, patch.col : patch.col + 64]
        for number, name in enumerate(SMALL.bands):
            np.testing.assert_array_equal(patch.x[number], band(name).to_model(tile[name].values[window]))
        whole = np.zeros(GRID.shape, dtype=np.uint8)
        whole[10:20, 50:60] = 1
        np.testing.assert_array_equal(patch.y, whole[window])
        assert patch.empty == (not whole[window].any())
        expected = GRID[window].geographic_extent.geom
        assert patch.geometry.symmetric_difference(expected).area < 1e-9 * expected.area


def test_what_was_not_looked_at_or_is_not_of_high_quality_is_ignored(tile) -> None:
    tile["quality_data_mask"].values[30:40, :] = 1
    footprint = gpd.GeoSeries([pixels(slice(0, 100), slice(0, 90))], crs="EPSG:32608").to_crs(4326)
    labels = pd.concat(
        [outlines(pixels(slice(0, 50), slice(0, 20))), outlines(pixels(slice(45, 60), slice(0, 20)), label=2)]
    )
    patches = cut(tile, labels, footprint, PatchParameters(bands=("red",), patch_size=100, overlap=0))
    first = next(patches)
    expected = np.zeros((100, 100), dtype=np.uint8)
    expected[:50, :20] = 1
    expected[45:60, :20] = 2
    expected[30:40] = 2
    expected[:, 90:] = 2
    np.testing.assert_array_equal(first.y, expected)


def test_filters_say_what_they_dropped(tile) -> None:
    tile["ndvi"].values[0, 0] = np.nan  # one pixel of the first patch
    tile["quality_data_mask"].values[36:, 66:] = 1  # all of the last one, and of the one before more than nine tenths
    slump = outlines(pixels(slice(0, 5), slice(70, 75)))

    def kept(**more) -> tuple[list[tuple[int, int]], dict[str, int]]:
        counts = PatchCounts()
        parameters = PatchParameters(bands=SMALL.bands, patch_size=64, overlap=16, **more)
        found = [(p.row, p.col) for p in cut(tile, slump, None, parameters, counts)]
        assert counts.kept == len(found)
        return found, dict(counts.dropped)

    assert kept() == ([(0, 48), (0, 66), (36, 0), (36, 48)], {"nan": 1, "few visible": 1})
    assert kept(exclude_nan=False)[1] == {"few visible": 1}
    assert kept(min_visible=0.5) == ([(0, 48), (0, 66), (36, 0)], {"nan": 1, "few visible": 2})
    assert kept(exclude_nopositive=True) == ([(0, 48), (0, 66)], {"no slump": 3, "few visible": 1})


def test_unknown_values_are_zero_and_a_band_without_any_drops_the_patch(tile) -> None:
    parameters = PatchParameters(bands=("red", "slope"), patch_size=100, overlap=70, exclude_nan=False)
    tile["red"].values[5, 7] = np.nan
    tile["quality_data_mask"].values[8, 9] = 0
    patch = next(cut(tile, outlines(), None, parameters))
    assert patch.x[0, 5, 7] == 0
    assert (patch.x[:, 8, 9] == 0).all()
    assert (patch.y[8, 9], patch.y[5, 7]) == (2, 0)
    tile["slope"].values[:, 30:] = np.nan
    counts = PatchCounts()
    assert [p.col for p in cut(tile, outlines(), None, parameters, counts)] == [0]
    assert counts.dropped == {"no data": 1}


def test_a_tile_smaller_than_a_patch_is_filled_up_with_ignored_pixels(tile) -> None:
    (patch,) = cut(tile, outlines(), None, PatchParameters(bands=("red",), patch_size=256))
    assert (patch.y[:100, :130] == 0).all()
    assert (patch.y == 2).sum() == 256**2 - 100 * 130
    assert (patch.x[:, 100:] == 0).all()


def test_bad_input_is_named(tile) -> None:
    with pytest.raises(RasterError, match="no band swir16"):
        next(cut(tile, outlines(), None, PatchParameters(bands=("red", "swir16"))))
    with pytest.raises(SettingsError, match="unknown band 'purple'"):
        PatchParameters(bands=("purple",))
    with pytest.raises(SettingsError, match="overlap"):
        PatchParameters(overlap=1024)
