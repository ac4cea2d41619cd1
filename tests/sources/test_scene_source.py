"""Quarterly mosaics of CDSE, in their own layout and from S3."""

import datetime as dt
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from affine import Affine
from moto.server import ThreadedMotoServer
from odc.geo.geobox import GeoBox

from darts_assets.bands import band
from darts_assets.errors import RasterError, SceneError, SettingsError
from darts_assets.sources import S3Options, parse_item
from darts_assets.sources.scene_source import MOSAIC_SCENES
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from tests.servers.s3.eodata import EPSG, LEFT, MOSAIC, MOSAIC_FOLDER, TOP, Eodata, mosaic_item, raster

FILES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "observations": "observations"}
BANDS = tuple(FILES.values())
HERE = S3Options()


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    numbers = {name: random.integers(-300, 9000, (240, 240)).astype(np.int16) for name in BANDS[:4]}
    seen = random.integers(0, 9, (240, 240)).astype(np.uint16)
    for number in numbers.values():
        number[seen == 0] = -32768
    numbers["red"][0, :3] = -32768  # one band alone: also invalid
    seen[0, :3] = 5
    numbers["blue"][1, :2] = 0, -1  # reflectance 0 and below it is data
    numbers["green"][1, :2] = numbers["red"][1, :2] = numbers["nir"][1, :2] = 100
    seen[1, :2] = 3, 4
    return {**numbers, "observations": seen}


