"""`k8s/helm/values.yaml` says to the official chart what `k8s/overlays/gpu` says to the cluster."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[2] / "k8s" / "helm" / "values.yaml").read_text())


def snake(value: Any, *, keep: tuple[str, ...] = ("value", "annotations")) -> Any:
    """Keys from `camelCase` to `snake_case`, but below keys whose content is somebody else's."""
    if isinstance(value, list):
        return [snake(item, keep=keep) for item in value]
    if not isinstance(value, dict):
        return value
    names = {key: re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match[0].lower(), key) for key in value}
    return {names[key]: item if key in keep else snake(item, keep=keep) for key, item in value.items()}


def image(said: dict[str, Any]) -> str:
    return f"{said['repository']}:{said['tag']}"


def sources(container: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Config maps and secrets that a container's environment comes from, in the chart's words."""
    said: dict[str, list[dict[str, str]]] = {"envConfigMaps": [], "envSecrets": []}
    for source in container["envFrom"]:
        kind, reference = next(iter(source.items()))
        said["envConfigMaps" if kind == "configMapRef" else "envSecrets"].append(reference)
    return said


def test_servers_have_the_same_image_environment_and_resources(
    values: dict[str, Any], cluster: Callable[[str], Any]
) -> None:
    gpu = cluster("overlays/gpu")
    (code,) = values["dagster-user-deployments"]["deployments"]
    said = {
        "darts-code": code,
        "dagster-webserver": values["dagsterWebserver"],
        "dagster-daemon": values["dagsterDaemon"],
    }
    for name, chart in said.items():
        deployment = gpu.find("Deployment", name)["spec"]
        pod = deployment["template"]["spec"]
        (container,) = pod["containers"]
        assert image(chart["image"]) == container["image"]
        assert chart["image"]["pullPolicy"] == container["imagePullPolicy"]
        assert {"envConfigMaps": chart["envConfigMaps"], "envSecrets": chart.get("envSecrets", [])} == sources(
            container
        )
        assert chart["resources"] == container["resources"]
        first = [{**each, "volumeMounts": None} for each in chart.get("extraPrependedInitContainers", [])]
        assert first == [{**each, "volumeMounts": None} for each in pod.get("initContainers", [])]
        assert chart["securityContext"] == container["securityContext"]
        assert chart["podSecurityContext"] == pod["securityContext"]
        # The chart mounts the instance and the workspace of servers itself.
        assert [v for v in chart["volumes"] if v["name"] != "instance"] == [
            volume for volume in pod["volumes"] if volume["name"] != "instance"
        ]
        assert [m for m in chart["volumeMounts"] if m["name"] != "instance"] == [
            mount for mount in container["volumeMounts"] if mount["name"] != "instance"
        ]
        assert chart.get("replicaCount", 1) == deployment["replicas"]
        assert ("affinity" in chart) == ("affinity" in pod)
        component = "app.kubernetes.io/component"  # network policies and the budget go by it
        assert chart["labels"] == {component: deployment["template"]["metadata"]["labels"][component]}
    served = ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", str(code["port"]), *code["dagsterApiGrpcArgs"]]
    (container,) = gpu.find("Deployment", "darts-code")["spec"]["template"]["spec"]["containers"]
    assert container["args"] == served
    assert code["serviceAccount"]["name"] == "darts-code"


def test_runs_are_the_same_jobs(values: dict[str, Any], cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    assert values["runLauncher"]["type"] == "CustomRunLauncher"
    chart, launcher = values["runLauncher"]["config"]["customRunLauncher"], gpu.instance["run_launcher"]
    assert (chart["module"], chart["class"]) == (launcher["module"], launcher["class"])
    assert chart["config"] == {**launcher["config"], "job_namespace": "darts"}
    assert chart["config"]["dagster_home"] == values["global"]["dagsterHome"]
    assert chart["config"]["service_account_name"] == values["global"]["serviceAccountName"]
    assert gpu.job_of_a_run(chart["config"]) == gpu.job_of_a_run()


def test_the_instance_is_the_same(values: dict[str, Any], cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    instance = gpu.instance
    chart = snake({key: values[key] for key in ("concurrency", "retention", "computeLogManager", "telemetry")})
    assert chart["concurrency"] == {"enabled": True, **instance["concurrency"]}
    assert chart["retention"]["sensor"] == instance["retention"]["sensor"]
    assert chart["telemetry"] == instance["telemetry"]
    assert chart["compute_log_manager"]["type"] == "CustomComputeLogManager"
    assert chart["compute_log_manager"]["config"]["custom_compute_log_manager"] == {
        **instance["compute_logs"], "config": {},
    }  # fmt: skip
    assert values["additionalInstanceConfig"] == {"nux": instance["nux"]}
    daemon = snake(values["dagsterDaemon"])
    assert daemon["run_monitoring"] == instance["run_monitoring"]
    assert daemon["run_retries"] == instance["run_retries"]
    assert daemon["run_coordinator"]["type"] == instance["run_coordinator"]["class"]
    database, settings = values["postgresql"], gpu.settings
    assert database["enabled"] is False
    said = instance["storage"]["postgres"]["postgres_db"]
    assert (database["postgresqlScheme"], database["postgresqlParams"]) == (said["scheme"], said["params"])
    assert (database["postgresqlHost"], str(database["service"]["port"])) == (
        settings["DAGSTER_PG_HOST"], settings["DAGSTER_PG_PORT"],
    )  # fmt: skip
    assert (database["postgresqlDatabase"], database["postgresqlUsername"]) == (
        settings["DAGSTER_PG_DB"], settings["DAGSTER_PG_USERNAME"],
    )  # fmt: skip


def test_the_chart_brings_no_rights_and_no_secrets_of_its_own(values: dict[str, Any]) -> None:
    assert values["rbacEnabled"] is False
    assert values["serviceAccount"]["create"] is False
    assert values["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in values["postgresql"]
    assert not any(values[part]["enabled"] for part in ("rabbitmq", "redis", "flower"))
