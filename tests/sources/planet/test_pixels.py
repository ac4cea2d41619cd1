"""What the pixels, classes and metadata of Planet images become."""

import datetime as dt
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely

from darts_assets.errors import RasterError, SceneError, SettingsError
from darts_assets.sources import SourceOptions
from darts_assets.sources.planet import PLANET_SCENES
from darts_assets.sources.planet.image_item import band_names
from tests.sample_data.planet_deliveries import (
    EIGHT,
    FOUR,
    HARVEY,
    NUMBERS,
    ORTHOTILE,
    SCENE,
    STRIPES,
    digital_numbers,
    find,
    scene_of,
    stripes,
    write_image,
    write_manifest,
)

OPTIONS = SourceOptions()
SIDE = 64


def test_the_real_scene_is_read_by_its_coefficients(shared: Path) -> None:
    items, problems = find(shared / HARVEY)
    assert list(items) == ["20170831_172754_101c"], "neither the anonymized order nor the SkySat beside it"
    (problem,) = problems
    assert "order/files" in problem
    assert "20180119_XXXXXXX_XXXX_3B" not in items
    scene = PLANET_SCENES.parse(items["20170831_172754_101c"])
    scales = {name: band.scale for name, band in scene.bands.items() if name in FOUR}
    assert scales == {
        "blue": 1.81512636125e-05, "green": 1.92266681265e-05, "red": 2.14155262585e-05, "nir": 3.22221688359e-05,
    }  # fmt: skip
    assert scene.datetime == dt.datetime(2017, 8, 31, 17, 27, 54, tzinfo=dt.UTC)
    assert (scene.sun_azimuth, scene.sun_elevation) == (145.42, 65.12005)
    assert scene.bands["planet_udm"].asset == "udm"
    west, south, east, north = items[scene.id]["bbox"]
    assert -96.05 < west < east < -95.7
    assert 29.5 < south < north < 29.7


def test_real_metadata_of_the_data_api_are_understood(shared: Path, tmp_path: Path) -> None:
    image = "20220125_075509_67_1061"
    write_image(tmp_path, image, metadata=False)
    real = shared / f"data/planet_client/tests/data/data_item_{image}.json"
    shutil.copyfile(real, tmp_path / image / f"{image}_metadata.json")
    scene = scene_of(tmp_path)
    said = json.loads(real.read_text())
    assert scene.datetime == dt.datetime(2022, 1, 25, 7, 55, 9, 676173, dt.UTC)
    assert (scene.sun_azimuth, scene.sun_elevation, scene.cloud_cover) == (148.0, 57.8, 0.0)
    assert scene.geometry == said["geometry"]
    assert scene.item["properties"]["instruments"] == ["PS2.SD"]


def test_real_coefficients_make_top_of_atmosphere_reflectance(shared: Path, tmp_path: Path) -> None:
    image = "20160831_180231_0e0e"
    folder = write_image(tmp_path, image, metadata=False)
    file = next(folder.glob("*_SR.tif"))
    file.rename(folder / f"{image}_3B_AnalyticMS.tif")
    real = next((shared / "data/planet_notebooks").rglob("train_scene_cropped_metadata.xml"))
    shutil.copyfile(real, folder / f"{image}_3B_AnalyticMS_metadata_clip.xml")
    scene = scene_of(tmp_path)
    assert scene.datetime == dt.datetime(2016, 8, 31, 18, 2, 31, tzinfo=dt.UTC)
    assert (scene.sun_azimuth, scene.sun_elevation) == (128.9225, 49.13498)
    assert shapely.geometry.shape(scene.geometry).bounds == pytest.approx(
        (-121.7029, 38.2280, -121.3876, 38.3630), abs=1e-4
    )
    tile = PLANET_SCENES.calibrate(PLANET_SCENES.open_raw(scene, [*FOUR, "planet_udm"], OPTIONS), {}).compute()
    coefficients = (2.2272053411087134e-05, 2.3286941101653296e-05, 2.617770294902722e-05, 3.857934042956696e-05)
    for name, coefficient in zip(FOUR, coefficients, strict=True):
        np.testing.assert_allclose(tile[name][5, 0], (NUMBERS[name] + 5) * coefficient, rtol=1e-6)
        assert tile[name].attrs["standard_name"] == "toa_bidirectional_reflectance"
    assert tile.attrs["reflectance"] == "toa"


def test_without_metadata_the_id_tells_the_time_and_a_warning_that_there_is_no_sun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path, SCENE, metadata=False)
    with caplog.at_level(logging.WARNING, "darts_assets"):
        scene = scene_of(tmp_path)
    assert f"Planet image {SCENE} in {tmp_path / SCENE}: its metadata have no sun angles" in caplog.text
    assert scene.datetime == dt.datetime(2023, 8, 17, 19, 14, 32, 340000, dt.UTC)
    assert scene.sun_azimuth is None
    with rasterio.open(scene.bands["red"].href) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    footprint = shapely.geometry.shape(scene.geometry)
    assert footprint.centroid.distance(shapely.Point((west + east) / 2, (south + north) / 2)) < 1e-3


