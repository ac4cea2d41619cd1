"""Scenes found in a real STAC API, on loopback, become partitions of the chain: the job `discover_scenes`."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.scene_discovery.registration import register_stac_items
from darts_assets.sources import read_item
from tests.e2e.harness import Site, reason, said
from tests.servers.network.http_proxy import proxy_of
from tests.servers.stac_api.server import StacApi

NOWHERE = "http://127.0.0.1:9/"
UNKNOWN = "S2A_MSIL2A_20200101T000000_N0509_R001_T08WMB_20200101T010101"


@pytest.fixture(scope="module")
def catalog(stac_api: StacApi, world: World) -> StacApi:
    """The demo's scenes, as CDSE has them."""
    stac_api.load("sentinel-2-l2a", [read_item(str(item)) for item in world.items])
    return stac_api


@pytest.fixture
def online(new_site: Callable[..., Site], catalog: StacApi) -> Site:
    return new_site(cdse_url=catalog.url, catalog_pause=0.0)


@pytest.fixture(scope="session")
def clear(world: World) -> str:
    """The id of the clear scene, of July 2023."""
    return world.items[0].stem


@pytest.fixture(scope="session")
def cloudy(world: World) -> str:
    """The id of the scene of August 2022, 41 % of it clouds."""
    return world.items[1].stem


def discover(site: Site, **config: Any) -> dg.ExecuteInProcessResult:
    return site.run_job("discover_scenes", "find_scenes", **{"source": "cdse", **config})


def partitions(site: Site) -> list[str]:
    return list(site.instance.get_dynamic_partitions("sentinel2_scene"))


# --- the four ways ----------------------------------------------------------------------------------------------------


def test_scenes_of_tiles_become_partitions_with_items(online: Site, clear: str, cloudy: str) -> None:
    result = discover(online, tiles=["T08WMB"])
    assert result.success
    assert partitions(online) == [clear], "the other one is too cloudy"
    facts = said(result)
    assert (facts["matched"], facts["known"], facts["new"]) == (1, 0, 1)
    again = said(discover(online, tiles=["08WMB"], max_cloud_cover=100.0))
    assert (again["matched"], again["known"], again["new"]) == (2, 1, 1)
    assert [(row["scene"][10:], row["new"], row["id"]) for row in again["Names"]] == [
        (f" T08WMB {cloudy[:3]}", True, cloudy), (f" T08WMB {clear[:3]}", False, clear),
    ]  # fmt: skip
    assert [row["scene"][:4] for row in again["Names"]] == ["2022", "2023"]
    assert again["scenes"] == [{"tile": "08WMB", "2022": 1, "2023": 1, "scenes": 2, "new": 1}]
    assert set(partitions(online)) == {clear, cloudy}
    assert online.run(clear, "raw_scene").success, "the kept item is all that the chain needs"


def test_scenes_of_an_area_in_another_crs_with_months_and_years(
    online: Site, world: World, clear: str, cloudy: str, tmp_path: Path
) -> None:
    footprint = shapely.geometry.shape(read_item(str(world.items[0]))["geometry"])
    path = tmp_path / "area.gpkg"
    gpd.GeoDataFrame(geometry=[footprint.centroid.buffer(0.001)], crs=4326).to_crs(3995).to_file(path)
    assert discover(online, aoi=str(path), max_cloud_cover=100.0, months=[8], years=[2022, 2023]).success
    assert partitions(online) == [cloudy]
    facts = said(discover(online, aoi=str(path), start="2023-07-01", end="2023-07-15"))
    assert partitions(online) == [cloudy, clear]
    assert "red: the requested area" in facts["Map"]
    aside = tmp_path / "aside.geojson"
    gpd.GeoDataFrame(geometry=[shapely.box(-134, 69, -133.9, 69.1)], crs=4326).to_file(aside)
    assert said(discover(online, aoi=str(aside), max_cloud_cover=100.0))["matched"] == 0


def test_ids_go_to_a_file_and_come_back_offline(
    online: Site, clear: str, cloudy: str, tmp_path: Path, catalog: StacApi
) -> None:
    ids = tmp_path / "lists" / "ids.json"
    assert discover(online, tiles=["08WMB"], max_cloud_cover=100.0, write_ids=str(ids), dry_run=True).success
    assert json.loads(ids.read_text()) == [cloudy, clear], "by tile and time"
    assert partitions(online) == [], "a dry run registers nothing"
    assert not (Path(online.settings.store) / "scenes").exists()
    assert [path.name for path in ids.parent.iterdir()] == ["ids.json"]
    assert discover(online, ids_file=str(ids), source="auto").success
    assert partitions(online) == [cloudy, clear]
    offline = online.using(cdse_url=NOWHERE)
    facts = said(discover(offline, ids_file=str(ids), source="auto"))
    assert (facts["matched"], facts["known"], facts["new"]) == (2, 2, 0)
    assert facts["searched"] == "nothing: all scenes are registered"


def test_ids_are_asked_for_once_and_only_those_that_are_not_registered(
    new_site: Callable[..., Site], catalog: StacApi, clear: str, cloudy: str
) -> None:
    with proxy_of(catalog.url) as proxy:
        site = new_site(cdse_url=proxy.url, catalog_pause=0.0)
        assert discover(site, scene_ids=[clear], source="auto").success
        assert discover(site, scene_ids=[cloudy, clear], source="auto").success
        asked = [json.loads(request.body)["ids"] for request in proxy.requests]
    assert asked == [[clear], [cloudy]]


def test_a_partition_that_was_added_by_hand_gets_its_item(online: Site, clear: str) -> None:
    online.instance.add_dynamic_partitions("sentinel2_scene", [clear])
    assert said(discover(online, scene_ids=[clear], source="auto"))["known"] == 1
    assert online.run(clear, "raw_scene").success


