"""What is shipped for Kubernetes at work, without a cluster: Dagster's daemon, launcher and executor start Jobs by the
calls of the real client, Jobs are processes here, and pods are lost in every way that there is.

The overlay for GPUs, PostgreSQL, and a store on S3. `DARTS_ASSETS_TEST_CLUSTER_SCENES=30` makes the
backfill larger; see CONTRIBUTING.md.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import STEPS
from darts_assets.settings import Settings
from tests.e2e.equal_stores import assert_equal_stores
from tests.e2e.harness import DEMO_MODEL, Site, repeated_items
from tests.e2e.installation import Installation
from tests.servers.kubernetes.pods import Fault, Pod
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SCENES = int(os.environ.get("DARTS_ASSETS_TEST_CLUSTER_SCENES", "2"))

START_TIMEOUT = 60 + 3 * SCENES
"""Seconds; a pod of ours takes some to start, and others share the machine."""

GPU = "nvidia.com/gpu"
RUN = {"app.kubernetes.io/component": "run_worker"}
SEGMENTATION = {"dagster/op": "sentinel2__segmentation"}


@dataclass
class Storm:
    """A backfill whose pods were lost, when it is over.

    Attributes:
        installation: where it was.
        scenes: the scenes of the backfill.
        waited: a scene of another backfill, whose Job did not start.
        statuses: of both backfills.
        plain: the site on which the same scenes went through the chain in one process.
    """

    installation: Installation
    scenes: list[str]
    waited: str
    statuses: list[BulkActionStatus]
    plain: Site

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.installation.site.instance

    def run_of(self, pod: Pod) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(pod.labels["dagster/run-id"])
        assert run
        return run

    def befallen(self, kind: str, labels: dict[str, str]) -> list[Pod]:
        """The pods of a kind that a fault of a kind has befallen."""
        pods = [pod for pod in self.installation.cluster.history if pod.fault and pod.fault.kind == kind]
        return [pod for pod in pods if labels.items() <= pod.labels.items()]

    def reason(self, run: dg.DagsterRun) -> str:
        """What Dagster says of the failure of a run."""
        (failure,) = self.events(run, dg.DagsterEventType.RUN_FAILURE)
        return str(failure.message) + str(failure.job_failure_data.error)

    def events(self, run: dg.DagsterRun, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        """What Dagster has noted of a run."""
        logs = self.instance.all_logs(run.run_id, of_type=kind)
        return [log.dagster_event for log in logs if log.dagster_event]

    def retry_of(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The run that Dagster has started in place of one that was lost."""
        (retry,) = [each for each in self.instance.get_runs() if each.parent_run_id == run.run_id]
        return retry


