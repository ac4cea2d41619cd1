"""Scenes appear, and Dagster's own daemon requests each of them once, however often it is killed."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.e2e.daemon import Home
from tests.sample_data.planet_deliveries import rest, write_image
from tests.servers.stac_api.scene_feed import SceneFeed, scene
from tests.servers.stac_api.server import StacApi

AREAS = """
version = 1

[[areas]]
name = "Peel"
tiles = ["08WMB"]

[[areas]]
name = "everything"
aoi = "everything.geojson"
"""
EVERYTHING = """{"type": "Polygon", "coordinates": [[[-140, 67], [-130, 67], [-130, 70], [-140, 70], [-140, 67]]]}"""


@pytest.fixture
def home(tmp_path: Path, stac_api: StacApi) -> Iterator[Home]:
    (tmp_path / "areas.toml").write_text(AREAS)
    (tmp_path / "everything.geojson").write_text(EVERYTHING)
    with Home.at(
        tmp_path / "dagster", DARTS_STORE=str(tmp_path / "store"), DARTS_CATALOG_PAUSE="0",
        DARTS_CDSE_URL=stac_api.url, DARTS_WATCH=str(tmp_path / "areas.toml"),
    ) as home:  # fmt: skip
        yield home


@pytest.mark.slow
def test_every_scene_is_requested_once(home: Home, stac_api: StacApi) -> None:
    """Three batches, the second one twice, and a daemon that is killed while it requests the first and the second."""
    feed = SceneFeed(stac_api)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    scenes = [scene(n, start + dt.timedelta(minutes=n), ("08WMB", "08WNB")[n % 2]) for n in range(90)]
    first, second, third = scenes[:30], scenes[30:60], scenes[60:]
    home.turn_on("new_sentinel2_scenes")

    feed.publish(first)
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 8)
    assert home.instance.get_runs_count() < 30, "it was killed in the middle"
    feed.publish(second)
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 38)
    assert home.instance.get_runs_count() < 60
    feed.publish([*third, *second])
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 90)
        seen = home.ticks("SKIPPED")
        home.wait(lambda: home.ticks("SKIPPED") > seen + 1)  # it has looked again, and again

    ids = sorted(item["id"] for item in scenes)
    assert sorted(home.instance.get_dynamic_partitions("sentinel2_scene")) == ids
    runs = home.instance.get_runs()
    assert Counter(run.tags["dagster/partition"] for run in runs) == Counter(ids)
    assert {run.tags["darts/area"] for run in runs} == {"Peel", "everything"}
    assert {run.status for run in runs} == {dg.DagsterRunStatus.QUEUED}
    assert home.ticks("FAILURE") == 0


@pytest.mark.slow
def test_every_planet_image_is_requested_once(tmp_path: Path) -> None:
    """Deliveries arrive while the daemon looks, one of them in halves, and it is killed while it requests them."""
    inbox = tmp_path / "inbox"
    images = [f"202308{day:02d}_191432_{day:02d}_2442" for day in range(1, 31)]
    for image in images[:20]:
        write_image(inbox, image, side=16)
    rest(inbox)
    with Home.at(tmp_path / "dagster", DARTS_STORE=str(tmp_path / "store"), DARTS_PLANET=str(inbox)) as home:
        home.turn_on("new_planet_images")
        with home.daemon():
            home.wait(lambda: home.instance.get_runs_count() >= 5)
        mask = next(write_image(inbox, images[20], side=16).glob("*udm2*"))
        content = mask.read_bytes()
        mask.write_bytes(content[:-20])
        for image in images[21:]:
            write_image(inbox, image, side=16)
        rest(inbox)
        with home.daemon():
            home.wait(lambda: home.instance.get_runs_count() >= 29)
            mask.write_bytes(content)
            rest(inbox)
            home.wait(lambda: home.instance.get_runs_count() >= 30)
            seen = home.ticks("SKIPPED")
            home.wait(lambda: home.ticks("SKIPPED") > seen + 1)
        assert sorted(home.instance.get_dynamic_partitions("planet_image")) == images
        runs = home.instance.get_runs()
        assert Counter(run.tags["dagster/partition"] for run in runs) == Counter(images)
        assert {run.job_name for run in runs} == {"planet_chain"}
        assert home.ticks("FAILURE") == 0
