"""Planet images found in folders and buckets become partitions of their chain, and their data are prepared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_assets.orchestration.core.partitions import PLANET, STEPS
from tests.e2e.harness import Site, reason, said, summary
from tests.sample_data.auxiliary_layers import write_layers
from tests.sample_data.planet_deliveries import EARLIER, FOUR, ORTHOTILE, SCENE, write_image, write_manifest
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

MISSPELT = "20230817_191432_XYZ"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A scene, an orthotile and an earlier scene elsewhere."""
    folder = tmp_path / "inbox"
    write_image(folder, SCENE)
    write_image(folder, ORTHOTILE, product="SR_clip")
    write_image(folder / "2022", EARLIER, where=(500000.0, 7600000.0))
    return folder


@pytest.fixture
def planet(new_site: Callable[..., Site]) -> Callable[..., Site]:
    def make(name: str = "site", **settings: Any) -> Site:
        return replace(new_site(name, **settings), family=PLANET)

    return make


def discover(site: Site, **config: Any) -> dg.ExecuteInProcessResult:
    return site.run_job("discover_planet_images", "find_planet_images", **config)


def partitions(site: Site) -> list[str]:
    return list(site.instance.get_dynamic_partitions("planet_image"))


def test_a_dry_run_counts_and_draws_and_registers_nothing(planet: Callable[..., Site], inbox: Path) -> None:
    site = planet()
    result = discover(site, folders=[str(inbox)], dry_run=True, write_ids=str(inbox.parent / "ids.json"))
    assert result.success, reason(result)
    facts = said(result)
    assert facts["result"] == "3 scenes match (0 already registered, 3 new)."
    assert facts["searched"] == str(inbox)
    assert "3 footprints" in facts["Map"]
    assert partitions(site) == []
    assert set(json.loads((inbox.parent / "ids.json").read_text())) == {SCENE, ORTHOTILE, EARLIER}


def test_images_become_partitions_with_items_and_stay_as_they_are(planet: Callable[..., Site], inbox: Path) -> None:
    site = planet(planet=(str(inbox),))
    assert discover(site).success, "DARTS_PLANET is where it looks by default"
    assert set(partitions(site)) == {SCENE, ORTHOTILE, EARLIER}
    scene = site.resource("scenes").scene(PLANET, SCENE)
    assert scene.bands["red"].href == str(inbox / SCENE / f"{SCENE}_3B_AnalyticMS_SR.tif")
    write_image(inbox / "again", SCENE, where=(500000.0, 7600000.0))
    (inbox / ORTHOTILE.split("_")[0] / ORTHOTILE / f"{ORTHOTILE}_3B_udm2_clip.tif").unlink()
    again = discover(site)
    assert said(again)["result"] == "3 scenes match (3 already registered, 0 new).", "registered ones stay as they are"
    assert site.resource("scenes").scene(PLANET, SCENE) == scene


def test_images_are_chosen_by_ids_an_area_and_days(planet: Callable[..., Site], inbox: Path, tmp_path: Path) -> None:
    site, folders = planet(), [str(inbox)]
    west, south, east, north = 499000, 7599000, 501000, 7601000
    gpd.GeoDataFrame(geometry=[shapely.box(west, south, east, north)], crs=32608).to_file(tmp_path / "area.gpkg")
    result = discover(site, folders=folders, aoi=str(tmp_path / "area.gpkg"))
    assert result.success, reason(result)
    assert "red: the requested area" in said(result)["Map"]
    assert partitions(site) == [EARLIER]
    assert discover(site, folders=folders, start="2021-05-20", end="2021-05-20").success
    assert set(partitions(site)) == {EARLIER, ORTHOTILE}
    assert (
        said(discover(site, folders=folders, years=[2019], months=[7]))["result"]
        == "0 scenes match (0 already registered, 0 new)."
    )
    assert discover(site, folders=folders, scene_ids=[SCENE, EARLIER]).success
    assert set(partitions(site)) == {EARLIER, ORTHOTILE, SCENE}
    assert discover(site, scene_ids=[SCENE]).success, "registered ids need no folder"


def test_wrong_ids_and_senseless_choices_are_named_and_others_go_on(planet: Callable[..., Site], inbox: Path) -> None:
    site, folders = planet(), [str(inbox)]
    result = discover(site, folders=folders, scene_ids=[SCENE, MISSPELT, "20200101_000000_1234"])
    assert not result.success
    assert f"1 malformed Planet image id(s): '{MISSPELT}'. Expected 20230817_191432_2442 or" in reason(result)
    assert "1 Planet image(s) are not below" in reason(result)
    assert "'20200101_000000_1234'" in reason(result)
    assert partitions(site) == [SCENE]
    for config, message in (
        ({}, "No folders to search: set folders or DARTS_PLANET"),
        (
            {"folders": folders, "scene_ids": [SCENE], "years": [2023]},
            "years: filters do not apply to images selected by id",
        ),
        ({"folders": folders, "scene_ids": [SCENE], "ids_file": "x.json"}, "scene_ids and ids_file both select images"),
        ({"folders": folders, "start": "July"}, "expected a day such as 2023-07-01"),
        ({"folders": [str(inbox / "nowhere")]}, "the folder does not exist"),
        ({"folders": ["https://planet.com/"]}, "files can be listed in folders and below s3://"),
    ):
        assert message in reason(discover(site, **config)), config


