"""Pruned logs of runs: what is deleted, and what Dagster's status of partitions and checks still shows."""

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from darts_assets.orchestration.jobs import build_jobs
from darts_assets.orchestration.run_monitoring.prune_run_logs import PruneConfig, prune_logs, prune_run_logs
from darts_assets.orchestration.schedules import build_schedules
from tests.servers.postgres.cluster import postgres_instance

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SCENES = dg.DynamicPartitionsDefinition(name="scene")
PICTURE = "![](data:image/webp;base64," + "A" * 50_000 + ")"


@dg.asset(partitions_def=SCENES)
def tile(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    print("captured")
    if context.partition_key == "cloudy":
        raise dg.Failure("too cloudy", allow_retries=False)
    context.add_asset_metadata({"picture": dg.MetadataValue.md(PICTURE)})
    return dg.MaterializeResult(metadata={"bytes": 7}, data_version=dg.DataVersion(f"of {context.partition_key}"))


@dg.asset_check(asset=tile)
def is_bright() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(tmp_path: Path, empty_home: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copytree(empty_home, tmp_path / "home")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as made:
        yield made


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with postgres_instance(tmp_path) as made:
        yield made


def map_scenes(instance: dg.DagsterInstance) -> dict[str, str]:
    """Two scenes and a failed one; returns the id of each one's run."""
    scenes = ["first", "second", "cloudy"]
    instance.add_dynamic_partitions("scene", scenes)
    return {
        scene: dg.materialize(
            [tile, is_bright], partition_key=scene, instance=instance, run_config=QUIET, raise_on_error=False
        ).run_id
        for scene in scenes
    }


def records(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What Dagster shows of the asset: status, materializations with metadata and versions, checks, runs."""
    made = instance.fetch_materializations(tile.key, limit=10).records
    (check,) = is_bright.check_keys
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    return {
        "partitions": instance.get_materialized_partitions(tile.key),
        "status": instance.get_status_by_partition(tile.key, ["first", "second", "cloudy"], SCENES),
        "materializations": [(record.partition_key, record.run_id, record.asset_materialization) for record in made],
        "latest": instance.get_latest_materialization_event(tile.key),
        "check": (latest.run_id, latest.status),
        "runs": [(run.run_id, run.status) for run in instance.get_runs()],
    }  # fmt: skip


def remains_true(instance: dg.DagsterInstance, runs: dict[str, str]) -> None:
    before, failed_log = records(instance), instance.all_logs(runs["cloudy"])
    assert before["partitions"] == {"first", "second"}
    assert len(before["materializations"]) == 2

    job = prune_run_logs.execute_in_process(instance=instance, run_config=QUIET)
    (handled,) = (e for e in job.all_node_events if e.is_successful_output)
    assert handled.step_output_data.metadata["deleted"].value == 0, "too young"
    before["runs"] = records(instance)["runs"]
    assert prune_logs(instance, dt.datetime.now(dt.UTC) + dt.timedelta(days=1), print) > 0

    after = records(instance)
    assert after == before
    assert after["materializations"][0][2].metadata["picture"].value == PICTURE
    kinds = {entry.dagster_event_type for entry in instance.all_logs(runs["first"])}
    assert not kinds & {None, dg.DagsterEventType.STEP_OUTPUT, dg.DagsterEventType.STEP_START}
    assert instance.all_logs(runs["cloudy"]) == failed_log, "the reason of a failure is kept"

    assert dg.materialize([tile, is_bright], partition_key="first", instance=instance, run_config=QUIET).success
    again = instance.fetch_materializations(tile.key, limit=10).records
    assert [record.partition_key for record in again] == ["first", "second", "first"]


@pytest.mark.slow
def test_status_and_materializations_remain_on_sqlite(instance: dg.DagsterInstance) -> None:
    runs = map_scenes(instance)
    home = Path(instance.root_directory)
    logs = {run: home / "history" / "runs" / f"{run}.db" for run in runs.values()}
    captured = {run: home / "storage" / run for run in runs.values()}
    assert all(path.exists() for path in [*logs.values(), *captured.values()])
    remains_true(instance, runs)
    assert [run for run, path in captured.items() if path.exists()] == [runs["cloudy"]]
    assert logs[runs["first"]].stat().st_size <= 8192
    assert logs[runs["cloudy"]].stat().st_size > 100_000
    with dg.DagsterInstance.from_config(str(home)) as other:  # such as Dagster's UI, which completes the tables
        assert other.all_logs(runs["first"]) == []
        assert other.get_materialized_partitions(tile.key) == {"first", "second"}


@pytest.mark.slow
def test_status_and_materializations_remain_on_postgresql(on_postgres: dg.DagsterInstance) -> None:
    remains_true(on_postgres, map_scenes(on_postgres))


def test_the_job_keeps_the_logs_of_the_last_days_and_its_schedule_is_off() -> None:
    assert PruneConfig().older_than_days == 30
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        PruneConfig(older_than_days=0.5)
    assert prune_run_logs in build_jobs([])
    (schedule,) = (each for each in build_schedules() if each.job_name == prune_run_logs.name)
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
