"""Jobs that Kueue suspends until its quota admits them: neither run nor step counts as lost meanwhile."""

import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import WorkerStatus
from dagster_k8s.executor import K8sStepHandler
from kubernetes import client, config

from darts_assets.orchestration.core.kubernetes_client import PatientKubernetesClient
from tests.servers.kubernetes.api import kubernetes_api
from tests.servers.kubernetes.test_api import MANIFESTS, ended, job


class Handler(K8sStepHandler):
    """Of a step whose Job is called `step`."""

    def __init__(self) -> None:
        self._api_client = PatientKubernetesClient()

    def _get_step_key(self, _: Any) -> str:
        return "step"

    def _get_k8s_step_job_name(self, _: Any) -> str:
        return "step"

    def _get_container_context(self, _: Any) -> Any:
        return dg.DagsterInstance.get().run_launcher.get_container_context_for_run(RUN)


RUN = dg.DagsterRun(
    job_name="some_job", run_id="0a1b2c3d-0000-4000-8000-000000000001", status=dg.DagsterRunStatus.STARTED
)


def test_suspended_jobs_are_alive_and_their_deadline_starts_when_they_are_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"}
    with kubernetes_api(tmp_path, MANIFESTS, path) as cluster:
        cluster.suspends = True
        kubeconfig = str(tmp_path / "starter.kubeconfig")
        config.load_kube_config(kubeconfig)
        launcher = {
            "module": "darts_assets.orchestration.core.kubernetes_client", "class": "PatientRunLauncher",
            "config": {"job_namespace": "here", "load_incluster_config": False, "kubeconfig_file": kubeconfig,
                       "service_account_name": "starter", "instance_config_map": "instance", "dagster_home": "/opt",
                       "postgres_password_secret": "secret"},
        }  # fmt: skip
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": launcher}))
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
        batch, names = client.BatchV1Api(), ("step", f"dagster-run-{RUN.run_id}")
        for name in names:
            batch.create_namespaced_job("here", job(name, "sleep 0.1", activeDeadlineSeconds=1))
        time.sleep(1.2)
        assert cluster.history == [], "no pods"
        with dg.DagsterInstance.get() as instance:
            context: Any = None
            assert Handler().check_step_health(context).is_healthy
            assert instance.run_launcher.check_run_worker_health(RUN).status is WorkerStatus.RUNNING
            for name in names:
                assert batch.read_namespaced_job_status(name, "here").status.conditions is None, "no deadline yet"
                cluster.admit(name)
                assert ended(batch, name).succeeded == 1
            assert Handler().check_step_health(context).is_healthy
            assert instance.run_launcher.check_run_worker_health(RUN).status is WorkerStatus.FAILED, "RUN is STARTED"