@pytest.fixture(scope="module")
def storm(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    folder = tmp_path_factory.mktemp("cluster")
    items = repeated_items(world, folder / "items", SCENES + 1)
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": DEMO_MODEL}
    server = S3Server(folder)
    server.client.create_bucket(Bucket="darts")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        installing = Installation.of(
            "overlays/gpu", folder=folder / "site", secrets=CREDENTIALS,
            max_runs=3, start_timeout=START_TIMEOUT, patience=1200 + 60 * SCENES,
            DARTS_STORE_ENDPOINT=server.endpoint, DARTS_STORE_REGION="us-east-1",
            DARTS_SCENES_PER_RUN=str(max(2, SCENES // 4)),
            **{f"DARTS_{name.upper()}": value for name, value in sources.items()},
        )  # fmt: skip
        with installing as installation, dg.DagsterInstance.local_temp(str(folder)) as instance:
            *scenes, waited = installation.site.register(*items)
            backfills = _befall(installation, scenes, waited)
            plain = Site(folder, Settings(**{"store": str(folder / "plain"), **sources}), instance)
            plain.register(*items)
            assert all(plain.run(scene, segmentation={}).success for scene in scenes)
            installation.finish(*backfills)
            found = [installation.site.instance.get_backfill(each) for each in backfills]
            yield Storm(installation, scenes, waited, [each.status for each in found if each], plain)
    server.stop()


def _befall(installation: Installation, scenes: list[str], waited: str) -> list[str]:
    """Ask for both backfills, start everything, and see to what goes wrong; the rest goes by itself."""
    faults = installation.cluster.faults
    faults.append(Fault("unschedulable", RUN))
    backfills = [installation.backfill([waited], "raw_scene")]
    installation.start()
    installation.wait(lambda: not faults)
    faults += [
        Fault("killed", RUN, "preprocessed_tile - STEP_START"),
        Fault("evicted", RUN, "raw_scene - STEP_START"),
        Fault("killed", SEGMENTATION, "segmentation - STEP_START"),
    ]
    backfills.append(installation.backfill(scenes, *STEPS))
    installation.restart_daemon()
    _lose_the_run_of_a_step(installation)
    return backfills


def _lose_the_run_of_a_step(installation: Installation) -> None:
    """When segmentation is at work and nothing has befallen it: kill the pod of its run, not its own."""

    def unharmed() -> list[Pod]:
        pods = [pod for pod in installation.cluster.history if SEGMENTATION.items() <= pod.labels.items()]
        return [pod for pod in pods if not pod.fault and "segmentation - STEP_START" in pod.lines()]

    installation.wait(lambda: bool(unharmed()))
    run = {**RUN, "dagster/run-id": unharmed()[0].labels["dagster/run-id"]}
    (worker,) = [pod for pod in installation.cluster.history if run.items() <= pod.labels.items()]
    worker.fault = Fault("killed", run)


def test_backfills_complete(storm: Storm) -> None:
    assert storm.statuses == [BulkActionStatus.COMPLETED_SUCCESS] * 2
    for step in STEPS:
        expected = {*storm.scenes, storm.waited} if step == "raw_scene" else set(storm.scenes)
        assert storm.installation.site.materialized(step) == expected


def test_a_job_that_never_starts_is_given_up_and_its_run_retried(storm: Storm) -> None:
    (pod,) = storm.befallen("unschedulable", RUN)
    lost = storm.run_of(pod)
    assert f"longer than {START_TIMEOUT} seconds to start" in storm.reason(lost)
    assert "FailedScheduling: 0/1 nodes are available" in storm.reason(lost)
    assert storm.retry_of(lost).is_success


def test_a_run_whose_pod_was_killed_is_retried_from_where_it_was(storm: Storm) -> None:
    (pod, _) = storm.befallen("killed", RUN)
    lost = storm.run_of(pod)
    assert "PodsLostError" in storm.reason(lost)
    retry = storm.retry_of(lost)
    assert retry.is_success
    assert retry.step_keys_to_execute is not None
    assert "sentinel2__preprocessed_tile" in retry.step_keys_to_execute
    assert "sentinel2__raw_scene" not in retry.step_keys_to_execute


def test_a_step_that_is_told_to_end_leaves_nothing_and_is_done_again(storm: Storm) -> None:
    """An evicted pod: SIGTERM, while a step that has a place in a pool is at work."""
    (pod,) = storm.befallen("evicted", RUN)
    lost = storm.run_of(pod)
    assert "DagsterExecutionInterruptedError" in pod.lines()
    assert "The container did not end in time" not in str(storm.installation.cluster.events)
    assert storm.events(lost, dg.DagsterEventType.ASSET_MATERIALIZATION) == []
    assert storm.retry_of(lost).is_success
    for pool in storm.instance.event_log_storage.get_concurrency_keys():
        held = storm.instance.event_log_storage.get_concurrency_info(pool)
        assert (held.active_slot_count, held.pending_step_count) == (0, 0), pool


def test_a_run_whose_step_was_killed_is_retried_although_the_step_failed(storm: Storm) -> None:
    (pod,) = storm.befallen("killed", SEGMENTATION)
    lost = storm.run_of(pod)
    assert "the pods of these steps were lost before the steps ended: sentinel2__segmentation" in storm.reason(lost)
    assert storm.retry_of(lost).is_success


def test_a_step_outlives_the_pod_of_its_run(storm: Storm) -> None:
    (_, pod) = storm.befallen("killed", RUN)
    run = storm.run_of(pod)
    assert run.is_success
    assert storm.events(run, dg.DagsterEventType.RUN_FAILURE) == []
    started = [event.step_key for event in storm.events(run, dg.DagsterEventType.STEP_START)]
    assert started.count("sentinel2__segmentation") == 1, "the run went on in another pod, with the step at work"


def test_gpus_are_asked_for_by_segmentation_and_by_nothing_else(storm: Storm) -> None:
    asking = [pod for pod in storm.installation.cluster.history if GPU in json.dumps(pod.object["spec"])]
    assert {pod.labels.get("dagster/op") for pod in asking} == set(SEGMENTATION.values())
    assert all(pod.object["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"} for pod in asking)
    every = [pod for pod in storm.installation.cluster.history if SEGMENTATION.items() <= pod.labels.items()]
    assert asking == every


def test_steps_that_may_share_a_pod_had_no_other(storm: Storm) -> None:
    ops = {pod.labels["dagster/op"] for pod in storm.installation.pods("step_worker")}
    assert ops == set(SEGMENTATION.values())


def test_rights_and_settings_suffice(storm: Storm) -> None:
    assert storm.installation.cluster.refused == []


def test_everything_is_as_after_a_plain_run(storm: Storm) -> None:
    for scene in storm.scenes:
        assert_equal_stores(storm.installation.site, storm.plain, scene)
