"""Cubes, raw scenes, products and models that lie elsewhere than the store, on paths and on S3."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas as gpd
import obstore
import pytest
from click.testing import CliRunner

import darts_assets
from darts_assets.area_mapping.map_area import AreaRequest, _products
from darts_assets.cli import cli
from darts_assets.demo import DEMO_CHECKPOINT, World
from darts_assets.orchestration.core.partitions import STEPS
from darts_assets.settings import settings
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.scene_paths import scene_paths
from tests.e2e.harness import Site, metadata_of, reason
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

ROOMS = ("aux", "raw", "products", "models")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="shared")
    yield server
    server.stop()


def test_two_stores_share_cubes_and_scenes(
    new_site: Callable[..., Site], world: World, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw scenes and products on S3, cubes and models on a path; the second store fetches nothing."""
    (tmp_path / "models").mkdir()
    shutil.copy(DEMO_CHECKPOINT, tmp_path / "models" / "shared_model.ckpt")
    rooms = {"aux_root": str(tmp_path / "cubes"), "models_root": str(tmp_path / "models"), "models": ("shared_model",)}
    for room in ("raw", "products"):
        rooms |= {f"{room}_root": f"s3://shared/{room}", f"{room}_root_endpoint": server.endpoint}
    site = new_site(**rooms)
    (scene,) = site.register(world.items[0])
    result = site.run(scene)
    assert result.success, reason(result)
    assert all(site.materialized(step) == {scene} for step in STEPS)
    assert "shared_model" in metadata_of(result, "segmentation")["models"]

    store = Path(site.settings.store)
    assert not any((store / room).exists() for room in ROOMS)
    cubes = {path.name for path in (tmp_path / "cubes").glob("*.icechunk")}
    assert cubes == {"arcticdem_10m.icechunk", "tcvis_2024.icechunk"}
    keys = {entry["Key"] for entry in server.client.list_objects_v2(Bucket="shared")["Contents"]}
    assert {key.partition("/")[0] for key in keys} == {"raw", "products"}
    root = site.settings.root
    paths = scene_paths(root, scene)
    assert list(paths) == [step for step in STEPS if step != "auxiliary"]
    assert paths["raw_scene"].startswith("s3://shared/raw/")
    assert paths["products"] == f"s3://shared/products/sentinel2/{scene}/latest"
    assert _products(site.settings, AreaRequest(site.family)) == "s3://shared/products/sentinel2/SCENE/latest"

    # The catalog's links lead to the rooms.
    assert site.run_job("publish_catalog", "catalog__stac").success
    (item,) = (store / "catalog" / "stac" / "sentinel2" / scene).glob("*.json")
    assets = json.loads(item.read_text())["assets"]
    for name in ("raw_scene", "prediction_segments"):
        bucket, _, key = assets[name]["href"].removeprefix("s3://").partition("/")
        assert bucket == "shared"
        assert key in keys or f"{key}/zarr.json" in keys
    tile = (item.parent / assets["preprocessed_tile"]["href"]).resolve()
    assert (tile / "zarr.json").is_file()
    rows = gpd.read_parquet(next((store / "catalog" / "detections").rglob("*.parquet")))
    assert len(rows) == len(site.load("polygons", scene)["segments"]) > 0

    # Commands and the Python API find them by the settings.
    for name, value in {"STORE": store, **{name.upper(): value for name, value in rooms.items()}}.items():
        monkeypatch.setenv(f"DARTS_{name}", ",".join(value) if isinstance(value, tuple) else str(value))
    settings.cache_clear()
    done = CliRunner().invoke(cli, ["path", scene, "raw_scene"])
    assert done.output.strip() == paths["raw_scene"]
    done = CliRunner().invoke(cli, ["export", str(tmp_path / "exported"), "--products", "polygonized"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "exported" / "sentinel2" / scene / "prediction_segments.gpkg").is_file()
    opened = darts_assets.open_store()
    row = opened.scenes().iloc[0]
    assert (row["scene_id"], row["raw_scene"], row["products"]) == (scene, True, True)
    assert opened.raw(scene)["red"].shape == (300, 300)
    assert CliRunner().invoke(cli, ["migrate"]).output.startswith("0 tiles and 0 cubes converted")
    document = json.loads(CliRunner().invoke(cli, ["doctor", "--json", "--offline"]).output)
    findings = {each["name"]: each for each in document["findings"]}
    for room in ("aux", "raw", "products", "models"):
        assert findings[f"store: {room}"]["status"] in ("ok", "warn"), findings[f"store: {room}"]
        assert ("shared" in findings[f"store: {room}"]["message"]) == (room in ("raw", "products"))

    # Another store with the same cubes and raw scenes, offline.
    other = new_site("other", **{**rooms, "products_root": None}, offline=True)
    other.register(world.items[0])
    again = other.run(scene)
    assert again.success, reason(again)
    assert metadata_of(again, "raw_scene")["fetched"] == []
    assert metadata_of(again, "auxiliary")["arcticdem"]["filled"] == 0
    assert other.load("polygons", scene)["segments"].equals(site.load("polygons", scene)["segments"])
    assert (Path(other.settings.store) / "products" / "sentinel2" / scene / "latest").is_dir()
    elsewhere = darts_assets.open_store(other.settings.store, server.endpoint, rooms={"raw": "s3://shared/raw"})
    assert elsewhere.raw(scene)["red"].shape == (300, 300)

    # Replaced versions are collected there too.
    site.settings = site.settings.model_copy(update={"keep_replaced_hours": 0.0})
    assert site.run(scene, "products").success
    place = site.place("products", "sentinel2", scene)
    versions = obstore.list_with_delimiter(place.location.objects())["common_prefixes"]
    assert len(set(versions) - {"latest"}) == 2, "the catalog refers to the version before"


def test_doctor_names_the_setting_of_a_room_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: S3Server
) -> None:
    (tmp_path / "file").touch()
    for name, value in {
        "STORE": tmp_path / "store", "RAW_ROOT": tmp_path / "file", "PRODUCTS_ROOT": "s3://absent/products",
        "PRODUCTS_ROOT_ENDPOINT": server.endpoint, "EXECUTOR": "k8s",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"DARTS_{name}", str(value))
    document = json.loads(CliRunner().invoke(cli, ["doctor", "--json", "--offline"]).output)
    findings = {each["name"]: each for each in document["findings"] if each["status"] in ("fail", "warn")}
    assert findings["store: products"]["advice"] == "Create the bucket, or set DARTS_PRODUCTS_ROOT to another."
    raw = [each for each in document["findings"] if each["name"] == "store: raw"]
    assert "is a file, not a folder" in raw[0]["message"]
    assert "Set DARTS_RAW_ROOT to a writable folder" in raw[0]["advice"]
    assert "Set DARTS_RAW_ROOT to s3://bucket/prefix" in raw[1]["advice"]
    assert StoreLocation(str(tmp_path / "store")).path.exists() is False
