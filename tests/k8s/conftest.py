"""What Kubernetes is given: the rendered manifests, and the Jobs that Dagster's own code makes of their settings."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.executor_config import executor_config
from darts_assets.orchestration.core.executors import executor
from darts_assets.settings import Settings

K8S = Path(__file__).parents[2] / "k8s"

Manifest = dict[str, Any]


@cache
def _render(folder: str) -> list[Manifest]:
    tool = next(
        ([t, *words] for t, words in (("kubectl", ["kustomize"]), ("kustomize", ["build"])) if shutil.which(t)), None
    )
    if tool is None:
        pytest.skip("neither kubectl nor kustomize on this machine")
    done = subprocess.run([*tool, str(K8S / folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[Manifest]]:
    """The manifests of a folder of `k8s/`."""
    return _render


@cache
def _assets() -> list[dg.AssetsDefinition]:
    return [asset for asset in build_defs(Settings()).assets or [] if isinstance(asset, dg.AssetsDefinition)]


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


@dataclass
class Cluster:
    """A rendered installation, and the Jobs that Dagster would start in it."""

    manifests: list[Manifest]
    kubeconfig: Path

    def find(self, kind: str, name: str) -> Manifest:
        return find(self.manifests, kind, name)

    @property
    def settings(self) -> dict[str, str]:
        return self.find("ConfigMap", "darts-settings")["data"]

    @property
    def instance(self) -> dict[str, Any]:
        return yaml.safe_load(self.find("ConfigMap", "dagster-instance")["data"]["dagster.yaml"])

    @property
    def image(self) -> str:
        (container,) = self.find("Deployment", "darts-code")["spec"]["template"]["spec"]["containers"]
        (image,) = [e["value"] for e in container["env"] if e["name"] == "DAGSTER_CURRENT_IMAGE"]
        return image

    @property
    def executor_config(self) -> dict[str, Any]:
        """The config of the code location's executor, as `k8s_job_executor` takes it."""
        with pytest.MonkeyPatch.context() as environment:
            for name, value in self.settings.items():
                environment.setenv(name, value)
            ours = executor("k8s", executor_config(Settings(), _assets()))
        checked = ours.apply_config_mapping({"config": {}})
        assert checked.success, checked.errors
        return checked.value["config"]

    def job_of_a_run(self, launcher_config: dict[str, Any] | None = None) -> Manifest:
        return self._job(launcher_config or self.instance["run_launcher"]["config"])

    def job_of_a_step(self, op: str, tags: dict[str, Any]) -> Manifest:
        """The Job of a step, put together in the order of `K8sStepHandler`: launcher, executor, tags, step."""
        from dagster_k8s.container_context import K8sContainerContext
        from dagster_k8s.job import UserDefinedDagsterK8sConfig, get_user_defined_k8s_config

        config = self.executor_config
        user_defined = UserDefinedDagsterK8sConfig.from_dict
        layers = [
            K8sContainerContext(
                service_account_name=config.get("service_account_name"),
                run_k8s_config=user_defined(config.get("step_k8s_config", {})),
            ),
            K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags)),
            K8sContainerContext(run_k8s_config=user_defined(config["per_step_k8s_config"].get(op, {}))),
        ]
        return self._job(self.instance["run_launcher"]["config"], *layers)

    def _job(self, launcher_config: dict[str, Any], *layers: Any) -> Manifest:
        import kubernetes
        from dagster._core.launcher import RunLauncher
        from dagster._serdes import ConfigurableClassData
        from dagster_k8s.container_context import K8sContainerContext
        from dagster_k8s.job import construct_dagster_k8s_job

        with pytest.MonkeyPatch.context() as environment:
            for name, value in self.settings.items():
                environment.setenv(name, value)
            outside = {"load_incluster_config": False, "kubeconfig_file": str(self.kubeconfig)}
            data = ConfigurableClassData(
                "dagster_k8s", "K8sRunLauncher", yaml.safe_dump({**launcher_config, **outside})
            )
            launcher = data.rehydrate(as_type=RunLauncher)
            run = dg.DagsterRun(job_name="some_job", job_code_origin=self._origin())
            context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=False)
            for layer in layers:
                context = context.merge(layer)
            job = construct_dagster_k8s_job(
                context.get_k8s_job_config(self.image, launcher),
                args=["dagster", "api"],
                job_name="some-job",
                user_defined_k8s_config=context.run_k8s_config,
            )
        made = kubernetes.client.ApiClient().sanitize_for_serialization(job)
        made["metadata"]["namespace"] = context.namespace
        return made

    def _origin(self) -> Any:
        """Where a run's job comes from, with what the code location says of pods (`dagster api grpc` reads it)."""
        from dagster._core.code_pointer import ModuleCodePointer
        from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

        pods = json.loads(self.settings.get("DAGSTER_CONTAINER_CONTEXT", "null"))
        code = ModuleCodePointer("darts_assets", "defs")
        return JobPythonOrigin("some_job", RepositoryPythonOrigin("python", code, container_context=pods))


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[[str], Cluster]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "none",
            "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "none", "user": {}}],
            "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        })
    )  # fmt: skip
    return lambda folder: Cluster(_render(folder), kubeconfig)
