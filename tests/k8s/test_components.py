"""Optional components: rendered onto the GPU overlay as a site adds them, valid, and with an effect on the pods."""

import ipaddress
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from darts_assets.cli.metrics_commands import metrics_server
from darts_assets.orchestration.run_monitoring.run_metrics import RunMetrics
from tests.k8s.test_manifests import containers, pod_templates

K8S = Path(__file__).parents[2] / "k8s"
COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir() if folder.name != "gpu")
OTHERS = {"kueue.x-k8s.io", "monitoring.coreos.com"}
"""API groups of operators; the tests have no schemas of them."""
GPU_STEP = ("sentinel2__segmentation", {})
STEP = ("sentinel2__polygons", {})

Manifest = dict[str, Any]


@pytest.fixture
def with_components(cluster: Callable[[str], Any], tmp_path: Path) -> Callable[..., Any]:
    def rendered(*names: str) -> Any:
        folder = os.path.relpath(K8S, tmp_path)
        kustomization = {
            "resources": [f"{folder}/overlays/gpu"], "transformers": [f"{folder}/transformers"],
            "components": [f"{folder}/components/{name}" for name in names],
            "images": yaml.safe_load((K8S / "overlays/gpu/kustomization.yaml").read_text())["images"],
        }  # fmt: skip
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return cluster(str(tmp_path))

    return rendered


