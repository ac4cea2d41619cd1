"""The same acquisitions in several sources become one partition each, unless they are to be repeated."""

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, find_and_register
from darts_assets.orchestration.scene_discovery.registration import register_any, register_stac_items
from darts_assets.orchestration.scene_discovery.selection import SceneChoice
from darts_assets.settings import Settings
from darts_assets.sources.sentinel2.parse_item import asset_keys
from darts_assets.sources.stac.scene_ids import Acquisition, acquisition_of, day_of_id
from tests.sample_data.eopf_stores import PRODUCT, band_item
from tests.servers.stac_api.fixed_catalog import serving_items

TILES = ("08WMB", "08WNB", "05WMR", "54WXE", "33XVG")
LAYOUTS = {"cdse": "cdse", "earth_search": "earth_search", "planetary_computer": "sentinel2_bands"}


def item(source: str, tile: str, time: dt.datetime, *, baseline: str = "0509", strip: str = "") -> dict[str, Any]:
    """An acquisition as an item of a source."""
    made = f"{time + dt.timedelta(hours=4):%Y%m%dT%H%M%S}"
    sensed = f"{time:%Y%m%dT%H%M%S}"
    product = f"S2A_MSIL2A_{sensed}_N{baseline}_R100_T{tile}_{made}"
    ids = {
        "cdse": product,
        "earth_search": f"S2A_{tile.removeprefix('0')}_{time:%Y%m%d}_0_L2A",
        "planetary_computer": f"S2A_MSIL2A_{sensed}_R100_T{tile}_{made}",
    }
    properties: dict[str, Any] = {"datetime": f"{time:%Y-%m-%dT%H:%M:%SZ}", "eo:cloud_cover": 1, "eo:snow_cover": 0}
    properties |= {"s2:snow_ice_percentage": 0, "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_{made}_S{strip}_N05.09"}
    if source != "cdse":
        properties |= {"s2:product_uri": f"{product}.SAFE"}
    if source == "planetary_computer":
        properties |= {"s2:mgrs_tile": tile}
    assets = {
        key: {"href": f"https://host/{key}.tif", "proj:code": f"EPSG:326{tile[:2]}"}
        for band, key in asset_keys(LAYOUTS[source]).items()
        if band in ("blue", "green", "red", "nir", "s2_scl")
    }
    return {"type": "Feature", "id": ids[source], "geometry": None, "properties": properties, "assets": assets}


