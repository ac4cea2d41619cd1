"""`DARTS_EXECUTOR=k8s_per_run`: steps in the pod of their run where they may share it, else each in its own.

Runs are executed for good, with Dagster's own client of Kubernetes, against a server that notes the Jobs that it is
asked for and refuses them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.execution.api import execute_run_iterator

from darts_assets.orchestration.core.executors import executor
from darts_assets.orchestration.core.pod_resources import NEEDS, op_tags

pytestmark = pytest.mark.slow

K8S = Path(__file__).parents[2] / "k8s"
DIES_IN = "DARTS_ASSETS_TEST_DIES_IN"


@dg.op(tags=op_tags("raw_scene"), out=dg.Out(dg.Nothing))
def first() -> None:
    pass


@dg.op(tags=op_tags("polygons"), ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def second() -> None:
    if how := os.environ.get(DIES_IN):
        os.kill(os.getpid(), signal.Signals[how])
        time.sleep(60)


@dg.op(tags=op_tags("segmentation"), ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def with_gpu() -> None:
    pass


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def of_a_job() -> None:
    pass


def cheap() -> dg.JobDefinition:
    return _job("cheap", first, second)


def mapping() -> dg.JobDefinition:
    return _job("mapping", first, second, with_gpu)


def fetching() -> dg.JobDefinition:
    return _job("fetching", first, of_a_job)


def _job(name: str, *ops: dg.OpDefinition) -> dg.JobDefinition:
    order = {after.name: {"after": dg.DependencyDefinition(before.name)} for before, after in pairwise(ops)}
    graph = dg.GraphDefinition(name, node_defs=ops, dependencies=order)
    return graph.to_job(executor_def=executor("k8s_per_run", json.loads(os.environ["DARTS_K8S_EXECUTOR"])))


class Cluster(BaseHTTPRequestHandler):
    """Notes Jobs and refuses them; there are none."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(422)

    def do_GET(self) -> None:
        self._answer(404)

    def _answer(self, status: int) -> None:
        body = json.dumps({"kind": "Status", "code": status}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


@contextmanager
def cluster_api() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Cluster,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


@pytest.fixture
def jobs_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """An instance (`DAGSTER_HOME`) whose runs start on such a cluster; the Jobs that it is asked for."""
    with cluster_api() as (url, asked):
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": url}}], "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }))  # fmt: skip
        outside = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
        launcher = {
            "service_account_name": "runs", "instance_config_map": "instance", "dagster_home": "/opt/dagster",
            "postgres_password_secret": "secret", "job_image": "darts-assets:1", **outside,
        }  # fmt: skip
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({
            "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
            "run_monitoring": {"enabled": True, "max_resume_run_attempts": 3},
            "telemetry": {"enabled": False},
        }))  # fmt: skip
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        monkeypatch.setenv("DARTS_K8S_EXECUTOR", json.dumps({"job_image": "darts-assets:1", **outside}))
        yield asked


def execute(name: str) -> tuple[dg.DagsterInstance, dg.JobExecutionResult]:
    instance = dg.DagsterInstance.get()
    return instance, dg.execute_job(ReconstructableJob.for_file(__file__, name), instance=instance)


def test_steps_that_fit_run_in_the_pod_of_their_run(jobs_asked_for: list[dict[str, Any]]) -> None:
    instance, result = execute("cheap")
    with instance, result:
        assert result.success
        assert {event.step_key for event in result.get_step_success_events()} == {"first", "second"}
    assert jobs_asked_for == []


@pytest.mark.parametrize(
    ("name", "here", "in_a_pod"), [("mapping", {"first", "second"}, "with_gpu"), ("fetching", {"first"}, "of_a_job")]
)
def test_only_steps_that_do_not_fit_have_pods(
    name: str, here: set[str], in_a_pod: str, jobs_asked_for: list[dict[str, Any]]
) -> None:
    instance, result = execute(name)
    with instance, result:
        assert not result.success, "its Job was refused"
        assert {event.step_key for event in result.get_step_success_events()} == here
    (job,) = jobs_asked_for
    assert job["metadata"]["labels"]["dagster/op"] == in_a_pod


def dies_in_second(name: str, how: str, status: dg.DagsterRunStatus) -> tuple[dg.DagsterInstance, dg.DagsterRun, int]:
    """A run that another process executes; `status` of the run when that process gets the signal in the step."""
    instance = dg.DagsterInstance.get()
    job = ReconstructableJob.for_file(__file__, name)
    run = instance.create_run_for_job(job.get_definition())
    lost = subprocess.run(
        [sys.executable, __file__, name, run.run_id, status.value],
        env={**os.environ, DIES_IN: how}, capture_output=True, check=False, timeout=50,
    )  # fmt: skip
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None, lost.stderr.decode()
    return instance, ended, lost.returncode


