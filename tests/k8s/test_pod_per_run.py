"""`DARTS_EXECUTOR=k8s_per_run`: steps in the pod of their run where all of them may share it, else each in its own.

Runs are executed for good, with Dagster's own client of Kubernetes, against a server that notes the Jobs that it is
asked for and refuses them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    if os.environ.get(DIES_IN) == "second":
        os.kill(os.getpid(), signal.SIGKILL)


@dg.op(tags=op_tags("segmentation"), ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def with_gpu() -> None:
    pass


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def of_a_job() -> None:
    pass


def cheap() -> dg.JobDefinition:
    return _job("cheap", second)


def mapping() -> dg.JobDefinition:
    return _job("mapping", with_gpu)


def fetching() -> dg.JobDefinition:
    return _job("fetching", of_a_job)


def _job(name: str, after: dg.OpDefinition) -> dg.JobDefinition:
    order = {after.name: {"after": dg.DependencyDefinition("first")}}
    graph = dg.GraphDefinition(name, node_defs=[first, after], dependencies=order)
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


@pytest.mark.parametrize("name", ["mapping", "fetching"])
def test_with_a_step_that_does_not_fit_each_has_a_pod(name: str, jobs_asked_for: list[dict[str, Any]]) -> None:
    instance, result = execute(name)
    with instance, result:
        assert not result.success
    (job,) = jobs_asked_for
    assert job["metadata"]["labels"]["dagster/op"] == "first"


def test_a_run_whose_pod_is_lost_fails_when_it_is_resumed_and_is_then_retried(
    jobs_asked_for: list[dict[str, Any]],
) -> None:
    instance = dg.DagsterInstance.get()
    job = ReconstructableJob.for_file(__file__, "cheap")
    run = instance.create_run_for_job(job.get_definition())
    lost = subprocess.run(
        [sys.executable, __file__, run.run_id], env={**os.environ, DIES_IN: "second"}, capture_output=True, check=False
    )
    assert lost.returncode == -signal.SIGKILL, lost.stderr.decode()
    assert jobs_asked_for == []
    started = instance.get_run_by_id(run.run_id)
    assert started is not None
    assert started.status is dg.DagsterRunStatus.STARTED
    events = list(execute_run_iterator(job, started, instance, resume_from_failure=True))
    assert jobs_asked_for == [], "Dagster does not start a step in a pod that was started once"
    assert "PodsLostError" in events[-1].job_failure_data.error.to_string()
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.tags["dagster/failure_reason"] != "STEP_FAILURE", "those are not retried"


def test_what_shares_a_pod_fits_into_it(cluster: Callable[[str], Any], tmp_path: Path) -> None:
    """Pods of runs get what the largest of the steps asks for; those of steps get what they get otherwise."""
    folder = os.path.relpath(K8S, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "resources": [f"{folder}/overlays/gpu"], "components": [f"{folder}/components/pod-per-run"],
        })
    )  # fmt: skip
    shared, plain = cluster(str(tmp_path)), cluster("overlays/gpu")
    assert shared.settings["DARTS_EXECUTOR"] == "k8s_per_run"
    assert shared.settings["DARTS_K8S_EXECUTOR"] == plain.settings["DARTS_K8S_EXECUTOR"]
    (of_a_run,) = shared.job_of_a_run()["spec"]["template"]["spec"]["containers"]
    resources = of_a_run["resources"]
    largest = max(needs.memory for needs in NEEDS.values() if needs.shares_pod)
    assert largest <= int(resources["requests"]["memory"].removesuffix("Mi")) / 1024 <= largest + 1
    assert resources["limits"] == {"memory": "5Gi", "ephemeral-storage": "6Gi"}
    step = ("sentinel2__segmentation", dict(with_gpu.tags))
    assert shared.job_of_a_step(*step) == plain.job_of_a_step(*step)


if __name__ == "__main__":  # the pod of a run that is lost
    with dg.DagsterInstance.get() as here:
        found = here.get_run_by_id(sys.argv[1])
        assert found is not None
        list(execute_run_iterator(ReconstructableJob.for_file(__file__, "cheap"), found, here))