def acquisitions(count: int) -> list[tuple[str, dt.datetime]]:
    start = dt.datetime(2023, 6, 1, 21, 0, 21, tzinfo=dt.UTC)
    return [(TILES[n % 5], start + dt.timedelta(days=n // 5, minutes=10 * (n % 5))) for n in range(count)]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def resources(folder: Path, **settings: str) -> dict[str, Any]:
    made = Settings(store=str(folder / "store"), catalog_pause=0, **settings)
    return dict(build_defs(made).resources or {})


def registered(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_dynamic_partitions("sentinel2_scene"))


def search(instance: dg.DagsterInstance, found: dict[str, Any], **config: Any) -> DiscoveredScenes:
    choice = SceneChoice(tiles=list(TILES), years=[2023], **config)
    return find_and_register(
        choice, instance=instance, scenes=found["scenes"], catalogs=found["catalogs"], dry_run=False, log=print
    )


def test_three_catalogs_with_the_same_500_acquisitions(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    of_source = {
        source: sorted(
            (item(source, *each) for each in acquisitions(500)),
            key=lambda each: str(each["properties"]["datetime"]),
            reverse=True,
        )
        for source in LAYOUTS
    }
    searches: dict[str, list[dict[str, Any]]] = {source: [] for source in LAYOUTS}
    with ExitStack() as stack:
        urls = {s: stack.enter_context(serving_items(items, searches[s])) for s, items in of_source.items()}
        found = resources(tmp_path, **{f"{source}_url": url for source, url in urls.items()})
        first = search(instance, found, source="cdse", further_sources=["earth_search", "planetary_computer"])
        assert registered(instance) == {each["id"] for each in of_source["cdse"]}
        assert len(registered(instance)) == 500
        assert first.summary == (
            "500 scenes match (0 already registered, 500 new). 1000 of another source are the same acquisitions and "
            "are left out (see repeat_acquisitions)."
        )
        assert first.searched == list(LAYOUTS)
        second = search(instance, found, source="planetary_computer")
        assert len(registered(instance)) == 500
        assert second.summary.startswith("500 scenes match (500 already registered, 0 new). 500 of another source")
        assert set(second.registered.scene_ids) == registered(instance)
        again = search(instance, found, source="earth_search", repeat_acquisitions=True)
        assert len(again.registered.new) == 500
        assert len(registered(instance)) == 1000
        assert not again.registered.twins
    assert searches["planetary_computer"][0]["filter"]["args"][0]["property"] == "s2:mgrs_tile"
    assert "08WMB" in searches["planetary_computer"][0]["filter"]["args"][1]


def test_a_catalog_whose_ids_are_those_of_cdse(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    root = f"https://host/{PRODUCT}.zarr"
    searches: list[dict[str, Any]] = []
    with serving_items([band_item(root)], searches) as url:
        found = resources(tmp_path, eopf_url=url)
        choice = SceneChoice(scene_ids=[PRODUCT], source="eopf")
        options: dict[str, Any] = {name: found[name] for name in ("scenes", "catalogs")}
        result = find_and_register(choice, instance=instance, dry_run=False, log=print, **options)
        by_tile = search(instance, found, source="eopf")
    assert (result.registered.new, result.problems) == ([PRODUCT], [])
    assert by_tile.summary == "1 scene matches (1 already registered, 0 new)."
    assert searches[0]["ids"] == [PRODUCT]
    scene = found["scenes"].scene(SENTINEL2, PRODUCT)
    assert (scene.source, scene.bands["blue"].href) == ("eopf", f"{root}/measurements/reflectance/r10m/b02")


def test_parts_and_reprocessings_of_one_source_are_registered(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    tile, time = acquisitions(1)[0]
    scenes = resources(tmp_path)["scenes"]
    first = item("cdse", tile, time, strip="20230601T210024")
    newer = item("cdse", tile, time, baseline="0510", strip="20230601T210024")
    assert len(register_stac_items(instance, scenes, SENTINEL2, [first, newer]).new) == 2
    same = item("earth_search", tile, time, strip="20230601T210024")
    other_part = item("planetary_computer", tile, time, strip="20230601T210500")
    result = register_stac_items(instance, scenes, SENTINEL2, [same, other_part])
    assert result.twins == {same["id"]: first["id"]}
    assert result.new == [other_part["id"]]


def test_items_that_are_registered_by_hand(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    tile, time = acquisitions(1)[0]
    scenes = resources(tmp_path)["scenes"]
    paths = {}
    for source in ("cdse", "earth_search"):
        paths[source] = str(tmp_path / f"{source}.json")
        Path(paths[source]).write_text(json.dumps(item(source, tile, time)))
    notes: list[tuple[str, str]] = []
    (first,) = register_any(instance, scenes, [paths["earth_search"]])
    assert register_any(instance, scenes, [paths["cdse"]], on_twin=lambda *ids: notes.append(ids)) == [first]
    cdse = item("cdse", tile, time)["id"]
    assert notes == [(cdse, first)]
    assert registered(instance) == {first}
    assert register_any(instance, scenes, [paths["cdse"]], repeat_acquisitions=True) == [cdse]
    assert registered(instance) == {first, cdse}
    # A registered scene may be registered again, with a changed item.
    assert register_any(instance, scenes, [paths["cdse"]]) == [cdse]


def test_what_is_an_acquisition() -> None:
    expected = Acquisition("20230615T210021", "08WNB")

    def of(scene_id: str, **properties: str) -> object:
        return acquisition_of({"id": scene_id, "properties": properties})

    product = "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122"
    strip = "S2A_OPER_MSI_L2A_DS_2APS_20230616T001122_S20230615T210024_N05.09"
    assert of(product) == (expected, "")
    assert of(product, **{"eopf:datastrip_id": strip}) == (expected, "20230615T210024")
    assert of("S2A_8WNB_20230615_0_L2A", **{"s2:product_uri": f"{product}.SAFE"}) == (expected, "")
    assert of("S2A_8WNB_20230615_0_L2A", **{"s2:datatake_id": "GS2A_20230615T210021_041700_N05.09"}) == (expected, "")
    assert of("20230615T210021_20230615T210523_T08WNB") == (expected, "")
    assert of("S2A_MSIL2A_20230615T210021_R100_T08WNB_20230616T001122") == (expected, "")
    assert of("S2A_8WNB_20230615_0_L2A") is None
    assert of("demo") is None
    assert day_of_id("S2A_8WNB_20230615_0_L2A") == day_of_id(product) == dt.date(2023, 6, 15)
    assert day_of_id("20230615T210021_20230615T210523_T08WNB") == dt.date(2023, 6, 15)
    assert day_of_id("Sentinel-2_mosaic_2024_Q3_08WNB_0_0") is None
