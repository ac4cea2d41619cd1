"""The table of all items: equal to the items of the tree, read by GeoPandas and DuckDB, updated row by row."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import pyarrow.parquet as pq
import pystac
import pytest

from darts_assets.catalog import items_table
from darts_assets.catalog.catalog_store import Tree
from darts_assets.catalog.items_table import read_items, update_items_table
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation

from .conftest import ANTIMERIDIAN, YAMAL, clone


@pytest.fixture
def update(root: StoreLocation) -> Callable[[], Any]:
    return lambda **more: update_stac(root, ["sentinel2", "planet"], [], licence="CC-BY-4.0", **more)


def table_of(root: StoreLocation) -> Path:
    return root.path / "catalog" / "stac" / "sentinel2" / "items.parquet"


def rows(root: StoreLocation) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in read_items(pq.read_table(table_of(root)))}


def test_rows_are_the_items_of_the_tree(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a", has_tiles=True)
    put("scene-b", YAMAL, products=("probabilities",), when="2021-08-01T07:00:00+00:00")
    put("scene-c", ANTIMERIDIAN, objects=0)
    update()
    found = rows(root)
    assert list(found) == ["scene-a", "scene-b", "scene-c"]
    collection = pystac.Collection.from_file(str(table_of(root).parent / "collection.json"))
    mirror = collection.assets["items"]
    assert mirror.roles == ["collection-mirror", "stac-items"]
    assert Path(mirror.get_absolute_href()) == table_of(root)
    for item in collection.get_items():
        row = pystac.Item.from_dict(found[item.id], href=str(table_of(root)), preserve_dict=False)
        assert row.geometry == json.loads(json.dumps(item.to_dict()["geometry"]))
        assert row.bbox == item.bbox
        assert row.datetime == item.datetime
        differing = {name for name in item.properties if row.properties[name] != item.properties[name]}
        assert differing <= {"created", "datetime"}  # texts of times
        assert row.assets.keys() == item.assets.keys()
        for key, asset in item.assets.items():
            here = {**row.assets[key].to_dict(), "href": row.assets[key].get_absolute_href()}
            assert here == {**asset.to_dict(), "href": asset.get_absolute_href()}
        own = found[item.id]["links"][0]
        assert own["rel"] == "self"
        assert str((table_of(root).parent / own["href"]).resolve()) == item.get_self_href()
        targets, others = (
            {link.get_absolute_href() for link in each.links if link.rel != "self"} for each in (item, row)
        )
        assert targets == others


def test_other_programs_read_it(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    put("scene-b", YAMAL, when="2021-08-01T07:00:00+00:00")
    update()
    frame = gpd.read_parquet(table_of(root), bbox=(-140, 60, -130, 72))
    assert frame["id"].tolist() == ["scene-a"]
    assert frame.crs == "EPSG:4326"
    query = f"SELECT id, year(datetime), assets.probabilities.href FROM read_parquet('{table_of(root)}') ORDER BY id"
    (first, second) = duckdb.sql(query).fetchall()
    assert (first[:2], second[:2]) == (("scene-a", 2023), ("scene-b", 2021))
    assert (table_of(root).parent / first[2]).resolve().is_file()


def test_only_rows_of_changed_items_are_read(
    root: StoreLocation, put: Callable[..., int], update: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("scene-a")
    for name in ("scene-b", "scene-c", "scene-d"):
        clone(root, "scene-a", name)
    update()
    read: list[str] = []
    row = items_table._row
    monkeypatch.setattr(items_table, "_row", lambda tree, key, href: read.append(href) or row(tree, key, href))
    before = table_of(root).stat().st_mtime_ns
    update()
    assert (read, table_of(root).stat().st_mtime_ns) == ([], before)
    clone(root, "scene-a", "scene-b", data_version="new", extra_fact=1)
    shutil.rmtree(root.path / "products" / "sentinel2" / "scene-c")
    update()
    assert [href.split("/")[1] for href in read] == ["scene-b"]
    assert list(rows(root)) == ["scene-a", "scene-b", "scene-d"]
    assert rows(root)["scene-b"]["properties"]["darts:data_version"] == "new"
    incremental = rows(root)
    update(rebuild=True)
    table_of(root).unlink()
    update()
    assert rows(root) == incremental


def test_a_table_that_a_killed_run_left_behind_is_corrected(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    update()
    former = table_of(root).read_bytes()
    clone(root, "scene-a", "scene-b")
    update()
    table_of(root).write_bytes(former)  # as if the run had ended between the two files
    update()
    assert list(rows(root)) == ["scene-a", "scene-b"]
    shutil.rmtree(root.path / "products")
    update()
    assert not table_of(root).exists()


def test_an_item_that_is_missing_is_an_error(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    update()
    folder = table_of(root).parent
    collection = json.loads((folder / "collection.json").read_text())
    entry = {"href": "./scene-x/0123.json", "title": "scene-x"}
    with pytest.raises(NotReadableError, match=r"stac/sentinel2/scene-x/0123\.json does not exist; rebuild"):
        update_items_table(Tree(root.child("catalog")), "stac/sentinel2", collection, [entry])
