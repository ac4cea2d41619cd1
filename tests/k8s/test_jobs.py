"""The Jobs of runs and steps, made by Dagster's own code from settings of the launcher, the executor and the assets."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.executors import executor
from darts_assets.settings import Settings, settings
from tests.servers.kubernetes.scheduler import unschedulable

GPU = "nvidia.com/gpu"


@cache
def steps() -> list[tuple[str, dict[str, Any]]]:
    """Name and tags of every op of the code location."""
    return list(_steps(build_defs(Settings())))


def _steps(defs: dg.Definitions) -> Iterator[tuple[str, dict[str, Any]]]:
    for asset in [*(defs.assets or []), *(defs.asset_checks or [])]:
        assert isinstance(asset, dg.AssetsDefinition)
        yield asset.op.name, dict(asset.op.tags)
    for job in defs.jobs or []:
        if isinstance(job, dg.JobDefinition):
            yield from ((node.name, dict(node.definition.tags)) for node in job.graph.nodes)


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def needs_torch(tags: dict[str, Any]) -> bool:
    return GPU in str(tags)


@pytest.mark.slow
def test_jobs_are_valid_strictly(cluster: Callable[[str], Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    local, gpu = cluster("overlays/local"), cluster("overlays/gpu")
    jobs = [local.job_of_a_run(), gpu.job_of_a_run(), *(gpu.job_of_a_step(*step) for step in steps())]
    for job in jobs:
        validate.validate(job, "1.29", strict=True)
        validate.validate(job, validate.latest_version(), strict=True)


def test_gpus_are_for_the_steps_that_need_torch_and_for_nothing_else(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    assert GPU not in str(gpu.job_of_a_run())
    assert GPU not in str([manifest for manifest in gpu.manifests if manifest["kind"] != "ConfigMap"])
    asking = set()
    for op, tags in steps():
        job = gpu.job_of_a_step(op, tags)
        assert unschedulable(job["spec"]["template"]["spec"]) == ""
        pod, resources = job["spec"]["template"]["spec"], container(job)["resources"]
        if needs_torch(tags):
            asking.add(op)
            assert resources["limits"][GPU] == "1"
            assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
            assert [toleration["key"] for toleration in pod["tolerations"]] == [GPU]
            assert container(job)["image"] == gpu.image.removesuffix("-cpu") + "-gpu", "the same version"
        else:
            assert GPU not in str(job)
            assert pod.keys().isdisjoint({"nodeSelector", "tolerations"})
            assert container(job)["image"] == gpu.image
    assert {"sentinel2__segmentation", "planet__segmentation"} <= asking
    assert gpu.executor_config["per_step_k8s_config"].keys() == asking


CHAIN = {"raw_scene", "auxiliary", "preprocessed_tile", "segmentation", "polygons", "products"}
CHECKED = {"raw_scene", "preprocessed_tile", "segmentation", "polygons"}
TRAINING = {"planet_samples", "sentinel2_samples", "matches", "dataset", "model", "report"}
ASKED = {  # GiB asked for and allowed, cores, hours: k8s/README.md
    "raw_scene": (1.5, 3, 1, 6), "auxiliary": (1.5, 3, 1, 6), "preprocessed_tile": (1.5, 3, 2, 2),
    "segmentation": (6, 12, 4, 24), "polygons": (2, 4, 1, 2), "products": (1, 2, 1, 2),
    "arcticdem_chunk": (1.5, 3, 1, 6), "tcvis_chunk": (1.5, 3, 1, 6),
    "planet_samples": (1.5, 3, 1, 2), "sentinel2_samples": (1.5, 3, 1, 2), "matches": (1.5, 3, 1, 6),
    "dataset": (1.5, 3, 1, 6), "model": (8, 24, 4, 168), "report": (8, 24, 4, 24),
    **{f"{step}_checks": (0.5, 1.5, 0.25, 1) for step in CHECKED},
}  # fmt: skip


def test_each_step_asks_for_what_it_was_measured_to_need(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    seen = set()
    for op, tags in steps():
        family, _, step = op.partition("__")
        if step not in ASKED:
            continue
        seen.add((family, step))
        memory, limit, cores, hours = ASKED[step]
        job = gpu.job_of_a_step(op, tags)
        resources = container(job)["resources"]
        assert (gib(resources["requests"]["memory"]), gib(resources["limits"]["memory"])) == (memory, limit), op
        assert float(resources["requests"]["cpu"]) == cores, op
        assert gib(resources["requests"]["ephemeral-storage"]) >= (1 if step in {"raw_scene", "products"} else 0.25)
        assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 3600 * hours, op
        assert job["spec"]["activeDeadlineSeconds"] == 3600 * (hours + 24), "and a day to wait for a node"
        assert job["spec"]["ttlSecondsAfterFinished"] == 86400, "what the launcher says of Jobs stays"
    assert seen >= {(family, step) for family in ("sentinel2", "planet") for step in CHAIN}
    assert seen >= {(family, f"{step}_checks") for family in ("sentinel2", "planet") for step in CHECKED}
    assert seen >= {("training", step) for step in TRAINING}


def test_steps_of_jobs_are_limited_in_memory_and_take_the_time_that_they_need(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    for op in ("fetch_scenes", "fill_arcticdem_chunks", "find_scenes"):
        job = gpu.job_of_a_step(op, dict(steps())[op])
        assert container(job)["resources"]["limits"]["memory"] == "3072Mi"
        assert "activeDeadlineSeconds" not in job["spec"] | job["spec"]["template"]["spec"]


def test_an_operator_has_the_last_word_on_a_step(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    more = {"container_config": {"resources": {"limits": {"memory": "9Gi"}}}}
    gpu.manifests = copy.deepcopy(gpu.manifests)
    gpu.settings["DARTS_K8S_EXECUTOR"] = json.dumps({"per_step_k8s_config": {"sentinel2__polygons": more}})
    job = gpu.job_of_a_step("sentinel2__polygons", dict(steps())["sentinel2__polygons"])
    assert container(job)["resources"]["limits"] == {"memory": "9Gi", "ephemeral-storage": "5120Mi"}
    assert container(job)["resources"]["requests"]["memory"] == "2048Mi"


def gib(quantity: str) -> float:
    return int(quantity.removesuffix("Mi")) / 1024


def test_pods_of_runs_and_steps_are_limited_and_locked_down(cluster: Callable[[str], Any]) -> None:
    gpu, local = cluster("overlays/gpu"), cluster("overlays/local")
    for job in [local.job_of_a_run(), gpu.job_of_a_run(), *(gpu.job_of_a_step(*step) for step in steps())]:
        pod, main = job["spec"]["template"]["spec"], container(job)
        assert job["metadata"]["namespace"] == "darts"
        assert main["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
        assert main["resources"]["limits"].keys() - {GPU} == {"memory", "ephemeral-storage"}
        assert main["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["terminationGracePeriodSeconds"] >= 60
        assert pod["enableServiceLinks"] is False
        assert {source.popitem()[1]["name"] for source in main["envFrom"]} == {"darts-settings", "darts-secrets"}
        # DARTS_CONFIG can be /etc/darts/config/darts.toml.
        assert {"/tmp", "/etc/darts/config"} <= {mount["mountPath"] for mount in main["volumeMounts"]}
        (config,) = (volume["configMap"] for volume in pod["volumes"] if volume["name"] == "config")
        assert (config["name"], config["optional"]) == ("darts-config", True)


def test_only_runs_may_start_jobs(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    bound = {subject["name"] for m in gpu.manifests if m["kind"] == "RoleBinding" for subject in m["subjects"]}
    assert gpu.job_of_a_run()["spec"]["template"]["spec"]["serviceAccountName"] == "dagster-runs"
    accounts = {gpu.job_of_a_step(*step)["spec"]["template"]["spec"]["serviceAccountName"] for step in steps()}
    assert accounts == {"darts-steps"}
    assert bound == {"dagster-runs", "dagster-webserver"}


def test_on_one_machine_a_run_does_all_steps_on_the_store_of_all(cluster: Callable[[str], Any]) -> None:
    local = cluster("overlays/local")
    assert Settings(executor=local.settings["DARTS_EXECUTOR"]).executor == "in_process"
    job = local.job_of_a_run()
    assert {"name": "store", "mountPath": "/data"} in container(job)["volumeMounts"]
    assert local.settings["DARTS_STORE"].startswith("/data/")


def test_the_executor_takes_its_settings_and_a_run_may_say_otherwise() -> None:
    defaults = {"max_concurrent": 3, "per_step_k8s_config": {"some_op": {"container_config": {"image": "a"}}}}
    ours = executor("k8s", defaults)

    def resolved(run: dict[str, Any]) -> dict[str, Any]:
        result = ours.apply_config_mapping({"config": run})
        assert result.success, result.errors
        return result.value["config"]

    assert resolved({})["max_concurrent"] == 3
    assert resolved({})["per_step_k8s_config"].keys() == {"some_op"}
    assert resolved({"max_concurrent": 5})["max_concurrent"] == 5
    assert resolved({"max_concurrent": 5})["per_step_k8s_config"].keys() == {"some_op"}
    assert not executor("k8s", {"no_such_thing": 1}).apply_config_mapping({"config": {}}).success


def test_a_senseless_executor_config_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_K8S_EXECUTOR", '{"max_concurrent": 3}')
    assert Settings().k8s_executor == {"max_concurrent": 3}
    monkeypatch.setenv("DARTS_K8S_EXECUTOR", "{max_concurrent: 3}")
    settings.cache_clear()
    with pytest.raises(SettingsError, match="DARTS_K8S_EXECUTOR"):
        settings()
    settings.cache_clear()
