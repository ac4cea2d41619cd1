"""The client of Kubernetes during outages of the API server, and the launcher and executor that use it."""

import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import urllib3
import yaml
from dagster._core.definitions.job_base import InMemoryJob
from dagster_k8s.client import DagsterK8sUnrecoverableAPIError, DagsterKubernetesClient
from kubernetes import config
from kubernetes.client import Configuration
from kubernetes.config.incluster_config import InClusterConfigLoader

from darts_assets.errors import SourceUnavailableError
from darts_assets.orchestration.core import kubernetes_client
from darts_assets.orchestration.core.executors import executor
from darts_assets.orchestration.core.kubernetes_client import (
    PatientApiClient,
    PatientKubernetesClient,
    PatientRunLauncher,
)
from darts_assets.remote import retry
from darts_assets.remote.retry import RetryPolicy
from tests.servers.kubernetes.api import kubernetes_api
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.test_api import MANIFESTS, job

K8S = Path(__file__).parents[3] / "k8s"
LABELS = {"dagster/run-id": "r1", "dagster/op": "sentinel2__polygons"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(retry, "BACKOFF", (0.1, 0.2))
    with kubernetes_api(tmp_path, MANIFESTS, {"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"}) as cluster:
        config.load_kube_config(str(tmp_path / "starter.kubeconfig"))
        yield cluster


def labelled(name: str, **labels: str) -> dict[str, Any]:
    made = job(name, "sleep 60")
    made["metadata"]["labels"] = labels
    return made


def end_after(cluster: Cluster, seconds: float, forbidden: float = 0) -> threading.Thread:
    """An outage that has begun when this returns."""
    begun = threading.Event()

    def outage() -> None:
        with cluster.listener.outage(forbidden):
            begun.set()
            time.sleep(seconds)

    thread = threading.Thread(target=outage)
    thread.start()
    begun.wait()
    return thread


def test_a_job_is_running_while_nobody_answers(cluster: Cluster) -> None:
    client = PatientKubernetesClient()
    client.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    with cluster.listener.outage(forbidden=1.0):
        begun = time.monotonic()
        assert client.get_job_status("step", "here").active == 1
        assert client.get_job_status("lost", "here").active == 1
        assert time.monotonic() - begun < 5, "nobody waits for each run of a hundred"
    assert client.get_job_status("lost", "here").active == 1  # HTTP 403
    time.sleep(1.1)
    assert client.get_job_status("lost", "here") is None
    assert client.get_job_status("step", "here").active == 1


def test_dagsters_own_client_takes_no_answer_for_an_error(cluster: Cluster) -> None:
    """Run monitoring then starts a second pod of the run. If this fails, ours may go."""
    own = DagsterKubernetesClient.production_client()
    own.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    with cluster.listener.outage(forbidden=1.0), pytest.raises(urllib3.exceptions.HTTPError, match="refused"):
        own.get_job_status("step", "here", wait_time_between_attempts=0)
    with pytest.raises(DagsterK8sUnrecoverableAPIError):
        own.get_job_status("step", "here", wait_time_between_attempts=0)  # HTTP 403


@pytest.mark.parametrize("forbidden", [0.0, 1.0])
def test_jobs_are_created_and_deleted_after_an_outage(cluster: Cluster, forbidden: float) -> None:
    client = PatientKubernetesClient()
    outage = end_after(cluster, 1.0, forbidden)
    client.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    outage.join()
    assert set(cluster.jobs) == {"step"}
    outage = end_after(cluster, 1.0, forbidden)
    assert client.delete_job("step", "here")
    outage.join()
    assert not cluster.jobs


def test_a_job_of_the_same_labels_is_the_own_one(cluster: Cluster) -> None:
    client = PatientKubernetesClient()
    for _ in range(2):
        client.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    assert len(cluster.history) == 1
    with pytest.raises(DagsterK8sUnrecoverableAPIError) as raised:
        client.create_namespaced_job_with_retries(labelled("step", **LABELS | {"dagster/run-id": "r2"}), "here")
    assert raised.value.k8s_api_exception.status == 409


def test_the_own_job_is_recognized_although_it_may_not_be_read_at_once(cluster: Cluster) -> None:
    client = PatientKubernetesClient()
    client.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    rules, may_read = cluster.listener._api._rules, ("starter", "get", "batch", "jobs")
    rules.remove(may_read)
    back = threading.Timer(1.0, rules.add, [may_read])
    back.start()
    client.create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    back.join()
    assert len(cluster.history) == 1


def test_missing_rights_are_refused_after_a_while(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_client, "FORBIDDEN_SECONDS", 0.5)
    config.load_kube_config(str(tmp_path / "idle.kubeconfig"))
    with pytest.raises(DagsterK8sUnrecoverableAPIError) as raised:
        PatientKubernetesClient().create_namespaced_job_with_retries(labelled("step", **LABELS), "here")
    assert "cannot create" in str(raised.value.k8s_api_exception)


def test_the_last_word_after_a_long_outage(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_client, "KUBERNETES", RetryPolicy(3, 1.0))
    with (
        cluster.listener.outage(),
        pytest.raises(SourceUnavailableError, match=r"Kubernetes API does not answer POST .*/jobs: .*; given up after"),
    ):
        PatientKubernetesClient().create_namespaced_job_with_retries(labelled("step", **LABELS), "here")


def test_a_token_that_the_kubelet_replaces_is_read_again(tmp_path: Path) -> None:
    """Runs last longer than tokens."""
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    certificate.write_text("any")
    address = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    loader = InClusterConfigLoader(str(token), str(certificate), environ=address)
    loader.load_and_set()
    try:
        configuration = PatientApiClient().configuration
    finally:
        Configuration.set_default(None)
    assert configuration.get_api_key_with_prefix("BearerToken") == "bearer first"
    token.write_text("second")
    loader.token_expires_at = datetime.now() - timedelta(seconds=1)
    assert configuration.get_api_key_with_prefix("BearerToken") == "bearer second"


def test_launcher_and_steps_of_the_manifests_are_patient(cluster: Cluster, tmp_path: Path) -> None:
    launcher = yaml.safe_load((K8S / "base/dagster.yaml").read_text())["run_launcher"]
    settings = {
        "job_namespace": "here",
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "starter.kubeconfig"),
    }
    launcher["config"] |= settings
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": launcher}))
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        assert isinstance(instance.run_launcher, PatientRunLauncher)
        assert isinstance(instance.run_launcher._api_client, PatientKubernetesClient)
        pods = executor("k8s", {**settings, "kubeconfig_file": str(tmp_path / "starter.kubeconfig")})
        nothing = InMemoryJob(dg.GraphDefinition("nothing").to_job(executor_def=pods))
        checked = pods.apply_config_mapping({"config": {}}).value["config"]
        create = pods.executor_creation_fn
        assert create
        steps: Any = create(dg.InitExecutorContext(nothing, pods, checked, instance))
        assert isinstance(steps._pods._step_handler._api_client, PatientKubernetesClient)
