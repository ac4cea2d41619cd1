"""The Kubernetes API server of the tests, through the real client: what it runs, what it refuses, how pods end."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.rest import ApiException

from tests.servers.kubernetes.api import ADMIN, kubernetes_api
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.pods import Fault

VERBS = ["create", "get", "list", "delete"]
MANIFESTS = [
    {"kind": "ConfigMap", "metadata": {"name": "words", "namespace": "here"}, "data": {"COLOUR": "red", "SIZE": "3"}},
    {"kind": "ConfigMap", "metadata": {"name": "files", "namespace": "here"}, "data": {"a.txt": "one", "b.txt": "two"}},
    {"kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"password": "sesame"}},
    {"kind": "ServiceAccount", "metadata": {"name": "starter"}},
    {"kind": "ServiceAccount", "metadata": {"name": "idle"}},
    {
        "kind": "Role", "metadata": {"name": "all"},
        "rules": [
            {"apiGroups": ["batch"], "resources": ["jobs", "jobs/status"], "verbs": VERBS},
            {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": VERBS},
        ],
    },
    {
        "kind": "RoleBinding", "metadata": {"name": "all"}, "roleRef": {"name": "all"},
        "subjects": [{"kind": "ServiceAccount", "name": "starter"}],
    },
    {
        "kind": "Deployment", "metadata": {"name": "server"},
        "spec": {"template": {
            "metadata": {"labels": {"colour": "green"}},
            "spec": {"containers": [{"name": "main", "image": "any", "args": ["sleep", "60"]}]},
        }},
    },
    {
        "kind": "PodDisruptionBudget", "metadata": {"name": "servers"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"colour": "green"}}},
    },
]  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with kubernetes_api(tmp_path, MANIFESTS, {"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"}) as cluster:
        yield cluster


@pytest.fixture
def batch(cluster: Cluster, tmp_path: Path) -> client.BatchV1Api:
    return client.BatchV1Api(config.new_client_from_config(str(tmp_path / "starter.kubeconfig")))


@pytest.fixture
def core(cluster: Cluster, tmp_path: Path) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(tmp_path / "starter.kubeconfig")))


def job(name: str, script: str, pod: Any = None, container: Any = None, **spec: Any) -> dict[str, Any]:
    main = {"name": "main", "image": "any", "command": ["sh", "-c"], "args": [script], **(container or {})}
    template = {
        "metadata": {"labels": {"colour": "blue"}},
        "spec": {"restartPolicy": "Never", "serviceAccountName": "idle", "containers": [main], **(pod or {})},
    }
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template, **spec},
    }  # fmt: skip


def wait(until: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := until()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def ended(batch: client.BatchV1Api, name: str) -> client.V1JobStatus:
    def look() -> client.V1JobStatus | None:
        status = batch.read_namespaced_job_status(name, "here").status
        return status if status.conditions and status.conditions[-1].type in ("Complete", "Failed") else None

    return wait(look)


def log(core: client.CoreV1Api, pod: str) -> str:
    # The client would take the bytes for Python.
    return core.read_namespaced_pod_log(pod, "here", _preload_content=False).data.decode()


def test_a_container_has_the_environment_of_its_spec_and_nothing_else(
    batch: client.BatchV1Api, core: client.CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_TESTS", "hidden")
    container = {
        "envFrom": [{"configMapRef": {"name": "words"}}, {"secretRef": {"name": "absent", "optional": True}}],
        "env": [
            {"name": "SIZE", "value": "4"},
            {"name": "HOME_OF_IT", "value": "/opt/it"},
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
        ],
        "volumeMounts": [
            {"name": "files", "mountPath": "/opt/it/a.txt", "subPath": "a.txt"},
            {"name": "more", "mountPath": "/etc/more"},
        ],
    }  # fmt: skip
    volumes = [{"name": "files", "configMap": {"name": "files"}}, {"name": "more", "configMap": {"name": "files"}}]
    script = 'env | cut -d= -f1; echo "$COLOUR $SIZE $WORD"; cat $HOME_OF_IT/a.txt /etc/more/b.txt'
    batch.create_namespaced_job("here", job("reads", script, {"volumes": volumes}, container))
    assert ended(batch, "reads").succeeded == 1
    (pod,) = core.list_namespaced_pod("here", label_selector="job-name=reads,colour=blue").items
    *names, said, files = log(core, pod.metadata.name).splitlines()
    assert (said, files) == ("red 4 sesame", "onetwo")
    given = {"PATH", "HOSTNAME", "TMPDIR", "KUBECONFIG", "COLOUR", "SIZE", "WORD", "HOME_OF_IT"}
    assert set(names) - {"PWD", "SHLVL", "_", "OLDPWD"} == given
    assert pod.status.phase == "Succeeded"
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0


def test_what_makes_no_sense_is_refused(batch: client.BatchV1Api) -> None:
    def code(body: dict[str, Any]) -> int:
        with pytest.raises(ApiException) as refused:
            batch.create_namespaced_job("here", body)
        return refused.value.status

    misspelt = job("misspelt", "true")
    misspelt["spec"]["backofLimit"] = 1
    assert code(misspelt) == 400
    assert code(job("Capital", "true")) == 422
    assert code(job("restarts", "true", {"restartPolicy": "Always"})) == 422
    assert code(job("unmounted", "true", container={"volumeMounts": [{"name": "no", "mountPath": "/x"}]})) == 422
    assert code(job("labelled", "true") | {"metadata": {"name": "labelled", "labels": {"a": "b/c"}}}) == 422
    batch.create_namespaced_job("here", job("once", "true"))
    assert code(job("once", "true")) == 409
    with pytest.raises(ApiException) as absent:
        batch.read_namespaced_job_status("absent", "here")
    assert absent.value.status == 404


def test_rights_are_those_of_the_roles(cluster: Cluster, tmp_path: Path) -> None:
    idle = client.BatchV1Api(config.new_client_from_config(str(tmp_path / "idle.kubeconfig")))
    with pytest.raises(ApiException) as refused:
        idle.create_namespaced_job("here", job("forbidden", "true"))
    assert refused.value.status == 403
    assert "serviceaccount:here:idle" in refused.value.body
    assert not cluster.jobs


@pytest.mark.parametrize(("kind", "reason", "code"), [("killed", "OOMKilled", 137), ("evicted", "Error", 7)])
def test_pods_that_are_killed_or_evicted_end_their_job(
    kind: Any, reason: str, code: int, cluster: Cluster, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    cluster.faults.append(Fault(kind, {"colour": "blue"}, line="ready"))
    batch.create_namespaced_job("here", job("lost", "trap 'exit 7' TERM; sleep 60 & echo ready; wait"))
    status = ended(batch, "lost")
    assert (status.failed, status.active, status.conditions[0].reason) == (1, None, "BackoffLimitExceeded")
    (pod,) = core.list_namespaced_pod("here", label_selector="job-name=lost").items
    assert pod.status.phase == "Failed"
    assert pod.status.reason == ("Evicted" if kind == "evicted" else None)
    state = pod.status.container_statuses[0].state.terminated
    assert (state.reason, state.exit_code) == (reason, code)


def test_a_drained_pod_is_gone_and_its_job_goes_on_as_often_as_it_may(
    cluster: Cluster, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    cluster.faults.append(Fault("drained", {"colour": "blue"}))
    batch.create_namespaced_job("here", job("again", "sleep 0.3", backoffLimit=1))
    status = ended(batch, "again")
    assert (status.failed, status.succeeded) == (1, 1)
    (second,) = core.list_namespaced_pod("here", label_selector="job-name=again").items
    assert [pod.name == second.metadata.name for pod in cluster.pods_of("again")] == [False, True]


def test_a_pod_that_fits_nowhere_waits_until_the_deadline(
    cluster: Cluster, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    cluster.faults.append(Fault("unschedulable", {"colour": "blue"}))
    batch.create_namespaced_job("here", job("waits", "true", activeDeadlineSeconds=1, ttlSecondsAfterFinished=1))
    (pod,) = wait(lambda: core.list_namespaced_pod("here", field_selector="status.phase=Pending").items)
    selected = f"involvedObject.name={pod.metadata.name}"
    (event,) = wait(lambda: core.list_namespaced_event("here", field_selector=selected).items)
    assert (event.type, event.reason) == ("Warning", "FailedScheduling")
    status = ended(batch, "waits")
    assert status.conditions[0].reason == "DeadlineExceeded"
    wait(lambda: not core.list_namespaced_pod("here").items)
    wait(lambda: not batch.list_namespaced_job("here").items)


def test_a_pod_without_its_secret_never_starts(
    cluster: Cluster, batch: client.BatchV1Api, core: client.CoreV1Api
) -> None:
    batch.create_namespaced_job("here", job("lacks", "true", container={"envFrom": [{"secretRef": {"name": "no"}}]}))

    def reason() -> str | None:
        (pod,) = core.list_namespaced_pod("here").items
        return pod.status.container_statuses and pod.status.container_statuses[0].state.waiting.reason

    assert wait(reason) == "CreateContainerConfigError"
    batch.delete_namespaced_job("lacks", "here")
    (left,) = core.list_namespaced_pod("here").items  # as with a real one: the Job's pods are to be deleted too
    core.delete_namespaced_pod(left.metadata.name, "here")
    wait(lambda: not cluster.pods)


def test_a_job_fails_for_good_when_its_pod_is_gone(cluster: Cluster, batch: client.BatchV1Api) -> None:
    script = "trap 'sleep 0.5; exit 7' TERM; echo ready; sleep 60 & wait"
    batch.create_namespaced_job("here", job("slow", script, activeDeadlineSeconds=1))
    kinds = set()

    def failed() -> bool:
        found = [each.type for each in batch.read_namespaced_job_status("slow", "here").status.conditions or []]
        kinds.add(tuple(found))
        return "Failed" in found

    wait(failed)
    assert kinds == {(), ("FailureTarget",), ("FailureTarget", "Failed")}


@pytest.mark.parametrize(("script", "handled"), [("sleep 60", False), ("trap 'exit 7' TERM; sleep 60 & wait", True)])
def test_a_first_process_without_a_handler_ignores_signals(
    script: str, handled: bool, cluster: Cluster, batch: client.BatchV1Api
) -> None:
    """`command` takes the place of the image's init."""
    body = job("first", f"echo ready; {script}", {"terminationGracePeriodSeconds": 1})
    cluster.faults.append(Fault("evicted", {"colour": "blue"}, line="ready"))
    batch.create_namespaced_job("here", body)
    ended(batch, "first")
    (pod,) = cluster.pods_of("first")
    state = pod.object["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == (7 if handled else 137)
    assert ("The container did not end in time" in str(cluster.events)) is not handled


def test_an_init_passes_signals_on(cluster: Cluster, batch: client.BatchV1Api) -> None:
    body = job("passed", "", container={"command": None, "args": ["sleep", "60"]})
    del body["spec"]["template"]["spec"]["containers"][0]["command"]
    batch.create_namespaced_job("here", body)
    (pod,) = cluster.pods_of("passed")
    wait(lambda: pod.phase == "Running")
    cluster.delete_pod(pod.name)
    wait(lambda: pod.finished)
    assert pod.object["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 128 + 15


def test_budgets_limit_evictions(cluster: Cluster, core: client.CoreV1Api, tmp_path: Path) -> None:
    first, second = cluster.deploy("server"), cluster.deploy("server")
    wait(lambda: first.phase == second.phase == "Running")
    admin = client.CoreV1Api(config.new_client_from_config(str(tmp_path / f"{ADMIN}.kubeconfig")))

    def evict(api: client.CoreV1Api, pod: str) -> int:
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace="here"))
        try:
            api.create_namespaced_pod_eviction(pod, "here", body, _preload_content=False)
        except ApiException as error:
            return int(error.status)
        return 201

    assert evict(core, first.name) == 403
    assert evict(admin, first.name) == 201
    assert evict(admin, second.name) == 429
    wait(lambda: first.finished)
    assert second.phase == "Running"


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({}, "1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {nvidia.com/gpu: }"),
        ({"tolerations": [{"key": "other", "operator": "Exists"}]}, "untolerated taint"),
        ({"nodeSelector": {"zone": "a"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        ({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}, ""),
    ],
)
def test_pods_with_a_gpu_need_a_toleration(
    pod: dict[str, Any], reason: str, cluster: Cluster, batch: client.BatchV1Api
) -> None:
    body = job("gpu", "true", pod, {"resources": {"limits": {"nvidia.com/gpu": "1"}}})
    batch.create_namespaced_job("here", body)
    if reason:
        wait(lambda: reason in str([event["message"] for event in cluster.events]))
        assert cluster.pods_of("gpu")[0].phase == "Pending"
    else:
        assert ended(batch, "gpu").succeeded == 1


def test_files_in_volumes_that_are_read_only(cluster: Cluster, batch: client.BatchV1Api) -> None:
    mounts = [{"name": "files", "mountPath": "/etc/files", "readOnly": True}]
    volumes = [{"name": "files", "configMap": {"name": "files"}}]
    script = "mkdir /etc/files/storage; mkdir /etc/files/logs"
    batch.create_namespaced_job("here", job("writes", script, {"volumes": volumes}, {"volumeMounts": mounts}))
    assert ended(batch, "writes").succeeded == 1
    (pod,) = cluster.pods_of("writes")
    assert cluster.refused == [f"{pod.name} wrote to a read-only volume: /etc/files/storage"]


def test_processes_end_with_the_cluster(tmp_path: Path) -> None:
    with kubernetes_api(tmp_path, MANIFESTS, {"PATH": "/usr/bin:/bin"}) as cluster:
        api = client.BatchV1Api(config.new_client_from_config(str(tmp_path / "starter.kubeconfig")))
        api.create_namespaced_job("here", job("lasts", "sleep 1000"))
        (pod,) = cluster.pods.values()
        wait(lambda: pod.phase == "Running")
    assert pod.phase == "Failed"
