"""Planet images from folders: whose files are whose, which deliveries are complete, which images are wanted."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
import rasterio
import shapely

from darts_assets.errors import SceneError, SettingsError
from darts_assets.sources import SourceOptions
from darts_assets.sources.planet import PLANET_SCENES
from darts_assets.sources.planet.deliveries import read_manifest
from darts_assets.sources.planet.names import image_id, is_id, kind_of
from tests.sample_data.planet_deliveries import (
    EARLIER,
    FOUR,
    HARVEY,
    ORTHOTILE,
    S3,
    SCENE,
    find,
    write_image,
    write_manifest,
)


@pytest.mark.parametrize(
    ("name", "time", "cell"),
    [
        ("20230817_191432_2442", "2023-08-17T19:14:32", None),
        ("20230817_191432_34_2442", "2023-08-17T19:14:32.340", None),
        ("20170831_172754_101c", "2017-08-31T17:27:54", None),
        ("20220125_075509_67_1061", "2022-01-25T07:55:09.670", None),
        ("20190424_173357_1_1052", "2019-04-24T17:33:57.010", None),
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


def test_a_real_manifest_says_what_a_delivery_consists_of(shared: Path) -> None:
    order = shared / HARVEY / "order"
    promises = read_manifest(str(order / "manifest.json"), S3)
    assert [(Path(each.href).relative_to(order).name, each.size, each.checksum) for each in promises] == [
        ("20180119_XXXXXXX_XXXX_metadata.json", 1, None),  # anonymized, its digests too
        ("20180119_XXXXXXX_XXXX_3B_Visual_metadata.xml", 1, None),
        ("20180119_XXXXXXX_XXXX_3B_Visual_file_format.tif", 1000, None),
    ]


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
    raw = PLANET_SCENES.open_raw(scene, [*FOUR, "planet_udm"], SourceOptions())
    assert set(raw.attrs["checksums"]) == {*FOUR, "planet_udm"}, "verified"
    next(order.rglob(f"{SCENE}*udm2*")).unlink()
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER], "only the one that is not complete"
    assert "udm2.tif is missing" in problem


def test_an_unreadable_manifest_keeps_what_is_below_it_waiting(tmp_path: Path) -> None:
    write_image(tmp_path / "order" / "PSScene", SCENE)
    write_image(tmp_path / "other", EARLIER)
    (tmp_path / "order" / "manifest.json").write_text('{"name": "", "files": [{"pa')
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert str(tmp_path / "order" / "manifest.json") in problem
    assert "is not a complete Planet manifest" in problem


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
    with pytest.raises(SettingsError, match="nowhere: the folder does not exist"):
        find(tmp_path / "nowhere")
    write_image(tmp_path, SCENE)
    items, (problem,) = find(tmp_path / "nowhere", tmp_path)
    assert list(items) == [SCENE]
    assert "the folder does not exist" in problem
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="empty contains no Planet image"):
        PLANET_SCENES.read(str(tmp_path / "empty"), S3)