def files_of(values: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {
        asset: raster(values[name], 10, "COG", 0 if name == "observations" else -32768) for asset, name in FILES.items()
    }


@pytest.fixture
def item(tmp_path: Path, values: dict[str, np.ndarray]) -> dict[str, Any]:
    placed = {}
    for asset, content in files_of(values).items():
        (tmp_path / f"{asset}.tif").write_bytes(content)
        placed[asset] = str(tmp_path / f"{asset}.tif"), len(content)
    return mosaic_item(placed)


def test_what_the_item_says(item: dict[str, Any]) -> None:
    scene = MOSAIC_SCENES.parse(item)
    assert (scene.id, scene.source, scene.tile, scene.epsg) == (MOSAIC, "cdse_mosaic", "08WNB", EPSG)
    assert scene.datetime == dt.datetime(2024, 7, 1, tzinfo=dt.UTC)
    assert (scene.sun_azimuth, scene.sun_elevation, scene.cloud_cover, scene.processing_baseline) == (None,) * 4
    assert not scene.has_scl
    assert tuple(scene.bands) == BANDS
    blue, seen = scene.bands["blue"], scene.bands["observations"]
    assert (blue.asset, blue.scale, blue.offset, blue.nodata, blue.grid) == ("B02", 1e-4, 0, -32768, None)
    assert (seen.scale, seen.offset, seen.nodata) == (1, 0, 0)
    assert parse_item(item) == scene  # recognized by its assets, whoever parses it


def test_a_processor_version_is_no_baseline(item: dict[str, Any]) -> None:
    item["properties"]["processing:version"] = "04.00"
    assert MOSAIC_SCENES.parse(item).bands["red"].offset == 0
    item["assets"]["B04"]["raster:offset"] = -0.1
    assert MOSAIC_SCENES.parse(item).bands["red"].offset == -0.1


def test_numbers_come_out_as_they_are(item: dict[str, Any], values: dict[str, np.ndarray], caplog) -> None:
    scene = MOSAIC_SCENES.parse(item)
    with caplog.at_level(logging.WARNING):
        stream = MOSAIC_SCENES.fetch(scene, BANDS, HERE)
    assert not caplog.records  # the item's box is not taken for a grid
    assert stream.geobox == MOSAIC_SCENES.grid(scene, HERE)
    assert stream.geobox == GeoBox((240, 240), Affine(10, 0, LEFT, 0, -10, TOP), f"EPSG:{EPSG}")
    tile, raw = stream.collect(), MOSAIC_SCENES.open_raw(scene, BANDS, HERE)
    for name in BANDS:
        assert raw[name].dtype == (np.uint16 if name == "observations" else np.int16)
        assert np.array_equal(tile[name].values, values[name])
        assert np.array_equal(raw[name].values, values[name])
    attributes = raw["nir"].attrs
    assert (attributes["scale_factor"], attributes["add_offset"], attributes["_FillValue"]) == (1e-4, 0, -32768)
    assert "_FillValue" not in raw["observations"].attrs
    assert stream.attrs == {
        "scene_id": MOSAIC,
        "source": "cdse_mosaic",
        "datetime": "2024-07-01T00:00:00+00:00",
        "tile": "08WNB",
        "item_updated": "2024-10-20T10:42:38.572992Z",
    }


def assert_calibrated(tile: Any, values: dict[str, np.ndarray]) -> None:
    seen = values["observations"]
    valid = (seen > 0) & np.logical_and.reduce([values[name] != -32768 for name in BANDS[:4]])
    quality = tile["quality_data_mask"].values
    assert quality.dtype == np.uint8
    assert np.array_equal(quality, np.where(valid, np.where(seen > 3, 2, 1), 0))
    for name in BANDS[:4]:
        np.testing.assert_allclose(
            tile[name].values, np.where(valid, values[name] * 1e-4, np.nan).astype(np.float32), atol=1e-7
        )
    assert quality[0, :3].tolist() == [0, 0, 0]
    assert quality[1, :2].tolist() == [1, 2]
    np.testing.assert_allclose(tile["blue"].values[1, :2], [0, -1e-4], atol=1e-9)


def test_reflectance_and_quality(item: dict[str, Any], values: dict[str, np.ndarray], tmp_path: Path) -> None:
    scene = MOSAIC_SCENES.parse(item)
    assert_calibrated(MOSAIC_SCENES.calibrate(MOSAIC_SCENES.open_raw(scene, BANDS, HERE), {}), values)
    # Kept and read back, as the chain does it.
    place = Place(StoreLocation(str(tmp_path / "mosaic")))
    write_tile(place, MOSAIC_SCENES.fetch(scene, BANDS, HERE), metadata={}, encoded=True)
    kept = read_tile(place, BANDS, decode=False)
    assert_calibrated(MOSAIC_SCENES.calibrate(kept, {}), values)
    assert np.array_equal(band("observations").decode(kept["observations"].values), values["observations"])


def test_what_calibration_needs(item: dict[str, Any]) -> None:
    raw = MOSAIC_SCENES.open_raw(MOSAIC_SCENES.parse(item), BANDS, HERE)
    with pytest.raises(SettingsError, match=r"quality \{10: 1\}: quarterly mosaics have no classes"):
        MOSAIC_SCENES.calibrate(raw, {10: 1})
    with pytest.raises(ValueError, match="no band observations in blue, green, red, nir"):
        MOSAIC_SCENES.calibrate(raw.drop_vars("observations"), {})
    with pytest.raises(ValueError, match="no optical band"):
        MOSAIC_SCENES.calibrate(raw[["observations"]], {})


def test_scenes_are_no_mosaics(made) -> None:
    with pytest.raises(SceneError, match="is not a quarterly mosaic: the assets B02, B03, B04, B08 and observations"):
        MOSAIC_SCENES.parse(made.item)


def test_damaged_items_and_files(item: dict[str, Any], values: dict[str, np.ndarray], tmp_path: Path) -> None:
    without = {**item, "assets": {key: asset for key, asset in item["assets"].items() if key != "B08"}}
    with pytest.raises(SceneError, match=r"layout cdse_mosaic: band nir \(B08\) is missing"):
        MOSAIC_SCENES.parse(without)
    uncounted = {**item, "assets": {key: asset for key, asset in item["assets"].items() if key != "observations"}}
    with pytest.raises(SceneError, match=r"band blue \(asset B02\): its nodata value is -32768; 0 was expected"):
        MOSAIC_SCENES.parse(uncounted)
    (tmp_path / "B03.tif").write_bytes(raster(values["green"].astype(np.uint16), 10, "COG"))
    item["assets"]["B03"]["file:size"] = None
    with pytest.raises(RasterError, match=r"band green, file .*B03\.tif has values of type uint16, int16 was expected"):
        MOSAIC_SCENES.fetch(MOSAIC_SCENES.parse(item), BANDS, HERE)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_from_s3(service: str, values: dict[str, np.ndarray]) -> None:
    bucket = Eodata(boto3.client("s3", endpoint_url=service))
    placed = {
        asset: (bucket.put(f"{MOSAIC_FOLDER}/{asset}.tif", content), len(content))
        for asset, content in files_of(values).items()
    }
    scene = MOSAIC_SCENES.parse(mosaic_item(placed))
    options = S3Options(service, "us-east-1")
    tile = MOSAIC_SCENES.fetch(scene, BANDS, options).collect()
    assert_calibrated(MOSAIC_SCENES.calibrate(MOSAIC_SCENES.open_raw(scene, BANDS, options), {}), values)
    assert all(np.array_equal(tile[name].values, values[name]) for name in BANDS)