@pytest.mark.parametrize("product", ["SR", "SR_clip"])
@pytest.mark.parametrize("image", [SCENE, ORTHOTILE])
@pytest.mark.parametrize(("bands", "described"), [(FOUR, False), (EIGHT, False), (EIGHT, True), (FOUR[::-1], True)])
def test_every_band_and_every_class_lands_where_it_should(
    tmp_path: Path, product: Any, image: str, bands: tuple[str, ...], described: bool
) -> None:
    write_image(tmp_path, image, product=product, bands=bands, described=described, side=SIDE)
    scene = scene_of(tmp_path)
    extra = {"coastal", "rededge071"} if bands == EIGHT else set()
    assert set(scene.bands) == {*FOUR, *extra, "planet_udm"}
    raw = PLANET_SCENES.open_raw(scene, list(scene.bands), OPTIONS)
    planes = dict(zip(bands, digital_numbers(bands, SIDE), strict=True))
    for name in (*FOUR, *extra):
        np.testing.assert_array_equal(raw[name].values, planes[name.replace("rededge071", "rededge")])
        assert raw[name].dtype == np.uint16
    classes = np.array([1, 2, 3, 4, 5, 6, 8, 0])[stripes(SIDE)]
    assert raw["planet_udm"].dtype == np.uint8
    assert raw["planet_udm"].attrs["flag_values"] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert raw["planet_udm"].attrs["flag_meanings"].split()[-2:] == ["cloud", "no_data"]
    np.testing.assert_array_equal(raw["planet_udm"].values, np.broadcast_to(classes, (SIDE, SIDE)))
    tile = PLANET_SCENES.calibrate(raw, {}).compute()
    expected = dict(zip(STRIPES, (2, 1, 1, 1, 1, 1, 0, 2), strict=True))
    for number, name in enumerate(STRIPES):
        column = tile.isel(x=stripes(SIDE) == number, y=slice(1, None))
        assert set(np.unique(column["quality_data_mask"])) == {expected[name]}, name
        assert bool(np.isnan(column["red"]).all()) == (name == "no data"), name
    assert not tile["quality_data_mask"][0].any(), "digital number 0"
    assert bool(np.isnan(tile["nir"][0]).all())
    np.testing.assert_allclose(tile["nir"][1:, 0], (NUMBERS["nir"] + np.arange(1, SIDE)) / 10_000, rtol=1e-6)


def test_the_stream_is_what_is_opened(tmp_path: Path) -> None:
    write_image(tmp_path, SCENE, side=SIDE)
    scene = scene_of(tmp_path)
    for bands in ([*FOUR, "planet_udm"], ["planet_udm"], ["nir"]):
        streamed = PLANET_SCENES.fetch(scene, bands, OPTIONS)
        assert streamed.bands == tuple(bands)
        opened = PLANET_SCENES.open_raw(scene, bands, OPTIONS)
        whole = streamed.collect()
        for name in bands:
            np.testing.assert_array_equal(whole[name].values, opened[name].values)
        assert streamed.geobox == PLANET_SCENES.grid(scene, OPTIONS)


def test_the_table_of_classes_can_be_changed(tmp_path: Path) -> None:
    write_image(tmp_path, SCENE, side=SIDE)
    raw = PLANET_SCENES.open_raw(scene_of(tmp_path), [*FOUR, "planet_udm"], OPTIONS)
    changed = PLANET_SCENES.calibrate(raw, {2: 2, 4: 0})["quality_data_mask"].values[1:]
    assert set(changed[:, stripes(SIDE) == STRIPES.index("snow")].ravel()) == {2}
    assert set(changed[:, stripes(SIDE) == STRIPES.index("light haze")].ravel()) == {0}
    for wrong in ({7: 1}, {9: 1}, {2: 3}):
        with pytest.raises(SettingsError, match=r"classes of 0, 1, 2, 3, 4, 5, 6, 8, and"):
            PLANET_SCENES.calibrate(raw, wrong)


def test_descriptions_that_do_not_tell_the_four_bands_are_refused() -> None:
    assert band_names(["Band 1", "Band 2", None, None]) == FOUR, "they say nothing"
    with pytest.raises(SceneError, match="bands described as blue, green, red, red edge; nir were expected"):
        band_names(["blue", "green", "red", "red_edge"])
    with pytest.raises(SceneError, match="bands described as red, red, green, blue"):
        band_names(["red", "red", "green", "blue"])


def test_contents_that_differ_from_the_manifest_are_found_on_reading(tmp_path: Path) -> None:
    folder = write_image(tmp_path, SCENE)
    write_manifest(folder)
    scene = scene_of(tmp_path)
    file = Path(scene.bands["red"].href)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RasterError, match="is damaged: its sha256 is"):
        PLANET_SCENES.open_raw(scene, ["red"], OPTIONS)
    file.write_bytes(content[:-10])
    with pytest.raises(RasterError, match="is truncated"):
        PLANET_SCENES.open_raw(scene, ["red"], OPTIONS)
