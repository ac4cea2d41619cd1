"""The steps as functions, against the chain in memory; the demo's world is the scene."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

import darts_assets
from darts_assets.bands import FEATURES
from darts_assets.errors import RasterError
from darts_assets.tiles import on_grid


def scene_of(value: float, size: int = 40) -> xr.Dataset:
    geobox = GeoBox.from_bbox((500000, 7600000, 500000 + 10 * size, 7600000 + 10 * size), "EPSG:32608", resolution=10)
    values = np.full(geobox.shape, value, dtype=np.float32)
    values[0, 0] = np.nan
    return on_grid(dict.fromkeys(("blue", "green", "red", "nir"), values), geobox)


def test_a_scene_without_quality_is_good_where_it_has_values() -> None:
    optical = scene_of(0.2)
    tile = darts_assets.preprocess(optical)
    assert set(FEATURES) <= set(tile.data_vars)
    assert tile["quality_data_mask"].values[0, 0] == 0
    assert (tile["quality_data_mask"].values.ravel()[1:] == 2).all()
    assert np.isnan(optical["red"].values[0, 0])  # the input is unchanged
    assert np.isnan(tile["slope"].values).all()


def test_quality_of_ones_own_counts_where_the_bands_are_valid() -> None:
    optical = scene_of(0.2)
    mask = np.ones((40, 40), dtype=np.int64)
    tile = darts_assets.preprocess(optical.assign(quality_data_mask=(("y", "x"), mask)))
    assert tile["quality_data_mask"].dtype == np.uint8
    assert np.unique(tile["quality_data_mask"], return_counts=True)[1].tolist() == [1, 1599]


def test_digital_numbers_are_refused() -> None:
    with pytest.raises(RasterError, match=r"band blue: the median is .* Apply the scale and offset"):
        darts_assets.preprocess(scene_of(2000.0))


def test_a_missing_band_is_named() -> None:
    with pytest.raises(RasterError, match=r"lacks the band\(s\) nir; it has blue, green, red"):
        darts_assets.preprocess(scene_of(0.2).drop_vars("nir"))


def test_the_api_loads_without_dagster() -> None:
    names = ", ".join(f"darts_assets.{name}" for name in darts_assets.__all__)
    script = (
        f"import sys, darts_assets; early = set(sys.modules); {names}; "
        "print('xarray' in early, 'dagster' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
