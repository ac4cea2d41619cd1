"""The overlays of `k8s/`: every job in pods, a pod for each step, and all on one machine.

`test_kubernetes.py` has backfills in pods of runs.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.settings import Settings
from darts_assets.sources import read_item
from tests.e2e.equal_stores import assert_equal_stores
from tests.e2e.harness import DEMO_MODEL, Site
from tests.e2e.installation import Installation
from tests.sample_data.planet_deliveries import SCENE, write_image
from tests.servers.kubernetes.pods import Fault, Pod
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

RUN = {"app.kubernetes.io/component": "run_worker"}


@dataclass
class Mapped:
    """A scene that went through the chain in an installation, and in a plain run.

    Attributes:
        installation: where it was.
        status: of the backfill that it was asked for with.
        lost: the runs that failed, by the pods that were lost; in their order.
    """

    installation: Installation
    status: BulkActionStatus
    lost: Sequence[dg.DagsterRun]

    def reasons(self) -> list[str]:
        """What Dagster says of the runs that failed."""
        failures = []
        for run in self.lost:
            logs = self.installation.site.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            failures += [log.dagster_event for log in logs if log.dagster_event]
        return [str(failure.message) + str(failure.job_failure_data.error) for failure in failures]

    def steps(self) -> list[Pod]:
        return self.installation.pods("step_worker")


def of(op: str) -> dict[str, str]:
    """The labels of the pod of a step."""
    return {"dagster/op": f"sentinel2__{op}"}


@contextmanager
def mapped(
    overlay: str, world: World, folder: Path, faults: Sequence[Fault], outage_in: str | None = None, **settings: str
) -> Iterator[Mapped]:
    """In the step `outage_in`, the API server refuses connections, and then knows no role for some seconds."""
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": DEMO_MODEL}
    settings |= {f"DARTS_{name.upper()}": value for name, value in sources.items()}
    installing = Installation.of(
        overlay, folder=folder / "site", secrets=CREDENTIALS, max_runs=2, start_timeout=120, patience=600,
        DARTS_SCENES_PER_RUN="1", **settings,
    )  # fmt: skip
    with installing as installation, dg.DagsterInstance.local_temp(str(folder)) as instance:
        (scene,) = installation.site.register(world.items[0])
        installation.cluster.faults += faults
        backfill = installation.backfill([scene], *STEPS)
        installation.start()
        if outage_in:
            installation.wait(
                lambda: any(of(outage_in).items() <= pod.labels.items() for pod in installation.pods("step_worker"))
            )
            with installation.cluster.listener.outage(forbidden=5):
                time.sleep(8)
        plain = Site(folder, Settings(**{"store": str(folder / "plain"), **sources}), instance)
        plain.register(world.items[0])
        assert plain.run(scene, segmentation={}).success
        installation.finish(backfill)
        assert installation.cluster.faults == []
        assert installation.cluster.refused == []
        found = installation.site.instance.get_backfill(backfill)
        assert found
        failed = installation.site.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert_equal_stores(installation.site, plain, scene)
        yield Mapped(installation, found.status, failed[::-1])


def test_a_pod_for_each_step(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them goes with its node: it is told to end, and the pod is gone. An outage of the API costs nothing."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="darts")
    store = {"DARTS_STORE_ENDPOINT": server.endpoint, "DARTS_STORE_REGION": "us-east-1", "DARTS_EXECUTOR": "k8s"}
    faults = [Fault("drained", of("preprocessed_tile"), "preprocessed_tile - STEP_START")]
    try:
        with mapped("overlays/gpu", world, tmp_path, faults, outage_in="raw_scene", **store) as done:
            assert done.status is BulkActionStatus.COMPLETED_SUCCESS
            (reason,) = done.reasons()
            assert "the pods of these steps were lost before the steps ended: sentinel2__preprocessed_tile" in reason
            assert len(done.installation.pods("run_worker")) == 2, "no second one during the outage"
            ops = [pod.labels["dagster/op"] for pod in done.steps()]
            assert {f"sentinel2__{step}" for step in STEPS} <= set(ops)
            again = {op for op in ops if ops.count(op) > 1}
            assert again == {"sentinel2__preprocessed_tile"}, "and nothing else was done twice"
            asking = {pod.labels["dagster/op"] for pod in done.steps() if "nvidia.com/gpu" in str(pod.object["spec"])}
            assert asking == {"sentinel2__segmentation"}
            cancelled_while_a_step_waits_for_a_node(done.installation, world.items[1])
            servers_end_on_sigterm(done.installation)
    finally:
        server.stop()


def cancelled_while_a_step_waits_for_a_node(installation: Installation, item: Path) -> None:
    """Nothing of the run is left, nor does it hold its place among those that fetch."""
    (scene,) = installation.site.register(item)
    installation.cluster.faults.append(Fault("unschedulable", of("raw_scene")))
    installation.backfill([scene], "raw_scene")
    installation.restart_daemon()
    installation.wait(lambda: bool(waiting(installation)))
    run_id = waiting(installation)[0].labels["dagster/run-id"]
    installation.start_ui()
    installation.cancel(run_id)
    instance = installation.site.instance

    def cancelled() -> bool:
        run = instance.get_run_by_id(run_id)
        assert run
        return run.status is dg.DagsterRunStatus.CANCELED and not waiting(installation)

    installation.wait(cancelled)
    assert [job for job in installation.cluster.jobs.values() if run_id in str(job) and not ended(job)] == []
    assert scene not in installation.site.materialized("raw_scene")
    assert installation.cluster.refused == []
    installation.wait(lambda: instance.event_log_storage.get_concurrency_info("cdse").active_slot_count == 0)


def servers_end_on_sigterm(installation: Installation) -> None:
    """Code location, daemon and webserver; `test_kubernetes.py` ends runs and steps."""
    servers = [pod for pod in installation.cluster.pods.values() if "job-name" not in pod.labels]
    assert {pod.labels["app.kubernetes.io/component"] for pod in servers} == {"code-location", "daemon", "webserver"}
    for pod in servers:
        installation.cluster.delete_pod(pod.name)
    installation.wait(lambda: all(pod.finished for pod in servers))
    assert "The container did not end in time" not in str(installation.cluster.events)
    code = next(pod for pod in servers if pod.labels["app.kubernetes.io/component"] == "code-location")
    assert "Stopping server once all current RPC calls terminate" in code.lines()


def waiting(installation: Installation) -> list[Pod]:
    """Pods of steps for which there is no node."""
    return [pod for pod in installation.pods("step_worker") if pod.phase == "Pending" and not pod.terminating]


def ended(job: dict[str, Any]) -> bool:
    return not job["status"]["active"]


def test_one_machine(world: World, tmp_path: Path) -> None:
    """One pod for all steps, on whose volume the store is; it is killed in the middle."""
    faults = [Fault("killed", RUN, "segmentation - STEP_START")]
    with mapped("overlays/local", world, tmp_path, faults) as done:
        assert done.status is BulkActionStatus.COMPLETED_SUCCESS
        assert done.steps() == []
        assert len(done.lost) == 1
        assert len(done.installation.pods("run_worker")) == 2
        assert "nvidia.com/gpu" not in str([pod.object["spec"] for pod in done.installation.cluster.history])
        retry = next(run for run in done.installation.site.instance.get_runs() if run.is_success)
        assert retry.step_keys_to_execute is not None
        assert SENTINEL2.key("preprocessed_tile").to_python_identifier() not in retry.step_keys_to_execute


IN_PODS = {
    "dagster-k8s/config": json.dumps({"container_config": {"env": [{"name": "DARTS_EXECUTOR", "value": "k8s"}]}})
}
"""Tags of a run that gives each step a pod, in an installation that does not."""


@dataclass(frozen=True)
class Launched:
    """A job to launch.

    Attributes:
        job: its name.
        ops: the config by op.
        partition: the key of a partitioned job.
        in_pods: whether each step has a pod.
    """

    job: str
    ops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    partition: str | None = None
    in_pods: bool = False


def both(*jobs: Launched) -> list[Launched]:
    """Jobs with both executors."""
    return [*jobs, *(replace(job, in_pods=True) for job in jobs)]


def in_order(item: Path, images: Path, image: str) -> Iterator[list[Launched]]:
    """All jobs for a scene and an image, in groups of jobs that run beside each other."""
    segmentation, scene, folders = {"patch_size": 64, "overlap": 16}, item.stem, [str(images)]
    yield both(Launched("register_scenes", {"register": {"items": [str(item), f"{images}/{image}"]}}))
    yield both(
        Launched("discover_scenes", {"find_scenes": {"scene_ids": [scene]}}),
        Launched("discover_planet_images", {"find_planet_images": {"folders": folders}}),
        Launched("prepare_data", {"choose_scenes": {"scene_ids": [scene]}}),
        Launched("prepare_planet_data", {"choose_scenes": {"folders": folders}}),
        Launched("prepare_auxiliary", {"choose_chunks": {"scenes": [scene]}}),
    )
    yield [
        # `test_a_pod_for_each_step` has the chain with a pod for each step.
        Launched("sentinel2_chain", {"sentinel2__segmentation": segmentation}, scene),
        Launched("planet_chain", {"planet__segmentation": segmentation}, image),
        Launched("expire_cube_history", in_pods=True),
    ]
    yield [
        *both(*map(Launched, ("publish_catalog", "release_tiles", "collect_replaced_versions", "prune_run_logs"))),
        *both(Launched("update_inventory", partition="2023")),
        Launched("expire_cube_history"),  # refuses to run twice at once
    ]


def test_every_job_with_both_executors(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the pod of the run, and with a pod for each step."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    band = next(iter(read_item(str(world.items[0]))["assets"].values()))
    _, _, left, _, _, top, *_ = band["proj:transform"]
    write_image(tmp_path / "images", SCENE, crs=band["proj:code"], where=(left + 900, top - 900))
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="darts")
    installing = Installation.of(
        "overlays/gpu", folder=tmp_path / "site", secrets=CREDENTIALS, max_runs=4, start_timeout=300, patience=900,
        DARTS_STORE_ENDPOINT=server.endpoint, DARTS_STORE_REGION="us-east-1", DARTS_MODELS=DEMO_MODEL,
        DARTS_ARCTICDEM=str(world.arcticdem), DARTS_ARCTICDEM_RESOLUTION="10", DARTS_TCVIS=world.tcvis,
    )  # fmt: skip
    launched: dict[tuple[str, bool], str] = {}
    with installing as installation:
        installation.start()
        installation.start_ui()
        instance = installation.site.instance

        def finished() -> bool:
            runs = [instance.get_run_by_id(run_id) for run_id in launched.values()]
            return all(run and run.is_finished for run in runs)

        for group in in_order(world.items[0], tmp_path / "images", SCENE):
            for each in group:
                tags = {"dagster/partition": each.partition} if each.partition else {}
                tags |= IN_PODS if each.in_pods else {}
                launched[each.job, each.in_pods] = installation.launch(each.job, each.ops, tags)
            installation.wait(finished)
        assert {job for job, _ in launched} == {job.name for job in installation.site.defs.jobs or []}
        ended = {launch: instance.get_run_by_id(run_id) for launch, run_id in launched.items()}
        assert [launch for launch, run in ended.items() if not (run and run.is_success)] == []
        pods = Counter(pod.labels["dagster/run-id"] for pod in installation.cluster.history if "job-name" in pod.labels)
        alone = {job for (job, in_pods), run_id in launched.items() if not in_pods and pods[run_id] == 1}
        assert alone >= {
            "register_scenes", "discover_scenes", "discover_planet_images", "release_tiles", "prune_run_logs",
            "collect_replaced_versions", "expire_cube_history",
        }  # fmt: skip
        assert [pods[launched[f"{family}_chain", False]] for family in ("sentinel2", "planet")] == [2, 2]
        assert all(pods[run_id] > 1 for (_, in_pods), run_id in launched.items() if in_pods)
        assert installation.cluster.refused == []
    server.stop()
