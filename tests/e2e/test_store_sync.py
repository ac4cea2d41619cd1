"""A store whose Dagster database is lost, or that was made elsewhere, becomes partitions and materializations."""

import json
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import obstore
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from darts_assets.cli import cli
from darts_assets.demo import World
from darts_assets.orchestration.core.dagster_compat import latest_materialization
from darts_assets.orchestration.core.local_instance import create_local_instance
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SENTINEL2, STEPS
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS
from darts_assets.orchestration.inventory.chips_asset import CHIPS
from darts_assets.orchestration.scene_discovery.store_sync import sync_store
from darts_assets.settings import Settings
from darts_assets.stores.tile_retention import release_tiles
from tests.e2e import asset_runs
from tests.e2e.harness import DEMO_MODEL, Site, reason
from tests.servers.postgres.cluster import postgres_instance
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SCENE_ASSETS = [SENTINEL2.key(step) for step in STEPS]
KEPT = {"provenance", "path", "files", "objects", "summary", "coverage", "bands", "models", "terrain", "shape"}
ASSETS = [*SCENE_ASSETS, *CHUNK_KEYS.values(), RTS]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Site]:
    """A site with an inventory; one scene is complete, and the tile of the other was made again with other features."""
    folder = tmp_path_factory.mktemp("original")
    create_local_instance(folder / "dagster")
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    site = Site(folder, settings, dg.DagsterInstance.from_config(str(folder / "dagster")))
    complete, other = site.register(*world.items)
    for scene, steps in ((complete, STEPS), (other, STEPS[:-1])):
        result = site.run(scene, *steps)
        assert result.success, reason(result)
    year = other.split("_")[2][:4]
    assert asset_runs.run(settings, site.instance, RTS, year).success
    assert asset_runs.run(settings, site.instance, SLUMPS).success
    assert asset_runs.run(settings, site.instance, CHIPS).success
    result = site.run(other, "preprocessed_tile", preprocessed_tile={"tpi_inner_radius": 30})
    assert result.success, reason(result)
    released = release_tiles(
        site.resource("store").root, ["sentinel2"], {"segmentation": 0.0}, timedelta(0), progress=print
    )
    assert released.tiles == [("sentinel2", "segmentation", complete)]
    yield site
    site.instance.dispose()


@pytest.fixture
def fresh(tmp_path: Path, original: Site) -> Iterator[Site]:
    """The store of the original with an empty instance."""
    create_local_instance(tmp_path / "dagster")
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        yield Site(tmp_path, original.settings, instance)


def statuses(site: Site) -> dict[tuple[str, str], str]:
    """Status of every registered partition: MISSING, STALE or FRESH."""
    graph = site.defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(site.instance, graph, LoadingContextForTest(site.instance))
    partitions = {
        asset: graph.get(asset).partitions_def.get_partition_keys(dynamic_partitions_store=site.instance)
        for asset in ASSETS
    }
    return {
        (asset.to_user_string(), key): resolver.get_status(asset, key).name
        for asset, keys in partitions.items()
        for key in keys
    }


def test_statuses_and_provenance_are_those_of_the_original(original, fresh):
    done = sync_store(fresh.instance, fresh.defs)
    assert done.problems == {}
    assert done.registered == {"sentinel2_scene": 2}
    assert done.recorded["sentinel2/auxiliary"] == 2
    before, after = statuses(original), statuses(fresh)
    assert set(before.values()) >= {"FRESH", "STALE", "MISSING"}
    assert after == before
    order = [str(site.instance.get_dynamic_partitions("sentinel2_scene")) for site in (original, fresh)]
    assert order[0] == order[1]
    for asset in [*ASSETS, SLUMPS, CHIPS]:
        partitions = original.instance.get_materialized_partitions(asset) or [None]
        assert (fresh.instance.get_materialized_partitions(asset) or [None]) == partitions
        for partition in partitions:
            here, there = (latest_materialization(site.instance, asset, partition) for site in (original, fresh))
            tags = [each.asset_materialization.tags or {} for each in (here, there)]
            for name in ("dagster/data_version", "dagster/code_version"):
                assert tags[0].get(name) == tags[1].get(name), (asset, partition)
            kept = there.asset_materialization.metadata
            assert (
                kept.keys() & {"path", "released"}
                or asset not in (*SCENE_ASSETS, RTS)
                or asset == SENTINEL2.key("auxiliary")
            )
            for name in kept.keys() & {
                "provenance",
                "path",
                "files",
                "objects",
                "summary",
                "coverage",
                "bands",
                "models",
            }:
                assert kept[name] == here.asset_materialization.metadata[name], (asset, partition, name)


