"""Registered scenes are searched by their stored items, as a catalog would be."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import SceneError, SettingsError
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registered_scenes import find_registered
from darts_assets.orchestration.scene_discovery.registration import register_stac_items
from darts_assets.orchestration.scene_discovery.selection import SceneChoice
from tests.servers.stac_api.scene_feed import scene

PUBLISHED = dt.datetime(2023, 8, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Searches among four scenes; returns the numbers of those that match."""
    store = Store(url=str(tmp_path_factory.mktemp("store")))
    scenes = SceneRegistry(store=store, access=SourceAccess())
    items = [
        scene(0, PUBLISHED),
        scene(1, PUBLISHED, tile="08WNB"),
        scene(2, PUBLISHED, **{"eo:cloud_cover": 60.0}),
        scene(3, PUBLISHED, **{"eo:cloud_cover": None}),
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        register_stac_items(instance, scenes, SENTINEL2, items)
        instance.add_dynamic_partitions("sentinel2_scene", ["added_by_hand"])
        ids = [item["id"] for item in items]

        def search(**config: Any) -> list[int]:
            result = find_registered(SceneChoice(**config), instance=instance, scenes=scenes)
            assert result.registered.new == []
            return sorted(ids.index(scene_id) for scene_id in result.registered.scene_ids)

        yield search, items


def test_tiles_and_filters(found: Any) -> None:
    search, items = found
    assert search(tiles=["08WMB"]) == [0]
    assert search(tiles=["T08WMB", "08WNB"]) == [0, 1]
    assert search(tiles=["08WMB"], max_cloud_cover=100.0) == [0, 2, 3]
    assert search(tiles=["08WMB"], max_cloud_cover=70.0) == [0, 2]
    sensed = dt.datetime.fromisoformat(items[0]["properties"]["datetime"].replace("Z", "+00:00"))
    assert search(tiles=["08WMB"], start=f"{sensed:%Y-%m-%d}", end=f"{sensed:%Y-%m-%d}") == [0]
    assert search(tiles=["08WMB"], years=[sensed.year], months=[sensed.month]) == [0]
    assert search(tiles=["08WMB"], years=[sensed.year - 1]) == []
    assert search(tiles=["08WMB"], baseline="01.00") == []
    assert search(tiles=["08WMB"], source="earth_search") == []
    with pytest.raises(SceneError, match="8WM"):
        search(tiles=["8WM"])


def test_areas(found: Any, tmp_path: Path) -> None:
    search, items = found
    inside, outside = tmp_path / "inside.gpkg", tmp_path / "outside.gpkg"
    footprint = shapely.geometry.shape(items[0]["geometry"])
    gpd.GeoDataFrame(geometry=[footprint.centroid.buffer(0.001)], crs=4326).to_crs(3995).to_file(inside)
    gpd.GeoDataFrame(geometry=[shapely.box(10, 69, 10.1, 69.1)], crs=4326).to_file(outside)
    assert 0 in search(aoi=str(inside))
    assert search(aoi=str(outside), max_cloud_cover=100.0) == []
    with pytest.raises(SettingsError, match="exactly one of"):
        search(aoi=str(inside), tiles=["08WMB"])