def test_every_wrong_folder_is_named_at_the_end_and_the_rest_is_registered(
    planet: Callable[..., Site], inbox: Path
) -> None:
    damaged = {
        "20230101_000001_0001": "has no usable data mask",
        "20230101_000002_0002": "has 2 files of surface reflectance",
        "20230101_000003_0003": "has 5 band(s); 4 were expected",
        "20230101_000004_0004": "has no CRS; a UTM zone was expected",
        "20230101_000005_0005": "is truncated",
        "20230101_000006_0006": "is not complete according to its manifest.json",
        "august": "neither its name nor those of its files",
    }
    ids = list(damaged)
    write_image(inbox, ids[0], udm2=False)
    write_image(write_image(inbox, ids[1]).parent / ids[1], ids[1], product="SR_clip", flat=True, udm2=False)
    write_image(inbox, ids[2], bands=(*FOUR, "rededge"))
    write_image(inbox, ids[3], crs=None)
    file = next(write_image(inbox, ids[4]).glob("*_SR.tif"))
    file.write_bytes(file.read_bytes()[:-200])
    write_manifest(folder := write_image(inbox, ids[5]))
    next(folder.glob("*udm2*")).unlink()
    for path in (strange := write_image(inbox, "20230101_000007_0007").rename(inbox / "august")).iterdir():
        path.rename(strange / path.name.replace("20230101_000007_0007", "scene"))
    site = planet()
    result = discover(site, folders=[str(inbox)])
    assert not result.success
    assert set(partitions(site)) == {SCENE, ORTHOTILE, EARLIER}
    problems = said(result)["problems"]
    assert len(problems) == len(damaged)
    for name, message in damaged.items():
        assert [message in problem for problem in problems if name in problem] == [True], name
    assert reason(result).endswith("3 scenes match (0 already registered, 3 new).")


def test_the_command_line_registers_folders_beside_items(
    planet: Callable[..., Site], inbox: Path, world: Any, tmp_path: Path
) -> None:
    site = planet()
    environment = {
        **os.environ, "DAGSTER_HOME": str(site.folder / "dagster"), "DARTS_STORE": str(site.settings.store),
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("darts-assets")), "register", str(inbox), str(world.items[0])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {SCENE, ORTHOTILE, EARLIER, world.items[0].stem}
    assert set(partitions(site)) == {SCENE, ORTHOTILE, EARLIER}
    assert list(site.instance.get_dynamic_partitions("sentinel2_scene")) == [world.items[0].stem]
    write_image(tmp_path / "bad", SCENE, udm2=False)
    done = subprocess.run([*command[:2], str(tmp_path / "bad")], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "has no usable data mask" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_are_prepared_and_the_chain_runs_offline(planet: Callable[..., Site], inbox: Path, tmp_path: Path) -> None:
    site = planet()
    image = SCENE
    assert discover(site, folders=[str(inbox)], scene_ids=[image]).success
    geobox = site.resource("raw").grid(PLANET, site.resource("scenes").scene(PLANET, image))
    site = site.using(**write_layers(tmp_path / "layers", geobox, resolution=2))
    counted = site.prepare(scenes=[image], dry_run=True)
    assert counted.success, reason(counted)
    needed = summary(counted, "choose_chunks")
    assert needed.keys() == {"arcticdem_2m", "tcvis_2024"}, "at the resolution of its family"
    result = site.run_job("prepare_planet_data", "choose_scenes", scene_ids=[image, MISSPELT])
    assert MISSPELT in reason(result)
    assert site.materialized("raw_scene") == {image}
    assert {len(site.chunks("arcticdem"))} == {needed["arcticdem_2m"]["needed"]}
    offline = site.using(offline=True)
    done = offline.run(image)
    assert done.success, reason(done)
    assert all(image in site.materialized(step) for step in STEPS)
    assert site.defs.resolve_asset_graph().get(PLANET.key("raw_scene")).pools == {"planet"}


# --- buckets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, str]]:
    """A server with the images of `inbox` in a bucket."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="planet")
    yield server, "planet"
    server.stop()


def test_a_bucket_is_searched_and_its_images_run(
    planet: Callable[..., Site], bucket: tuple[S3Server, str], inbox: Path
) -> None:
    server, name = bucket
    write_manifest(inbox)
    for path in inbox.rglob("*"):
        if path.is_file():
            server.client.upload_file(str(path), name, f"orders/{path.relative_to(inbox)}")
    server.client.delete_object(Bucket=name, Key=f"orders/2022/{EARLIER}/{EARLIER}_3B_udm2.tif")
    site = planet(source_endpoint=server.endpoint, source_region="us-east-1", auxiliary=())
    result = discover(site, folders=["s3://planet/orders/"])
    assert not result.success
    assert f"{EARLIER}_3B_udm2.tif is missing" in reason(result)
    assert set(partitions(site)) == {SCENE, ORTHOTILE}
    done = site.run(SCENE)
    assert done.success, reason(done)
    local = planet("local", auxiliary=())
    local.register(inbox / SCENE)
    assert local.run(SCENE).success
    ours, theirs = (each.load("preprocessed_tile", SCENE) for each in (site, local))
    for band in (*FOUR, "quality_data_mask"):
        np.testing.assert_array_equal(ours[band].values, theirs[band].values)
    offline = site.using(offline=True, raw_store=False)
    assert "prepare_planet_data" in reason(offline.run(ORTHOTILE, "raw_scene")), "the command that fetches it"
    assert "s3://nobucket/orders cannot be listed (NoSuchBucket)" in reason(
        discover(site, folders=["s3://nobucket/orders"])
    )
    assert "s3://planet/order: there are no objects below it" in reason(discover(site, folders=["s3://planet/order"]))