def test_a_store_on_s3_with_products_elsewhere_syncs_into_postgresql(original, tmp_path, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    try:
        store, products = server.location("store"), server.location("shared")
        source = Path(original.settings.store)
        for path in source.rglob("*"):
            if path.is_file():
                room, _, key = path.relative_to(source).as_posix().partition("/")
                place, key = (products, key) if room == "products" else (store, f"{room}/{key}")
                obstore.put(place.objects(), key, path)
        settings = original.settings.model_copy(
            update={
                "store": store.url, "store_endpoint": server.endpoint,
                "products_root": products.url, "products_root_endpoint": server.endpoint,
            }
        )  # fmt: skip
        with postgres_instance(tmp_path) as instance:
            site = Site(tmp_path, settings, instance)
            done = sync_store(instance, site.defs)
            assert done.problems == {}
            assert statuses(site) == statuses(original)
            done = sync_store(instance, site.defs)
            assert (done.registered, done.recorded, done.problems) == ({}, {}, {})
    finally:
        server.stop()


def test_a_second_sync_and_one_of_the_original_add_nothing(original, fresh):
    sync_store(fresh.instance, fresh.defs)
    for site in (fresh, original):
        done = sync_store(site.instance, site.defs)
        assert (done.registered, done.recorded, done.problems) == ({}, {}, {})


def test_the_command_reports_what_is_new(original, fresh, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(fresh.folder / "dagster"))
    monkeypatch.setenv("DARTS_STORE", fresh.settings.store)
    result = CliRunner().invoke(cli, ["sync"])
    assert result.exit_code == 0, result.output
    assert "2 new partitions of sentinel2_scene" in result.output
    assert "1 materializations of sentinel2/products" in result.output
    assert "nothing new" in CliRunner().invoke(cli, ["sync"]).output


def test_what_is_damaged_is_left_out_with_its_reason(original, fresh, tmp_path):
    store = Path(shutil.copytree(original.settings.store, tmp_path / "store", symlinks=True))
    damaged, other = sorted(path.stem for path in (store / "scenes" / "sentinel2").iterdir())
    (store / "vectors/sentinel2/polygons" / damaged / "current.json").write_text("{")
    (store / "scenes/sentinel2" / f"{other}.json").write_text("{}")
    site = fresh.using(store=str(store))
    done = sync_store(site.instance, site.defs)
    assert set(done.problems) == {other, f"polygons of {damaged}"}
    assert site.materialized("preprocessed_tile") == {damaged}
    assert site.materialized("polygons") == set()


def test_hundreds_of_scenes_take_seconds(original, fresh, tmp_path):
    """Only items and pointers are copied: nothing else is read."""
    source, store = Path(original.settings.store), tmp_path / "store"
    (scene,) = original.materialized("products")
    names = [f"{scene[:-6]}{number:06d}" for number in range(300)]
    shutil.copytree(source / "aux", store / "aux")
    for folder in (
        "scenes/sentinel2",
        "raw/cdse",
        "tiles/sentinel2/preprocessed_tile",
        "tiles/sentinel2/segmentation",
        "vectors/sentinel2/polygons",
        "products/sentinel2",
    ):
        document = "{}.json" if folder.startswith("scenes") else "{}/current.json"
        text = (source / folder / document.format(scene)).read_text()
        for name in names:
            path = store / folder / document.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(scene, name))
    site = fresh.using(store=str(store))
    started = time.process_time()
    done = sync_store(site.instance, site.defs)
    seconds = time.process_time() - started
    assert done.problems == {}
    assert {done.recorded[asset.to_user_string()] for asset in SCENE_ASSETS} == {300}
    print(f"{seconds:.1f} s")
    assert seconds < 25
    assert json.loads((store / "scenes/sentinel2" / f"{names[0]}.json").read_text())["id"] == names[0]
