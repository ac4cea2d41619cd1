"""Planet images from folders: what is found, what is refused, and what their pixels become."""

import datetime as dt
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from planet_deliveries import (
    EARLIER,
    EIGHT,
    FOUR,
    NUMBERS,
    ORTHOTILE,
    SCENE,
    STRIPES,
    digital_numbers,
    stripes,
    write_image,
    write_manifest,
)

from darts_assets.errors import RasterError, SceneError, SettingsError
from darts_assets.scene import Scene
from darts_assets.sources import S3Options
from darts_assets.sources.planet import PLANET_SCENES, PlanetFolders
from darts_assets.sources.planet.manifest import read_manifest
from darts_assets.sources.planet.names import image_id, is_id, kind_of
from darts_assets.sources.planet.pixels import band_names

S3 = S3Options()
SIDE = 64
HARVEY = "data/planet_stactools/tests/data-files"


def find(*roots: Path, **wanted: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Items by their ids, and problems."""
    folders = PlanetFolders([str(root) for root in roots], S3)
    items = {item["id"]: item for item in folders.items(**wanted)}
    return items, folders.problems


def scene_of(root: Path) -> Scene:
    items, problems = find(root)
    assert problems == []
    (item,) = items.values()
    return PLANET_SCENES.parse(json.loads(json.dumps(item)))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "time", "cell"),
    [
        ("20230817_191432_2442", "2023-08-17T19:14:32", None),
        ("20230817_191432_34_2442", "2023-08-17T19:14:32.340", None),
        ("20170831_172754_101c", "2017-08-31T17:27:54", None),
        ("20220125_075509_67_1061", "2022-01-25T07:55:09.670", None),
        ("4500474_2133707_2021-05-20_2419", "2021-05-20", "2133707"),
        ("3949357_1454705_2020-12-01_241c", "2020-12-01", "1454705"),
    ],
)
def test_ids_of_scenes_and_orthotiles(name: str, time: str, cell: str | None) -> None:
    for text in (name, f"{name}_3B_AnalyticMS_SR.tif", f"{name}_metadata.json"):
        found = image_id(text)
        assert found is not None
        assert (found.id, found.cell) == (name, cell)
        assert found.time == dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC)
    assert is_id(name)
    assert not is_id(f"{name}_3B")


@pytest.mark.parametrize(
    "name",
    [
        "20170831_195425_SS02",  # SkySat
        "20180119_XXXXXXX_XXXX",
        "20231317_191432_2442",  # month 13
        "20230817_191432",
        "4500474_2133707_2021-05-32_2419",
        "PSScene",
        "T08WMB",
    ],
)
def test_other_names_are_no_ids(name: str) -> None:
    assert image_id(name) is None


def test_kinds_of_files() -> None:
    kinds = {
        "_SR.tif": "sr", "_SR_clip.tif": "sr", "_3B_AnalyticMS_SR_8b_harmonized_clip_reproject.tif": "sr",
        "_3B_AnalyticMS.tif": "toa", "_3B_AnalyticMS_clip_file_format.tif": "toa", "_BGRN_Analytic.tif": "toa",
        "_3B_AnalyticMS_8b.tif": "toa", "_3B_udm2.tif": "udm2", "_udm2_clip.tif": "udm2",
        "_3B_AnalyticMS_DN_udm.tif": "udm", "_metadata.json": "json", "_3B_AnalyticMS_metadata.xml": "xml",
        "_3B_AnalyticMS_metadata_clip.xml": "xml", "_3B_Visual.tif": None, "_3B_Visual_metadata.xml": None,
        "_3B_AnalyticMS_DN.tif": None, "_3B_AnalyticMS_DN_RPC.TXT": None, ".json": None, "_SR.tif.part": None,
    }  # fmt: skip
    assert {name: kind_of(SCENE + name) for name in kinds} == kinds


# --- what an image says -----------------------------------------------------------------------------------------------


def test_a_scene_and_an_orthotile_become_items(tmp_path: Path) -> None:
    write_image(tmp_path, SCENE)
    write_image(tmp_path, ORTHOTILE, product="SR_clip")
    items, problems = find(tmp_path)
    assert problems == []
    assert list(items) == [ORTHOTILE, SCENE], "by time"
    scene, tile = PLANET_SCENES.parse(items[SCENE]), PLANET_SCENES.parse(items[ORTHOTILE])
    assert (scene.source, scene.epsg, scene.tile) == ("planet", 32608, None)
    assert scene.datetime == dt.datetime(2023, 8, 17, 20, 14, 32, 340000, dt.UTC), "of the metadata, not of the id"
    assert (scene.sun_azimuth, scene.sun_elevation, scene.cloud_cover) == (171.3, 35.2, 25.0)
    assert tile.tile == "2133707"
    assert items[SCENE]["properties"]["pl:item_type"] == "PSScene"
    assert items[ORTHOTILE]["properties"]["pl:item_type"] == "PSOrthoTile"
    assert list(scene.bands) == [*FOUR, "planet_udm"]
    assert {band.scale for name, band in scene.bands.items() if name in FOUR} == {1e-4}
    assert Path(scene.bands["red"].href).is_absolute()
    with rasterio.open(scene.bands["red"].href) as file:
        assert tuple(scene.bands["red"].grid.shape) == file.shape  # type: ignore[union-attr]
        assert scene.bands["red"].grid.affine == file.transform  # type: ignore[union-attr]


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
    tile = PLANET_SCENES.calibrate(PLANET_SCENES.open_raw(scene, [*FOUR, "planet_udm"], S3), {}).compute()
    coefficients = (2.2272053411087134e-05, 2.3286941101653296e-05, 2.617770294902722e-05, 3.857934042956696e-05)
    for name, coefficient in zip(FOUR, coefficients, strict=True):
        np.testing.assert_allclose(tile[name][5, 0], (NUMBERS[name] + 5) * coefficient, rtol=1e-6)


def test_a_real_manifest_says_what_a_delivery_consists_of(shared: Path) -> None:
    order = shared / HARVEY / "order"
    promises = read_manifest(str(order / "manifest.json"), S3)
    assert [(Path(each.href).relative_to(order).name, each.size, each.checksum) for each in promises] == [
        ("20180119_XXXXXXX_XXXX_metadata.json", 1, None),  # anonymized, its digests too
        ("20180119_XXXXXXX_XXXX_3B_Visual_metadata.xml", 1, None),
        ("20180119_XXXXXXX_XXXX_3B_Visual_file_format.tif", 1000, None),
    ]


def test_without_metadata_the_id_tells_the_time_and_a_warning_that_there_is_no_sun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path, SCENE, metadata=False)
    with caplog.at_level(logging.WARNING, "darts_assets"):
        scene = scene_of(tmp_path)
    assert f"Planet image {SCENE} in {tmp_path / SCENE}: nothing tells where the sun was" in caplog.text
    assert scene.datetime == dt.datetime(2023, 8, 17, 19, 14, 32, 340000, dt.UTC)
    assert scene.sun_azimuth is None
    with rasterio.open(scene.bands["red"].href) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    footprint = shapely.geometry.shape(scene.geometry)
    assert footprint.centroid.distance(shapely.Point((west + east) / 2, (south + north) / 2)) < 1e-3


# --- pixels -----------------------------------------------------------------------------------------------------------


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
    raw = PLANET_SCENES.open_raw(scene, list(scene.bands), S3)
    planes = dict(zip(bands, digital_numbers(bands, SIDE), strict=True))
    for name in (*FOUR, *extra):
        np.testing.assert_array_equal(raw[name].values, planes[name.replace("rededge071", "rededge")])
        assert raw[name].dtype == np.uint16
    classes = np.array([1, 2, 3, 4, 5, 6, 8, 0])[stripes(SIDE)]
    assert raw["planet_udm"].dtype == np.uint8
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
        streamed = PLANET_SCENES.fetch(scene, bands, S3)
        assert streamed.bands == tuple(bands)
        opened = PLANET_SCENES.open_raw(scene, bands, S3)
        whole = streamed.collect()
        for name in bands:
            np.testing.assert_array_equal(whole[name].values, opened[name].values)
        assert streamed.geobox == PLANET_SCENES.grid(scene, S3)


def test_the_table_of_classes_can_be_changed(tmp_path: Path) -> None:
    write_image(tmp_path, SCENE, side=SIDE)
    raw = PLANET_SCENES.open_raw(scene_of(tmp_path), [*FOUR, "planet_udm"], S3)
    changed = PLANET_SCENES.calibrate(raw, {2: 2, 4: 0})["quality_data_mask"].values[1:]
    assert set(changed[:, stripes(SIDE) == STRIPES.index("snow")].ravel()) == {2}
    assert set(changed[:, stripes(SIDE) == STRIPES.index("light haze")].ravel()) == {0}
    for wrong in ({7: 1}, {9: 1}, {2: 3}):
        with pytest.raises(SettingsError, match=r"classes 0\.\.6 or 8"):
            PLANET_SCENES.calibrate(raw, wrong)


def test_descriptions_that_do_not_tell_the_four_bands_are_refused() -> None:
    assert band_names(["Band 1", "Band 2", None, None]) == FOUR, "they say nothing"
    with pytest.raises(SceneError, match="described as blue, green, red, red edge; nir were expected"):
        band_names(["blue", "green", "red", "red_edge"])
    with pytest.raises(SceneError, match="described as red, red, green, blue"):
        band_names(["red", "red", "green", "blue"])


# --- what is wrong ----------------------------------------------------------------------------------------------------


def damage_nothing(folder: Path) -> None:
    pass


def drop_mask(folder: Path) -> None:
    next(folder.glob("*udm2*")).unlink()


def drop_reflectance(folder: Path) -> None:
    next(folder.glob("*_SR.tif")).unlink()


def add_second(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    shutil.copyfile(file, file.with_name(file.name.replace("_SR", "_SR_clip")))


def truncate(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def truncate_to_header(folder: Path) -> None:
    next(folder.glob("*_SR.tif")).write_bytes(b"II*\0\x08\0\0\0")


def one_band_mask(folder: Path) -> None:
    file = next(folder.glob("*udm2*"))
    with rasterio.open(file) as source:
        profile = {**source.profile, "count": 1}
    with rasterio.open(file, "w", **profile) as target:
        target.write(np.zeros((1, *target.shape), "uint8"))


def shift_mask(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*udm2*")), "r+") as file:
        file.transform = file.transform @ rasterio.Affine.translation(20, 0)


def swap_id(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.rename(file.with_name(file.name.replace(SCENE, EARLIER)))


def break_metadata(folder: Path) -> None:
    next(folder.glob("*_metadata.json")).write_text('{"properties": ')


def half_copied(folder: Path) -> None:
    write_manifest(folder)
    file = next(folder.glob("*udm2*"))
    file.write_bytes(file.read_bytes()[:-100])


def copied_but_one(folder: Path) -> None:
    write_manifest(folder)
    next(folder.glob("*_metadata.json")).unlink()


def top_of_atmosphere_without_xml(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.rename(file.with_name(file.name.replace("_SR", "")))


WRONG: dict[str, tuple[dict[str, Any], Callable[[Path], None], str]] = {
    "no mask": ({}, drop_mask, r"has no usable data mask: \*_udm2\.tif or \*_udm2_clip\.tif was expected; its files"),
    "no reflectance": ({}, drop_reflectance, r"has no reflectance: \*_SR\.tif, .*its files: .*udm2\.tif"),
    "two files": ({}, add_second, r"has 2 files of surface reflectance \(.*_SR\.tif, .*_SR_clip\.tif\)"),
    "five bands": ({"bands": (*FOUR, "rededge")}, damage_nothing, r"_SR\.tif has 5 band\(s\); 4 were expected \(blue"),
    "three bands": ({"bands": FOUR[:3]}, damage_nothing, r"has 3 band\(s\)"),
    "no CRS": ({"crs": None}, damage_nothing, r"_SR\.tif has no CRS; a UTM zone was expected"),
    "polar CRS": ({"crs": "EPSG:3413"}, damage_nothing, "its CRS is EPSG:3413; a UTM zone was expected"),
    "truncated": ({}, truncate, r"_SR\.tif is truncated: it has \d+ bytes, a block ends at byte \d+"),
    "header only": ({}, truncate_to_header, r"_SR\.tif.* cannot be opened as a raster"),
    "old mask": ({}, one_band_mask, r"udm2\.tif has 1 band\(s\), band 8 was expected"),
    "mask elsewhere": ({}, shift_mask, r"planet_udm, file .*udm2\.tif covers .* was expected as of the other bands"),
    "other image": ({}, swap_id, f"has a file of another image: {EARLIER}_3B_AnalyticMS_SR.tif"),
    "metadata": ({}, break_metadata, "is no metadata of a Planet image"),
    "half a file": ({}, half_copied, r"is not complete, by its manifest\.json: .*udm2\.tif has \d+ of \d+ bytes$"),
    "a file missing": ({}, copied_but_one, r"is not complete, by its manifest\.json: .*_metadata\.json is missing$"),
    "no coefficients": ({}, top_of_atmosphere_without_xml, r"\(.*AnalyticMS\.tif\) without the \*_metadata\.xml"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_one_sentence_and_others_go_on(tmp_path: Path, what: str) -> None:
    arguments, damage, message = WRONG[what]
    damage(write_image(tmp_path, SCENE, **arguments))
    write_image(tmp_path, EARLIER)
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert SCENE in problem
    assert re.search(message, problem), problem


def test_top_of_atmosphere_whose_coefficients_are_not_all_there(shared: Path, tmp_path: Path) -> None:
    real = next((shared / HARVEY).rglob("20170831_172754_101c"))
    folder = Path(shutil.copytree(real, tmp_path / real.name))
    file = next(folder.glob("*_metadata.xml"))
    file.chmod(0o644)
    file.write_text(file.read_text().replace("3.22221688359e-05", "0"))
    items, (problem,) = find(tmp_path)
    assert items == {}
    assert "no reflectanceCoefficient of band 4" in problem


def test_a_folder_that_fits_neither_grammar_is_named_with_what_was_expected(tmp_path: Path) -> None:
    folder = write_image(tmp_path, SCENE)
    strange = folder.rename(tmp_path / "2023_august_17")
    for file in strange.iterdir():
        file.rename(file.with_name(file.name.replace(SCENE, "august")))
    write_image(tmp_path, EARLIER)
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert str(strange) in problem
    assert "4500474_2133707_2021-05-20_2419 in the folder of its strip" in problem


def test_files_of_an_order_are_told_apart_by_their_names(tmp_path: Path) -> None:
    """As Planet delivers an order: all images in one folder, below a manifest."""
    order = tmp_path / "8d4799c4-5291-40c0-a7f5-adb9a974455d"
    for image in (SCENE, EARLIER):
        write_image(order / "PSScene", image, flat=True)
    manifest = write_manifest(order)
    items, problems = find(tmp_path)
    assert problems == []
    assert list(items) == [EARLIER, SCENE]
    promised = {entry["path"].rpartition("/")[2]: entry for entry in json.loads(manifest.read_text())["files"]}
    for image, item in items.items():
        name = f"{image}_3B_AnalyticMS_SR.tif"
        assert item["assets"]["sr"]["href"] == str(order / "PSScene" / name)
        assert item["assets"]["sr"]["file:checksum"] == "1220" + promised[name]["digests"]["sha256"]
    scene = PLANET_SCENES.parse(items[SCENE])
    raw = PLANET_SCENES.open_raw(scene, [*FOUR, "planet_udm"], S3)
    assert set(raw.attrs["checksums"]) == {*FOUR, "planet_udm"}, "verified"
    next(order.rglob(f"{SCENE}*udm2*")).unlink()
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER], "only the one that is not complete"
    assert "udm2.tif is missing" in problem


def test_contents_that_differ_from_the_manifest_are_found_on_reading(tmp_path: Path) -> None:
    folder = write_image(tmp_path, SCENE)
    write_manifest(folder)
    scene = scene_of(tmp_path)
    file = Path(scene.bands["red"].href)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RasterError, match="is damaged: its sha256 is"):
        PLANET_SCENES.open_raw(scene, ["red"], S3)
    file.write_bytes(content[:-10])
    with pytest.raises(RasterError, match="is truncated"):
        PLANET_SCENES.open_raw(scene, ["red"], S3)


def test_an_unreadable_manifest_keeps_what_is_below_it_waiting(tmp_path: Path) -> None:
    write_image(tmp_path / "order" / "PSScene", SCENE)
    write_image(tmp_path / "other", EARLIER)
    (tmp_path / "order" / "manifest.json").write_text('{"name": "", "files": [{"pa')
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert str(tmp_path / "order" / "manifest.json") in problem
    assert "or half a one" in problem


def test_an_image_in_two_folders_is_not_taken_and_both_are_named(tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "one", SCENE), write_image(tmp_path / "two", SCENE)
    write_image(tmp_path, EARLIER)
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert str(first) in problem
    assert str(second) in problem
    items, problems = find(tmp_path / "one", tmp_path / "one" / SCENE, tmp_path / "one")
    assert (list(items), problems) == ([SCENE], []), "folders may lie in each other"


def test_links_in_a_circle_and_hidden_files_do_no_harm(tmp_path: Path) -> None:
    folder = write_image(tmp_path, SCENE)
    (folder / "up").symlink_to(tmp_path)
    shutil.copyfile(next(folder.glob("*_SR.tif")), folder / f".{SCENE}_SR_clip.tif")
    items, problems = find(tmp_path)
    assert (list(items), problems) == ([SCENE], [])


# --- which are wanted -------------------------------------------------------------------------------------------------


def test_images_are_chosen_by_id_time_and_area(tmp_path: Path) -> None:
    write_image(tmp_path, SCENE)
    write_image(tmp_path, EARLIER, where=(500000.0, 7600000.0))
    write_image(tmp_path, ORTHOTILE)
    assert list(find(tmp_path, ids=[EARLIER])[0]) == [EARLIER]
    summer = (dt.datetime(2022, 6, 1, tzinfo=dt.UTC), dt.datetime(2022, 9, 1, tzinfo=dt.UTC))
    since = (dt.datetime(2023, 8, 17, tzinfo=dt.UTC), None)
    assert list(find(tmp_path, intervals=[summer])[0]) == [EARLIER]
    assert list(find(tmp_path, intervals=[summer, since])[0]) == [EARLIER, SCENE]
    footprint = shapely.geometry.shape(find(tmp_path, ids=[SCENE])[0][SCENE]["geometry"])
    assert list(find(tmp_path, area=footprint.centroid.buffer(1e-4))[0]) == [ORTHOTILE, SCENE]
    assert find(tmp_path, area=shapely.box(0, 0, 1, 1)) == ({}, [])
    items, (problem,) = find(tmp_path, ids=[SCENE, "20200101_000000_1234"])
    assert list(items) == [SCENE]
    assert "1 Planet image(s) are not below" in problem
    assert "'20200101_000000_1234'" in problem


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere: there is no such folder"):
        find(tmp_path / "nowhere")
    write_image(tmp_path, SCENE)
    items, (problem,) = find(tmp_path / "nowhere", tmp_path)
    assert list(items) == [SCENE]
    assert "there is no such folder" in problem
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="there is no Planet image in it"):
        PLANET_SCENES.read(str(tmp_path / "empty"), S3)