# --- what is wrong, and what is not -----------------------------------------------------------------------------------


def test_nothing_matched_is_an_outcome(online: Site) -> None:
    facts = said(discover(online, tiles=["08WMB"], years=[2016]))
    assert facts["result"] == "0 scenes match (0 already registered, 0 new)."
    assert facts["matched"] == 0
    assert "map" not in facts
    assert partitions(online) == []


def test_unknown_and_malformed_ids_are_named_and_the_others_go_on(online: Site, clear: str) -> None:
    result = discover(online, scene_ids=[UNKNOWN, "nonsense", clear], source="auto")
    assert not result.success
    why = reason(result)
    assert f"'{UNKNOWN}'" in why
    assert "does not have 1 of the scene ids" in why
    assert "1 malformed scene id(s): 'nonsense'. Expected the form of one of" in why
    assert clear not in why
    assert partitions(online) == [clear]
    assert said(result)["new"] == 1


def test_malformed_tiles_are_named_and_the_others_go_on(online: Site, clear: str) -> None:
    result = discover(online, tiles=["08WMB", "99XYZ"])
    assert "1 malformed tile id(s): '99XYZ'. Expected MGRS tiles such as 33UUP" in reason(result)
    assert partitions(online) == [clear]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "No scenes selected: set exactly one of scene_ids, ids_file, tiles, aoi"),
        ({"tiles": ["08WMB"], "aoi": "area.gpkg"}, "tiles and aoi are set: set exactly one of"),
        ({"tiles": ["08WMB"], "max_cloud_cover": 101.0}, "max_cloud_cover is 101.0"),
        ({"tiles": ["08WMB"], "start": "July"}, "start 'July': expected a day such as 2023-07-01"),
        ({"aoi": "gone.gpkg"}, "there is no such file"),
        ({"ids_file": "gone.json"}, "ids_file gone.json: there is no such file"),
        ({"tiles": ["08WMB"], "quarters": [3]}, "quarters apply to mosaics"),
    ],
)
def test_senseless_choices_are_refused(online: Site, config: dict[str, Any], words: str) -> None:
    result = discover(online, **config)
    assert words in reason(result)
    assert partitions(online) == []


@pytest.mark.parametrize("content", ["[]", '{"ids": []}', "[1]", "no json"])
def test_what_is_no_file_of_ids_is_refused(online: Site, tmp_path: Path, content: str) -> None:
    path = tmp_path / "ids.json"
    path.write_text(content)
    assert f"ids_file {path}" in reason(discover(online, ids_file=str(path)))


# --- many -------------------------------------------------------------------------------------------------------------


def generated(item: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Items of many tiles and days, in the order of their days, as a catalog gives them."""
    items = []
    for number in range(count):
        one = copy.deepcopy(item)
        tile, day = f"{number % 40 + 1:02d}WMB", f"{2017 + number % 8}-07-{number // 40 % 28 + 1:02d}"
        one["id"] = f"S2A_MSIL2A_{day.replace('-', '')}T{number:06d}_N0509_R128_T{tile}_20260101T000000"
        one["properties"]["datetime"] = f"{day}T20:09:01Z"
        one["properties"]["grid:code"] = f"MGRS-{tile}"
        west = 6 * (number % 40) - 180 + number % 5
        one["geometry"] = json.loads(shapely.to_geojson(shapely.box(west, 69, west + 2, 70)))
        items.append(one)
    return items


def test_thousands_are_registered_as_they_come_by_tile_and_time(site: Site, world: World) -> None:
    count = 3000
    items = generated(read_item(str(world.items[0])), count)
    broken = {**items[7], "id": "broken", "assets": {}}
    lines: list[str] = []
    result = register_stac_items(
        site.instance, site.resource("scenes"), SENTINEL2, iter([*items, broken, items[0]]), log=lines.append
    )
    assert (len(result.scene_ids), len(result.new), result.known) == (count, count, 0)
    assert "broken" in result.unusable
    by_tile_and_time = sorted(
        items, key=lambda item: (item["properties"]["grid:code"], item["properties"]["datetime"], item["id"])
    )
    assert partitions(site) == [item["id"] for item in by_tile_and_time]
    assert lines == [f"{count} of {count} scenes registered"]
    kept = site.resource("scenes").scene(SENTINEL2, items[1234]["id"])
    assert kept.item == items[1234]
    again = register_stac_items(site.instance, site.resource("scenes"), SENTINEL2, items)
    assert (again.known, again.new) == (count, [])


def test_what_breaks_midway_adds_no_partition_and_is_taken_up_later(site: Site, world: World) -> None:
    items = generated(read_item(str(world.items[0])), 600)

    def breaking() -> Any:
        yield from items[:500]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        register_stac_items(site.instance, site.resource("scenes"), SENTINEL2, breaking())
    assert partitions(site) == [], "a scene without a partition is found again; the other way round it would be missed"
    assert len(register_stac_items(site.instance, site.resource("scenes"), SENTINEL2, items).new) == 600


def test_the_map_shows_footprints_where_they_are(online: Site, tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    facts = said(discover(online, tiles=["08WMB"]))
    picture = re.match(r"!\[\]\(data:image/webp;base64,([\w+/=]+)\)\n\ngreen: 1 footprints", facts["Map"])
    assert picture is not None
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture[1]))).convert("RGB")).astype(int)
    assert image.shape == (256, 256, 3)
    green = image[..., 1] - image[..., 0] > 25
    rows, cols = np.nonzero(green)
    assert 100 < rows.mean() < 156
    assert 100 < cols.mean() < 156
    assert len(facts["Map"]) < 30_000
