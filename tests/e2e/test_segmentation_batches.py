"""Steps of several scenes in a run: each scene is recorded on its own, and one that fails fails alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.settings import Settings
from tests.e2e.backfills import YAML, Backfills
from tests.e2e.harness import DEMO_MODEL, SMALL_PATCHES, Site, metadata_of, reason

TILES, SEGMENTATION, POLYGONS, PRODUCTS = (SENTINEL2.key(step) for step in STEPS[2:])
CONFIG = {"ops": {"sentinel2__segmentation": {"config": SMALL_PATCHES}}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, world: World) -> Site:
    """A site with eight scenes whose tiles are preprocessed: one of them, and copies of it under other ids."""
    folder = tmp_path_factory.mktemp("batches")
    (folder / "dagster").mkdir()
    (folder / "dagster/dagster.yaml").write_text(YAML)
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    site = Site(folder, settings, dg.DagsterInstance.from_config(str(folder / "dagster")))
    items = []
    for number in range(8):
        shutil.copytree(world.items[0].parent, folder / f"items/{number}")
        item = json.loads(world.items[0].read_text()) | {"id": f"S2A_number_{number}"}
        items.append(folder / f"items/{number}/{item['id']}.json")
        items[-1].write_text(json.dumps(item))
    first, *others = site.register(*items)
    assert site.run(first, "raw_scene", "auxiliary", "preprocessed_tile").success
    (record,) = site.instance.fetch_materializations(TILES, limit=1).records
    for other in others:
        shutil.copytree(tile_of(site, first), tile_of(site, other))
        copied = record.asset_materialization._replace(partition=other)
        site.instance.report_runless_asset_event(copied)
    return site


@pytest.fixture
def site(prepared: Site) -> Iterator[Site]:
    """The same, without a segmentation."""
    yield prepared
    prepared.instance.wipe_assets([SEGMENTATION, POLYGONS, PRODUCTS])
    for folder in ("tiles/sentinel2/segmentation", "vectors", "products"):
        shutil.rmtree(Path(prepared.settings.store) / folder, ignore_errors=True)


def tile_of(site: Site, scene: str) -> Path:
    return Path(site.settings.store) / f"tiles/sentinel2/preprocessed_tile/{scene}"


def damage(tile: Path) -> bytes:
    """Cut the stored red band short; returns what it was."""
    content = red(tile).read_bytes()
    red(tile).write_bytes(content[: len(content) // 2])
    return content


def repair(tile: Path, content: bytes) -> None:
    red(tile).write_bytes(content)


def red(tile: Path) -> Path:
    (chunk,) = (path for path in tile.glob("*/red/c/**/*") if path.is_file())
    return chunk


def made_by(site: Site, run: dg.DagsterRun) -> list[str]:
    """Scenes that a run has recorded, in order."""
    logs = site.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return [log.dagster_event.partition for log in logs]


def test_one_scene_of_eight_is_corrupt(site: Site) -> None:
    scenes = site.instance.get_dynamic_partitions("sentinel2_scene")
    bad, good = scenes[4], [*scenes[:4], *scenes[5:]]
    content = damage(tile_of(site, bad))
    with Backfills.at(site.folder, site.settings, site.instance) as backfills:
        done = backfills.finished(backfills.launch([SEGMENTATION], scenes, CONFIG))
        assert done.status == BulkActionStatus.COMPLETED_FAILED
        assert backfills.materialized(done, SEGMENTATION) == {*good}
        assert backfills.failed(done, SEGMENTATION) == {bad}
        (run,) = backfills.runs(done)
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert made_by(site, run) == good
        (failure,) = site.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        said = failure.dagster_event.step_failure_data.user_failure_data
        assert said.description.startswith(f"{bad}: NotReadableError: ")
        assert "red/c/0/0 is damaged" in said.description
        assert list(said.metadata["failed"].value) == [bad]
        status = get_and_update_asset_status_cache_value(site.instance, SEGMENTATION, SENTINEL2.partitions)
        failed = status.deserialize_failed_partition_subsets(SENTINEL2.partitions)
        assert set(failed.get_partition_keys()) == {bad}

        repair(tile_of(site, bad), content)
        again = backfills.finished(backfills.repeat(done))
        assert again.status == BulkActionStatus.COMPLETED_SUCCESS
        assert [made_by(site, run) for run in backfills.runs(again)] == [[bad]]
    assert site.materialized("segmentation") == {*scenes}


def test_steps_downstream_go_on_with_the_others_and_a_resumed_run_takes_what_is_missing(site: Site) -> None:
    scenes = site.instance.get_dynamic_partitions("sentinel2_scene")[:3]
    bad, good = scenes[1], {scenes[0], scenes[2]}
    content = damage(tile_of(site, bad))
    with Backfills.at(site.folder, site.settings, site.instance) as backfills:
        done = backfills.finished(backfills.launch([SEGMENTATION, POLYGONS], scenes, CONFIG))
        assert backfills.materialized(done, POLYGONS) == site.materialized("polygons") == good
        assert backfills.failed(done, POLYGONS) == {bad}
        batch, *others = backfills.runs(done)
        assert [made_by(site, run) for run in others] == [[scene] for scene in sorted(good)], "no neighbours"
        repair(tile_of(site, bad), content)
        resumed = backfills.resume(batch)
        assert resumed.status == dg.DagsterRunStatus.SUCCESS
        assert made_by(site, resumed) == [bad]


def test_light_steps_take_more_scenes_per_run(site: Site, tmp_path: Path) -> None:
    scenes = site.instance.get_dynamic_partitions("sentinel2_scene")[:5]
    small = site.using(scenes_per_run=2)
    config = {"ops": {**CONFIG["ops"], "sentinel2__polygons_checks": {"config": {"least_extent": 0.999}}}}
    with Backfills.at(tmp_path, small.settings, site.instance) as backfills:
        done = backfills.finished(backfills.launch([SEGMENTATION, POLYGONS, PRODUCTS], scenes, config))
        assert done.status == BulkActionStatus.COMPLETED_SUCCESS
        runs = backfills.runs(done)
    made = [(str(asset.path[-1]), made_by(site, run)) for run in runs for asset in run.asset_selection]
    assert made == [
        ("segmentation", scenes[:2]), ("segmentation", scenes[2:4]), ("segmentation", scenes[4:]),
        ("polygons", scenes[:4]), ("polygons", scenes[4:]), ("products", scenes),
    ]  # fmt: skip
    assert site.materialized("products") == {*scenes}
    logs = site.instance.all_logs(runs[3].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    checks = [log.dagster_event.asset_check_evaluation_data for log in logs]
    passed = {(check.partition, check.check_name): check.passed for check in checks}
    assert len(passed) == len(checks) == 4 * 4
    assert {passed[scene, "geometries_valid"] for scene in scenes[:4]} == {True}
    assert {passed[scene, "scene_was_seen"] for scene in scenes[:4]} == {False}, "with the config of the run"


def test_polygons_of_a_scene_that_cannot_be_made_cost_no_other_its_products(site: Site) -> None:
    scenes = site.instance.get_dynamic_partitions("sentinel2_scene")[:3]
    bad, good = scenes[1], {scenes[0], scenes[2]}
    for scene in scenes:
        assert site.run(scene, "segmentation").success
    shutil.rmtree(Path(site.settings.store) / f"tiles/sentinel2/segmentation/{bad}")
    with Backfills.at(site.folder, site.settings, site.instance) as backfills:
        done = backfills.finished(backfills.launch([POLYGONS, PRODUCTS], scenes))
        assert backfills.materialized(done, PRODUCTS) == site.materialized("products") == good
        assert backfills.failed(done, POLYGONS) == backfills.failed(done, PRODUCTS) == {bad}
        first, *_ = backfills.runs(done)
        assert made_by(site, first) == sorted(good)
        (failure,) = site.instance.all_logs(first.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        assert failure.dagster_event.step_failure_data.user_failure_data.description.startswith(f"{bad}: ")
        assert site.run(bad, "segmentation").success
        again = backfills.finished(backfills.repeat(done))
        assert again.status == BulkActionStatus.COMPLETED_SUCCESS
    assert site.materialized("products") == {*scenes}


def test_a_scene_of_several_is_recorded_as_if_it_had_had_its_own_run(site: Site) -> None:
    scene, other = site.instance.get_dynamic_partitions("sentinel2_scene")[:2]
    assert site.run(scene, "segmentation").success
    with Backfills.at(site.folder, site.settings, site.instance) as backfills:
        backfills.finished(backfills.launch([SEGMENTATION], [scene, other], CONFIG))
    wanted = dg.AssetRecordsFilter(SEGMENTATION, asset_partitions=[scene])
    batch, alone = (r.asset_materialization for r in site.instance.fetch_materializations(wanted, limit=2).records)
    assert batch.tags == alone.tags
    assert "dagster/input_data_version/sentinel2/preprocessed_tile" in batch.tags
    measured = {"Took", "seconds", "cpu_seconds", "peak_memory", "bytes_read", "bytes_written", "path"}
    assert batch.metadata.keys() == alone.metadata.keys()
    assert {k: v for k, v in batch.metadata.items() if k not in measured} == {
        k: v for k, v in alone.metadata.items() if k not in measured
    }
    assert not stale(site, scene)
    newer = dg.AssetMaterialization(TILES, partition=scene, tags={"dagster/data_version": "another"})
    site.instance.report_runless_asset_event(newer)
    assert stale(site, scene)


def stale(site: Site, scene: str) -> bool:
    graph = site.defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(site.instance, graph, LoadingContextForTest(site.instance))
    return resolver.get_status(SEGMENTATION, scene) == StaleStatus.STALE


def test_a_bad_checkpoint_fails_all_before_any(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    wrong = site.using(models=(str(tmp_path / "bad.ckpt"),))
    scenes = site.instance.get_dynamic_partitions("sentinel2_scene")[:2]
    with Backfills.at(tmp_path, wrong.settings, site.instance) as backfills:
        done = backfills.finished(backfills.launch([SEGMENTATION], scenes, CONFIG))
        assert backfills.failed(done, SEGMENTATION) == {*scenes}
        (run,) = backfills.runs(done)
    (failure,) = site.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    said = failure.dagster_event.step_failure_data.user_failure_data.description
    assert said.startswith("CheckpointError: ")
    assert "bad.ckpt" in said
    assert not any(scene in said for scene in scenes)


def test_one_scene_goes_through_its_chain_in_one_run(site: Site) -> None:
    scene = site.instance.get_dynamic_partitions("sentinel2_scene")[0]
    result = site.run(scene, "segmentation", "polygons", "products")
    assert result.success, reason(result)
    assert metadata_of(result, "products")["files"]