@pytest.mark.parametrize("names", [*([name] for name in COMPONENTS), COMPONENTS], ids=lambda names: "+".join(names))
def test_components_are_valid_and_locked_down(names: list[str], with_components: Callable[..., Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    manifests = with_components(*names).manifests
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    for manifest in manifests:
        if manifest["apiVersion"].partition("/")[0] not in OTHERS:
            validate.validate(manifest, validate.latest_version(), strict=True)
    for _, template in pod_templates(manifests):
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert container["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}
            if "DAGSTER_HOME" in {variable["name"] for variable in container["env"]}:  # step logs are in the store
                assert "/etc/darts/config" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_images_come_from_a_private_registry(with_components: Callable[..., Any]) -> None:
    accounts = [m for m in with_components("registry").manifests if m["kind"] == "ServiceAccount"]
    assert {account["metadata"]["name"] for account in accounts} == {
        "dagster-runs", "dagster-webserver", "darts-code", "darts-steps",
    }  # fmt: skip
    assert all(account["imagePullSecrets"] == [{"name": "darts-registry"}] for account in accounts)


def test_gpu_steps_use_the_runtime_of_nvidia(with_components: Callable[..., Any]) -> None:
    here = with_components("nvidia-runtime")
    pod = here.job_of_a_step(*GPU_STEP)["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}, "what the gpu component sets stays"
    for other in (here.job_of_a_step(*STEP), here.job_of_a_run()):
        assert "runtimeClassName" not in other["spec"]["template"]["spec"]


def test_steps_wait_in_queues_of_kueue(with_components: Callable[..., Any]) -> None:
    here = with_components("kueue")
    of_kueue = [m for m in here.manifests if m["apiVersion"].startswith("kueue.x-k8s.io/")]
    names = {kind: {m["metadata"]["name"]: m for m in of_kueue if m["kind"] == kind} for kind in
             ("ResourceFlavor", "ClusterQueue", "LocalQueue", "WorkloadPriorityClass")}  # fmt: skip
    label, priority = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
    queues = {}
    for kind, job in (("gpu", here.job_of_a_step(*GPU_STEP)), ("cpu", here.job_of_a_step(*STEP))):
        labels = job["metadata"]["labels"]
        assert labels[priority] in names["WorkloadPriorityClass"]
        queue = names["ClusterQueue"][names["LocalQueue"][labels[label]]["spec"]["clusterQueue"]]
        (group,) = queue["spec"]["resourceGroups"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        asked = container["resources"]["requests"].keys() | {"nvidia.com/gpu"} & container["resources"]["limits"].keys()
        assert asked <= set(group["coveredResources"])
        assert {flavor["name"] for flavor in group["flavors"]} <= names["ResourceFlavor"].keys()
        queues[kind] = queue["metadata"]["name"]
        gpus = [r["nominalQuota"] for r in group["flavors"][0]["resources"] if r["name"] == "nvidia.com/gpu"]
        assert gpus == ([int(here.settings["DAGSTER_POOL_gpu"])] if kind == "gpu" else [])
    run = here.job_of_a_run()["metadata"]["labels"]
    assert label not in run, "Kueue puts it into the queue `default`"
    queues["run"] = names["LocalQueue"]["default"]["spec"]["clusterQueue"]
    assert len(set(queues.values())) == 3, "runs must not use up the quota of their own steps"
    assert here.instance["run_monitoring"]["start_timeout_seconds"] == 86400
    values = {name: m["value"] for name, m in names["WorkloadPriorityClass"].items()}
    assert values["darts-gpu-steps"] > values["darts-steps"]


def test_priorities(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    classes = {m["metadata"]["name"]: m for m in gpu.manifests if m["kind"] == "PriorityClass"}
    assert not any(each.get("globalDefault") for each in classes.values())
    servers = {template["spec"]["priorityClassName"] for _, template in pod_templates(gpu.manifests)}
    assert servers == {"darts-servers"}
    jobs = [gpu.job_of_a_run(), gpu.job_of_a_step(*GPU_STEP), gpu.job_of_a_step(*STEP)]
    order = ["darts-servers", *(job["spec"]["template"]["spec"]["priorityClassName"] for job in jobs)]
    values = [classes[name]["value"] for name in order]
    assert values == sorted(set(values), reverse=True)
    assert all(classes[name]["preemptionPolicy"] == "Never" for name in order[1:]), "no step starts again for another"


def may_connect(manifests: list[Manifest], address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether any policy allows all pods to connect to an address outside of the cluster's pods."""
    there = ipaddress.ip_address(address)
    for policy in (m["spec"] for m in manifests if m["kind"] == "NetworkPolicy" and m["spec"]["podSelector"] == {}):
        for rule in policy.get("egress", []):
            blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
            if {"protocol": protocol, "port": port} in rule["ports"] and any(
                there in ipaddress.ip_network(block["cidr"])
                and not any(there in ipaddress.ip_network(other) for other in block.get("except", []))
                for block in blocks
            ):
                return True
    return False


API_SERVERS = [443, 6443, 8443, 16443]


def test_pods_reach_the_api_names_and_the_internet(render: Callable[[str], list[Manifest]]) -> None:
    manifests = render("overlays/gpu")
    for address in ("10.152.183.1", "192.168.49.2", "fd00:10:96::1"):
        assert all(may_connect(manifests, address, port) for port in API_SERVERS)
    for address in ("203.0.113.7", "2001:db8::7"):
        assert may_connect(manifests, address, 443)
        assert not may_connect(manifests, address, 80)
    assert may_connect(manifests, "169.254.20.10", 53, "UDP"), "NodeLocal DNS"
    (policy,) = [m["spec"] for m in manifests if m["metadata"]["name"] == "outwards"]
    dns = policy["egress"][0]
    labels = [peer["podSelector"] for peer in dns["to"] if "podSelector" in peer]
    assert labels == [
        {"matchExpressions": [
            {"key": "k8s-app", "operator": "In", "values": ["kube-dns", "coredns", "node-local-dns"]}
        ]},
        {"matchLabels": {"dns.operator.openshift.io/daemonset-dns": "default"}},
    ]  # fmt: skip
    assert {(each["protocol"], each["port"]) for each in dns["ports"]} == {
        (protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)
    }


METADATA = ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254"]


def test_credentials_of_nodes_are_out_of_reach(with_components: Callable[..., Any]) -> None:
    for manifests in (with_components("eks").manifests, with_components("registry").manifests):
        assert not any(may_connect(manifests, address, port) for address in METADATA for port in (80, 443, 6443))


@pytest.mark.parametrize(
    ("cloud", "annotation", "places"),
    [
        ("gke", "iam.gke.io/gcp-service-account", [("169.254.169.252", 988), ("169.254.169.254", 80)]),
        ("eks", "eks.amazonaws.com/role-arn", [("169.254.170.23", 80), ("fd00:ec2::23", 80), ("203.0.113.7", 443)]),
    ],
)
def test_pods_have_the_identity_of_their_account(
    cloud: str, annotation: str, places: list[tuple[str, int]], with_components: Callable[..., Any]
) -> None:
    here = with_components(cloud)
    assert all(may_connect(here.manifests, *place) for place in places)
    accounts = [m["metadata"] for m in here.manifests if m["kind"] == "ServiceAccount"]
    assert len(accounts) == 4
    assert all(annotation in account["annotations"] for account in accounts)


def test_pods_of_jobs_are_not_moved(cluster: Callable[[str], Any]) -> None:
    gpu = cluster("overlays/gpu")
    for job in (gpu.job_of_a_run(), gpu.job_of_a_step(*GPU_STEP)):
        assert job["spec"]["template"]["metadata"]["annotations"] == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true",
        }  # fmt: skip


def test_webservers_prefer_two_nodes(cluster: Callable[[str], Any]) -> None:
    pod = cluster("overlays/gpu").find("Deployment", "dagster-webserver")["spec"]["template"]
    (term,) = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    selected = term["podAffinityTerm"]["labelSelector"]["matchLabels"].items()
    assert selected <= pod["metadata"]["labels"].items()
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_alerts_and_dashboard_use_metrics_that_there_are(with_components: Callable[..., Any]) -> None:
    here = with_components("metrics")
    with dg.DagsterInstance.ephemeral() as instance:
        families = list(RunMetrics(instance).collect())
    exported = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    (rule,) = [m for m in here.manifests if m["kind"] == "PrometheusRule"]
    alerts = rule["spec"]["groups"][0]["rules"]
    dashboard = json.loads(here.find("ConfigMap", "darts-dashboard")["data"]["darts.json"])
    queries = [*(alert["expr"] for alert in alerts), *(p["targets"][0]["expr"] for p in dashboard["panels"])]
    assert set(re.findall(r"darts_\w+", " ".join(queries))) == exported
    assert {alert["labels"]["severity"] for alert in alerts} == {"critical", "warning"}


def test_prometheus_reaches_the_metrics(with_components: Callable[..., Any]) -> None:
    here = with_components("metrics")
    pod = here.find("Deployment", "darts-metrics")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"][:2] == ["darts-assets", metrics_server.name]
    assert container["args"][-1] == str(container["ports"][0]["containerPort"])
    assert container["image"] == here.image
    (monitor,) = [m["spec"] for m in here.manifests if m["kind"] == "PodMonitor"]
    policy = here.find("NetworkPolicy", "to-metrics")["spec"]
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert monitor["podMetricsEndpoints"][0]["port"] == container["ports"][0]["name"]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": container["ports"][0]["containerPort"]}]