def _report_canceling(instance: dg.DagsterInstance, run: dg.DagsterRun, entry: dg.EventLogEntry, status: str) -> None:
    started = entry.dagster_event and entry.dagster_event.event_type is dg.DagsterEventType.STEP_START
    if started and entry.step_key == "second" and status == dg.DagsterRunStatus.CANCELING.value:
        instance.report_run_canceling(run)


@pytest.mark.parametrize("name", ["cheap", "mapping"])
def test_a_run_whose_pod_is_lost_fails_when_it_is_resumed_and_is_then_retried(
    name: str, jobs_asked_for: list[dict[str, Any]]
) -> None:
    instance, started, code = dies_in_second(name, "SIGKILL", dg.DagsterRunStatus.STARTED)
    assert code == -signal.SIGKILL
    assert started.status is dg.DagsterRunStatus.STARTED
    job = ReconstructableJob.for_file(__file__, name)
    events = list(execute_run_iterator(job, started, instance, resume_from_failure=True))
    assert jobs_asked_for == [], "Dagster does not start a step in a pod that was started once"
    assert "PodsLostError" in events[-1].job_failure_data.error.to_string()
    ended = instance.get_run_by_id(started.run_id)
    assert ended is not None
    assert ended.tags["dagster/failure_reason"] != "STEP_FAILURE", "those are not retried"
    starts = instance.all_logs(started.run_id, of_type=dg.DagsterEventType.STEP_START)
    assert [entry.step_key for entry in starts] == ["first", "second"], "no step is executed twice"


@pytest.mark.parametrize("name", ["cheap", "mapping"])
def test_a_run_that_is_canceled_ends_its_step(name: str, jobs_asked_for: list[dict[str, Any]]) -> None:
    instance, ended, _ = dies_in_second(name, "SIGTERM", dg.DagsterRunStatus.CANCELING)
    assert ended.status is dg.DagsterRunStatus.CANCELED
    failures = instance.all_logs(ended.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert [entry.step_key for entry in failures] == ["second"]
    assert jobs_asked_for == [], "no step follows"


def test_a_pod_that_is_evicted_ends_its_step_and_the_run_is_retried(jobs_asked_for: list[dict[str, Any]]) -> None:
    instance, evicted, _ = dies_in_second("mapping", "SIGTERM", dg.DagsterRunStatus.STARTED)
    assert evicted.status is dg.DagsterRunStatus.STARTED, "it will be resumed"
    job = ReconstructableJob.for_file(__file__, "mapping")
    events = list(execute_run_iterator(job, evicted, instance, resume_from_failure=True))
    assert "PodsLostError" in events[-1].job_failure_data.error.to_string()
    assert jobs_asked_for == []


def test_what_shares_a_pod_fits_into_it(cluster: Callable[[str], Any], tmp_path: Path) -> None:
    """Pods of runs get what the largest of the steps asks for; those of steps get what they get otherwise."""
    folder = os.path.relpath(K8S, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "resources": [f"{folder}/base"], "components": [f"{folder}/components/gpu"],
        })
    )  # fmt: skip
    shared, plain = cluster("overlays/gpu"), cluster(str(tmp_path))
    assert (shared.settings["DARTS_EXECUTOR"], plain.settings["DARTS_EXECUTOR"]) == ("k8s_per_run", "k8s")
    assert shared.settings["DARTS_K8S_EXECUTOR"] == plain.settings["DARTS_K8S_EXECUTOR"]
    (of_a_run,) = shared.job_of_a_run()["spec"]["template"]["spec"]["containers"]
    resources = of_a_run["resources"]
    largest = max(needs.memory for needs in NEEDS.values() if needs.shares_pod)
    assert largest <= int(resources["requests"]["memory"].removesuffix("Mi")) / 1024 <= largest + 1
    assert resources["limits"] == {"memory": "5Gi", "ephemeral-storage": "6Gi"}
    (small,) = plain.job_of_a_run()["spec"]["template"]["spec"]["containers"]
    assert small["resources"]["requests"]["memory"] == "768Mi"
    step = ("sentinel2__segmentation", dict(with_gpu.tags))
    assert shared.job_of_a_step(*step) == plain.job_of_a_step(*step)


if __name__ == "__main__":  # the pod of a run that gets a signal
    name, run_id, status = sys.argv[1:]
    with dg.DagsterInstance.get() as here:
        found = here.get_run_by_id(run_id)
        assert found is not None
        here.add_event_listener(run_id, lambda entry: _report_canceling(here, found, entry, status))
        list(execute_run_iterator(ReconstructableJob.for_file(__file__, name), found, here))
