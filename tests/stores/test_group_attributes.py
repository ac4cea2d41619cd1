"""Tiles describe themselves to any reader: CF axes, grid mapping, names, units, flags, and where they come from."""

import json
from pathlib import Path
from typing import Any

import cf_xarray  # noqa: F401 - registers the `cf` accessor
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, OPTICAL, band
from darts_assets.stores.group_attributes import band_attributes, group_attributes
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, on_grid

GRID = GeoBox.from_bbox((500_000, 7_700_000, 500_400, 7_700_300), crs="EPSG:32608", resolution=10)
ATTRS = {
    "scene_id": "S2B_MSIL2A_20230615T210021_N0509_R000_T08WNB_20230616T000000",
    "source": "cdse",
    "datetime": "2023-06-15T21:00:21+00:00",
    "platform": "sentinel-2b",
    "sun_elevation": 44.25,
    "models": {"small": "abc"},
}
MASKS = ("quality_data_mask", "s2_scl", "planet_udm", "arcticdem_data_mask", "extent", "binarized_segmentation")
BANDS = (*dict.fromkeys((*FEATURES, "dem", "observations", "probabilities", *MASKS)),)


def written(folder: Path, attrs: dict[str, Any] = ATTRS, bands: tuple[str, ...] = BANDS) -> xr.Dataset:
    """A tile with `bands`, opened by plain xarray."""
    values = {name: np.zeros(GRID.shape, band(name).memory) for name in bands}
    place = Place(StoreLocation(str(folder)).child("tiles", "scene"))
    metadata = {"provenance": {"code_version": "0.1.0+3", "data_version": "0123"}}
    write_tile(place, TileStream(GRID, bands, iter([on_grid(values, GRID)]), attrs), metadata=metadata)
    version = next(iter(place.require().contents.values()))
    opened: xr.Dataset = xr.open_zarr(place.location.path / version, consolidated=False, chunks=None)
    return opened


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return written(tmp_path_factory.mktemp("store"))


def test_cf_xarray_finds_axes_grid_mapping_and_quantities(tile: xr.Dataset) -> None:
    assert tile.cf.axes == {"X": ["x"], "Y": ["y"]}
    assert (tile.cf["projection_x_coordinate"].name, tile.cf["projection_y_coordinate"].name) == ("x", "y")
    assert all("_FillValue" not in tile[name].encoding for name in ("x", "y")), "CF: coordinates have none"
    assert all(isinstance(tile[name].encoding.get("add_offset", 0.0), float) for name in tile.data_vars)
    assert (tile["x"].attrs["units"], tile["y"].attrs["units"]) == ("metre", "metre")
    assert tile.cf.grid_mapping_names == {"transverse_mercator": ["spatial_ref"]}
    names = tile.cf.standard_names
    assert names["normalized_difference_vegetation_index"] == ["ndvi"]
    assert names["ground_slope_angle"] == ["slope"]
    assert names["height_above_reference_ellipsoid"] == ["dem"]
    assert names["surface_bidirectional_reflectance"] == ["blue", "green", "nir", "red"]
    assert sorted(names["quality_flag"]) == ["arcticdem_data_mask", "planet_udm", "quality_data_mask"]
    assert {tile[name].attrs["grid_mapping"] for name in tile.data_vars} == {"spatial_ref"}


def test_masks_are_flag_variables(tile: xr.Dataset) -> None:
    for name in MASKS:
        flags = band(name).flags
        assert tile[name].attrs["flag_values"] == [flag.value for flag in flags]
        assert tile[name].attrs["flag_meanings"].split() == [flag.meaning for flag in flags]
        assert tile[name].cf.is_flag_variable
    assert tile["s2_scl"].attrs["flag_meanings"].split()[6] == "water"
    assert not (tile["s2_scl"].cf == "water").any()
    assert (tile["s2_scl"].cf == "no_data").all()


def test_the_group_gives_scene_date_and_origin(tile: xr.Dataset) -> None:
    attrs = tile.attrs
    assert attrs["Conventions"] == "CF-1.11"
    assert attrs["scene_id"] in attrs["title"]
    assert (attrs["source"], attrs["provider"], attrs["platform"]) == ("sentinel-2b, from cdse", "cdse", "sentinel-2b")
    assert attrs["time_coverage_start"] == attrs["datetime"] == ATTRS["datetime"]
    assert attrs["history"].endswith("Z darts_assets 0.1.0+3")
    assert json.loads(attrs["provenance"])["data_version"] == "0123"
    assert json.loads(attrs["models"]) == {"small": "abc"}
    assert all(isinstance(value, str | int | float) for value in attrs.values()), "NetCDF has no other attributes"


def test_a_tile_written_before_has_fewer_attributes_and_the_same_values(tmp_path: Path) -> None:
    new = written(tmp_path, bands=("ndvi", "s2_scl"))
    place = Place(StoreLocation(str(tmp_path)).child("tiles", "scene"))
    before = read_tile(place).compute()
    for path in tmp_path.rglob("zarr.json"):
        document = json.loads(path.read_text())
        for name in ("standard_name", "flag_values", "flag_meanings", "Conventions", "title", "axis"):
            document["attributes"].pop(name, None)
        path.write_text(json.dumps(document))
    xr.testing.assert_identical(read_tile(place).compute(), before)
    assert read_tile(place, decode=False)["ndvi"].attrs["long_name"] == new["ndvi"].attrs["long_name"]


def test_titles_tell_raw_scenes_from_tiles() -> None:
    raw = group_attributes({"item": {}}, ATTRS, ["red", "s2_scl"])
    assert raw["title"] == f"Scene {ATTRS['scene_id']}: digital numbers"
    features = group_attributes({}, ATTRS, ["red", "slope"])
    assert features["title"] == f"Scene {ATTRS['scene_id']}: reflectance and other features"
    segmented = group_attributes({}, ATTRS, ["probabilities", "probabilities-small"])
    assert segmented["title"] == f"Scene {ATTRS['scene_id']}: probabilities of thaw slumps"
    assert "source" not in group_attributes({}, {}, ["red"])


def test_reflectance_at_the_top_of_the_atmosphere_is_named_so() -> None:
    at_the_top = {**ATTRS, "reflectance": "toa"}
    assert band_attributes(band("nir"), at_the_top)["standard_name"] == "toa_bidirectional_reflectance"
    assert band_attributes(band("nir"), ATTRS)["standard_name"] == "surface_bidirectional_reflectance"
    assert "standard_name" not in band_attributes(band("hillshade"), at_the_top)


def test_units_are_known_to_udunits_and_flags_have_none() -> None:
    every = (*OPTICAL, *BANDS)
    units = {band(name).units for name in every}
    assert units == {"", "1", "m", "degree", "0.01 m-1"}
    assert {name for name in every if not band(name).description().get("units")} == set(MASKS)


def test_geographic_grids_have_latitude_and_longitude() -> None:
    tile = on_grid({}, GeoBox.from_bbox((-137, 69, -136.9, 69.1), crs="EPSG:4326", resolution=0.01))
    assert tile.cf.coordinates == {"latitude": ["y"], "longitude": ["x"]}
