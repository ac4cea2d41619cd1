"""An API server of the cluster that does not answer costs no run: at five moments of a backfill, and during a cancel.

`DARTS_ASSETS_TEST_OUTAGES=3,15,90` (seconds) makes the outages longer.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import STEPS
from tests.e2e.harness import DEMO_MODEL
from tests.e2e.installation import Installation
from tests.servers.kubernetes.pods import Fault
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SECONDS = [float(text) for text in os.environ.get("DARTS_ASSETS_TEST_OUTAGES", "3").split(",")]

FORBIDDEN = 5
"""Seconds after an outage in which the API server knows no role."""

SEGMENTATION = {"dagster/op": "sentinel2__segmentation"}


@pytest.mark.parametrize("seconds", SECONDS)
def test_outages(seconds: float, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="darts")
    installing = Installation.of(
        "overlays/gpu", folder=tmp_path / "site", secrets=CREDENTIALS, max_runs=2, start_timeout=600, patience=900,
        DARTS_SCENES_PER_RUN="1", DARTS_STORE_ENDPOINT=server.endpoint, DARTS_STORE_REGION="us-east-1",
        DARTS_ARCTICDEM=str(world.arcticdem), DARTS_TCVIS=world.tcvis, DARTS_MODELS=DEMO_MODEL,
    )  # fmt: skip
    try:
        with installing as installation:
            at_five_moments_of_a_backfill(installation, world.items[0], seconds)
            while_a_run_is_cancelled(installation, world.items[1], seconds)
    finally:
        server.stop()


def at_five_moments_of_a_backfill(installation: Installation, item: Path, seconds: float) -> None:
    (scene,) = installation.site.register(item)
    instance, cluster = installation.site.instance, installation.cluster

    def logged(component: str, line: str) -> bool:
        return any(line in pod.lines() for pod in installation.pods(component))

    moments: dict[str, Callable[[], bool]] = {
        "a run starts": lambda: bool(installation.pods("run_worker")),
        "between steps": lambda: logged("run_worker", "raw_scene - STEP_SUCCESS"),
        "in segmentation": lambda: logged("step_worker", "segmentation - STEP_START"),
        "at the end": lambda: logged("run_worker", "products - STEP_START"),
    }
    with cluster.listener.outage(FORBIDDEN):  # in the queue
        backfill = installation.backfill([scene], *STEPS)
        installation.start()
        installation.wait(lambda: instance.get_runs_count() > 0)
        time.sleep(seconds)
    for is_reached in moments.values():
        installation.wait(is_reached)
        with cluster.listener.outage(FORBIDDEN):
            time.sleep(seconds)
    installation.finish(backfill)

    done = instance.get_backfill(backfill)
    assert done
    assert done.status is BulkActionStatus.COMPLETED_SUCCESS
    runs = instance.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    workers = Counter(pod.labels["dagster/run-id"] for pod in installation.pods("run_worker"))
    assert workers == Counter(run.run_id for run in runs), "one pod of each run"
    started = Counter(
        str(record.dagster_event.step_key)
        for run in runs
        for record in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
        if record.dagster_event
    )
    assert {f"sentinel2__{step}" for step in STEPS} <= started.keys()
    assert set(started.values()) == {1}, "no step runs twice, and no partition is written by two pods"
    assert len(installation.pods("step_worker")) == 1
    assert cluster.refused == []


def while_a_run_is_cancelled(installation: Installation, item: Path, seconds: float) -> None:
    """Its segmentation waits for a node."""
    (scene,) = installation.site.register(item)
    instance, cluster = installation.site.instance, installation.cluster
    cluster.faults.append(Fault("unschedulable", SEGMENTATION))
    installation.backfill([scene], *STEPS[:4])
    installation.restart_daemon()
    installation.wait(lambda: not cluster.faults)
    waiting = next(pod for pod in installation.pods("step_worker") if pod.phase == "Pending")
    run_id = waiting.labels["dagster/run-id"]
    installation.start_ui()
    with cluster.listener.outage(FORBIDDEN):
        cancel = threading.Thread(target=installation.cancel, args=[run_id])
        cancel.start()
        time.sleep(seconds)

    def cancelled() -> bool:
        run = instance.get_run_by_id(run_id)
        assert run
        return run.status is dg.DagsterRunStatus.CANCELED

    installation.wait(cancelled)
    cancel.join()
    installation.wait(
        lambda: (
            not [
                pod for pod in cluster.pods.values() if pod.labels.get("dagster/run-id") == run_id and not pod.finished
            ]
        )
    )
    assert scene not in installation.site.materialized("segmentation")
    assert cluster.refused == []
