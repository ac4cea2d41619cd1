"""Runs that wait for a GPU, in the overlay for GPUs: in Dagster's queue, until a slot of the pool is free."""

from pathlib import Path

import dagster as dg
import pytest

from darts_assets.demo import World
from tests.e2e.harness import DEMO_MODEL, SMALL_PATCHES, repeated_items
from tests.e2e.installation import Installation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

BEFORE = ("raw_scene", "auxiliary", "preprocessed_tile")


def test_a_run_waits_for_a_gpu_without_a_pod_and_starts_when_one_is_free(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU, two runs that need it, two runs at once: the place of the one that waits is another's."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="darts")
    installing = Installation.of(
        "overlays/gpu", folder=tmp_path / "site", secrets=CREDENTIALS, max_runs=2, start_timeout=600, patience=900,
        DARTS_STORE_ENDPOINT=server.endpoint, DARTS_STORE_REGION="us-east-1", DARTS_MODELS=DEMO_MODEL,
        DARTS_ARCTICDEM=str(world.arcticdem), DARTS_TCVIS=world.tcvis, DARTS_SCENES_PER_RUN="1", DAGSTER_POOL_gpu="1",
    )  # fmt: skip
    with installing as installation:
        site, instance = installation.site, installation.site.instance
        *segmented, fetched = site.register(*repeated_items(world, tmp_path / "items", 3))
        for scene in segmented:
            assert site.run(scene, *BEFORE).success
        config = {"ops": {"sentinel2__segmentation": {"config": SMALL_PATCHES}}}
        backfills = [
            installation.backfill(segmented, "segmentation", run_config=config),
            installation.backfill([fetched], "raw_scene"),
        ]
        installation.start()
        installation.finish(*backfills)
        first, second = sorted(of(instance, backfills[0]), key=lambda record: record.start_time or 0)
        (other,) = of(instance, backfills[1])
        assert {record.dagster_run.status for record in (first, second, other)} == {dg.DagsterRunStatus.SUCCESS}
        assert dequeued(instance, second) >= ended(instance, first) > dequeued(instance, first)
        assert dequeued(instance, other) < dequeued(instance, second), "it has taken the place"
        assert site.materialized("segmentation") == {*segmented}
        assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 0
    server.stop()


def of(instance: dg.DagsterInstance, backfill: str) -> list[dg.RunRecord]:
    """The runs of a backfill."""
    return list(instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill})))


def dequeued(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """When a run has left the queue; a pod is created after that."""
    (log,) = instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_STARTING)
    return log.timestamp


def ended(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """When segmentation has ended in a run; its checks follow."""
    logs = instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    (log,) = [log for log in logs if log.step_key == "sentinel2__segmentation"]
    return log.timestamp
