"""The manifests: valid, without secrets, with limits, least rights and locked containers."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Manifest = dict[str, Any]
Render = Callable[[str], list[Manifest]]

ALL = ["base", "overlays/local", "overlays/gpu", "helm"]
APPLIED = ["overlays/local", "overlays/gpu"]


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


@pytest.mark.parametrize("folder", ALL)
def test_manifests_are_valid_strictly(folder: str, render: Render) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for version in ("1.29", validate.latest_version()):
        for manifest in render(folder):
            validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", ALL)
def test_secrets_are_named_and_never_given(folder: str, render: Render) -> None:
    manifests = render(folder)
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    for name, template in pod_templates(manifests):
        for container in containers(template):
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|KEY|TOKEN", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            text = "\n".join(f"{name}: {value}" for name, value in manifest["data"].items())
            assert not re.search(
                r"(?im)^\W*(password|\w*access_key\w*|\w*private_key|\w*_token)\W*[:=](?! *\{env: )", text
            )
            assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN", text)


@pytest.mark.parametrize("folder", ALL)
def test_every_container_says_what_it_needs(folder: str, render: Render) -> None:
    for name, template in pod_templates(render(folder)):
        for container in containers(template):
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}, name
            assert resources["limits"].keys() == {"memory", "ephemeral-storage"}, name


@pytest.mark.parametrize("folder", ALL)
def test_containers_are_locked_down(folder: str, render: Render) -> None:
    for _, template in pod_templates(render(folder)):
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("folder", APPLIED)
def test_what_is_referred_to_is_there(folder: str, render: Render) -> None:
    manifests = render(folder)
    named = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for _, template in pod_templates(manifests):
        spec = template["spec"]
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", spec["serviceAccountName"]) in named
        for container in containers(template):
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert ("ConfigMap", source["configMapRef"]["name"]) in named
            assert {mount["name"] for mount in container["volumeMounts"]} <= {
                volume["name"] for volume in [*spec["volumes"], {"name": "data"}]
            }
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in named
    templates = dict(pod_templates(manifests))
    for service in (manifest for manifest in manifests if manifest["kind"] == "Service"):
        selected = [
            t for t in templates.values() if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()
        ]
        assert len(selected) == 1, service["metadata"]["name"]
        ports = {port["name"] for port in selected[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("folder", ["base", "helm"])
def test_accounts_may_do_what_dagster_calls_and_no_more(folder: str, render: Render) -> None:
    manifests = render(folder)
    assert "ClusterRole" not in {manifest["kind"] for manifest in manifests}
    rules = {m["metadata"]["name"]: m["rules"] for m in manifests if m["kind"] == "Role"}
    rights: dict[str, set[tuple[str, str]]] = {}
    for binding in (manifest for manifest in manifests if manifest["kind"] == "RoleBinding"):
        for subject in binding["subjects"]:
            rights.setdefault(subject["name"], set()).update(
                (resource, verb)
                for rule in rules[binding["roleRef"]["name"]]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            )
    watch_and_end = {
        ("jobs", "get"), ("jobs", "list"), ("jobs", "delete"), ("jobs/status", "get"), ("pods", "get"),
        ("pods", "list"), ("pods", "delete"), ("pods/log", "get"), ("events", "list"),
    }  # fmt: skip
    assert rights == {"dagster-webserver": watch_and_end, "dagster-runs": watch_and_end | {("jobs", "create")}}
    accounts = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ServiceAccount"}
    assert accounts.keys() == {"dagster-runs", "dagster-webserver", "darts-code", "darts-steps"}


@pytest.mark.parametrize("folder", ALL)
def test_nothing_reaches_a_pod_unless_named(folder: str, render: Render) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in render(folder) if m["kind"] == "NetworkPolicy"}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to = {
        policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: policy["ingress"]
        for name, policy in policies.items()
        if "ingress" in policy
    }
    assert open_to.keys() - {"database"} == {"code-location", "webserver"}
    for rules in open_to.values():
        for rule in rules:
            assert rule["from"]
            assert rule["ports"]


@pytest.mark.parametrize("folder", APPLIED)
def test_budgets_leave_nodes_drainable(folder: str, render: Render) -> None:
    manifests = render(folder)
    (budget,) = [manifest["spec"] for manifest in manifests if manifest["kind"] == "PodDisruptionBudget"]
    wanted = budget["selector"]["matchLabels"].items()
    (deployment,) = [
        m
        for m in manifests
        if m["kind"] == "Deployment" and wanted <= m["spec"]["template"]["metadata"]["labels"].items()
    ]
    if folder != "overlays/local":  # one node, which nobody drains
        assert budget["minAvailable"] < deployment["spec"]["replicas"]


@pytest.mark.parametrize("folder", APPLIED)
def test_runs_have_the_image_of_the_code_location(folder: str, render: Render) -> None:
    (container,) = next(t for name, t in pod_templates(render(folder)) if name == "darts-code")["spec"]["containers"]
    (said,) = [variable["value"] for variable in container["env"] if variable["name"] == "DAGSTER_CURRENT_IMAGE"]
    assert said == container["image"]
    assert said.partition(":")[2]
