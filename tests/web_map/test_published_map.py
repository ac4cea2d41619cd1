"""What an update writes into `catalog/map`, on a path and on S3, and what readers of older versions find."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import obstore
import pandas as pd
import pyogrio
import pytest

import darts_assets.web_map
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.web_map import published_map
from darts_assets.web_map.published_map import PAGE_FILES, update_map
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.web_map.arctic_inventory import generated_sites, publish_chips, publish_inventory, publish_items
from tests.web_map.published_sample import WITHOUT_TILE, publish_sample

YEARS = [2022, 2023]
FAMILIES = ["sentinel2", "planet"]
BUNDLE = Path(darts_assets.web_map.__file__).parent / "bundle"


@pytest.fixture(scope="module")
def sites() -> gpd.GeoDataFrame:
    return generated_sites(24, YEARS)


@pytest.fixture
def root(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store"))


def test_the_page_finds_all_files_of_one_version(root: StoreLocation, sites: gpd.GeoDataFrame) -> None:
    publish_inventory(root, sites)
    publish_chips(root, sites)
    publish_items(root, YEARS)
    update = update_map(root, FAMILIES, ui_url="https://user:password@dagster.example.org/", licence="CC-BY-4.0")
    folder = root.path / "catalog" / "map"
    description = json.loads((folder / "map.json").read_text())
    assert description == update.description
    assert "password" not in json.dumps(description)
    assert description["ui_url"] == "https://dagster.example.org"
    assert (description["slumps"], description["sites"], description["years"]) == (24, len(sites), YEARS)
    assert description["licence_url"] == "https://creativecommons.org/licenses/by/4.0/"
    assert description["has_reviews"] is False
    for name in PAGE_FILES:
        assert (folder / name).read_bytes() == (BUNDLE / name).read_bytes()
    assert json.loads((folder / "land.json").read_text())["type"] == "MultiPolygon"

    files = {name: folder / description["folder"] / file for name, file in description["files"].items()}
    assert {file.name: file.stat().st_size for file in files.values()} == description["bytes"]
    info = pyogrio.read_info(files["sites"])
    assert (info["features"], info["crs"], info["geometry_type"]) == (len(sites), "EPSG:3413", "MultiPolygon")
    assert info["capabilities"]["fast_spatial_filter"], "an index, without which a browser reads everything"
    rows, ids = pd.read_parquet(files["points"]), pd.read_parquet(files["ids"])["slump_id"]
    assert set(ids) == set(sites["slump_id"])
    row = rows.iloc[7]
    near = gpd.read_file(files["sites"], bbox=(row["x"] - 1, row["y"] - 1, row["x"] + 1, row["y"] + 1))
    site = near[(near["slump"] == row["slump"]) & (near["year"] == row["year"])].iloc[0]
    assert site["slump_id"] == ids[row["slump"]]
    assert json.loads(site["chips"])[0]["key"].startswith("inventory/chips/")
    assert description["bounds"] == [rows["x"].min(), rows["y"].min(), rows["x"].max(), rows["y"].max()]
    scenes = gpd.read_file(files["scenes"])
    assert len(scenes) == description["scenes"] == 8 * 12 * 2
    assert all((folder / item).is_file() for item in scenes["item"])


def test_data_are_written_again_only_after_a_change(root: StoreLocation, sites: gpd.GeoDataFrame) -> None:
    publish_inventory(root, sites)
    first = update_map(root, FAMILIES)
    again = update_map(root, FAMILIES, ui_url="http://localhost:3000")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.description["folder"] == first.description["folder"]
    assert again.description["ui_url"] == "http://localhost:3000"
    assert update_map(root, FAMILIES, rebuild=True).is_new
    for change in (
        lambda: publish_inventory(root, sites),
        lambda: publish_chips(root, sites),
        lambda: publish_items(root, YEARS),
    ):
        change()
        assert update_map(root, FAMILIES).is_new
        assert not update_map(root, FAMILIES).is_new


def test_open_pages_go_on_reading_the_version_before(
    root: StoreLocation, sites: gpd.GeoDataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_inventory(root, sites)
    folder = root.path / "catalog" / "map"
    first = update_map(root, FAMILIES).description["folder"]
    second = update_map(root, FAMILIES, rebuild=True).description["folder"]
    assert (folder / first / "sites.fgb").is_file()
    # Killed after the data, before `map.json`: the page still shows the version that `map.json` refers to.
    with monkeypatch.context() as patch:
        patch.setattr(published_map, "_put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            update_map(root, FAMILIES, rebuild=True, grace=dt.timedelta(0))
    assert json.loads((folder / "map.json").read_text())["folder"] == second
    Place(root.child("catalog", "map")).collect()
    assert (folder / second / "sites.fgb").is_file()
    third = update_map(root, FAMILIES, rebuild=True, grace=dt.timedelta(0)).description["folder"]
    fourth = update_map(root, FAMILIES, rebuild=True, grace=dt.timedelta(0)).description["folder"]
    kept = {path.name for path in folder.iterdir() if path.is_dir()}
    assert fourth in kept
    assert first not in kept
    assert second not in kept
    assert third in kept, "the version before, which open pages read"


@pytest.mark.parametrize("is_published", [False, True])
def test_an_empty_inventory_has_an_empty_map(root: StoreLocation, sites: gpd.GeoDataFrame, is_published: bool) -> None:
    if is_published:
        publish_inventory(root, sites[:0])
    description = update_map(root, FAMILIES).description
    assert (description["slumps"], description["sites"], description["years"]) == (0, 0, [])
    assert (description["files"], description["bounds"]) == ({}, None)
    assert (root.path / "catalog" / "map" / "index.html").is_file()
    assert not update_map(root, FAMILIES).is_new
    publish_inventory(root, sites)
    assert update_map(root, FAMILIES).description["slumps"] == 24


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("root")
    server.stop()


@pytest.mark.slow
def test_a_bucket_serves_the_page_with_its_media_types(bucket: StoreLocation, sites: gpd.GeoDataFrame) -> None:
    publish_inventory(bucket, sites)
    update = update_map(bucket, FAMILIES)
    objects = bucket.child("catalog", "map").objects()
    for name, media in {**PAGE_FILES, "map.json": "application/json", "land.json": "application/json"}.items():
        assert obstore.get(objects, name).attributes["Content-Type"] == media
    assert obstore.head(objects, f"{update.description['folder']}/sites.fgb")["size"] > 1000
    assert not update_map(bucket, FAMILIES).is_new


def test_the_points_of_samples_are_published_without_what_the_map_has(root: StoreLocation) -> None:
    sites = generated_sites(16, YEARS, spread=5e4)
    publish_inventory(root, sites)
    assert update_map(root, FAMILIES).description["samples"] == []
    points = publish_sample(root, sites, 2023, 10)
    update = update_map(root, FAMILIES)
    assert update.is_new is True
    entry = {
        "year": 2023,
        "sample": "1",
        "inventory_version": "of-the-sample",
        "points": 10,
        "file": "sample-2023-1.json",
    }
    assert update.description["samples"] == [entry]
    folder = root.path / "catalog" / "map" / update.description["folder"]
    sample = json.loads((folder / "sample-2023-1.json").read_text())
    assert [each["sample_id"] for each in sample["points"]] == points["sample_id"].tolist()
    assert not {"stratum", "map_class", "region"} & set(sample["points"][0])
    place = points.to_crs(3413).geometry.iloc[0]
    first = sample["points"][0]
    assert (first["x"], first["y"]) == pytest.approx((place.x, place.y), abs=0.01)
    *parts, name = first["key"].split("/")
    content = bytes(obstore.get(root.child(*parts).objects(), name).bytes())
    assert content[first["offset"] :][: first["length"]][8:12] == b"WEBP"
    assert (first["datetime"], first["width_m"]) == ("2023-07-04", 600)
    assert sample["points"][WITHOUT_TILE]["length"] == 0
    assert "key" not in sample["points"][WITHOUT_TILE]
    assert update_map(root, FAMILIES).is_new is False
