"""The Job controller, as far as batch work uses it.

One namespace. Pods start at once, if `scheduler` has a node for them. A Job ends with its pods: it starts them again up
to `backoffLimit`, gives up at `activeDeadlineSeconds`, and is gone `ttlSecondsAfterFinished` later. A pod that is
deleted before its end counts as failed, from then on. A deleted Job leaves its pods, unless they are to go with it.
"""

import threading
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.servers.kubernetes.containers import Node, Object
from tests.servers.kubernetes.pods import Fault, Pod, now

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"


class Cluster:
    """The objects of a cluster.

    Args:
        folder: of logs and volumes.
        manifests: what is installed: config maps, secrets, service accounts, deployments.
        image: environment of the image of all containers.
        kubeconfigs: files by service account.
    """

    def __init__(
        self, folder: Path, manifests: Sequence[Object], image: Mapping[str, str], kubeconfigs: Mapping[str, Path]
    ) -> None:
        self.namespace = next(m["metadata"]["namespace"] for m in manifests if m["kind"] == "ConfigMap")
        data = {
            kind: {m["metadata"]["name"]: m.get(key, {}) for m in manifests if m["kind"] == kind}
            for kind, key in (("ConfigMap", "data"), ("Secret", "stringData"))
        }
        self._node = Node(
            folder,
            image,
            data["ConfigMap"],
            data["Secret"],
            kubeconfigs,
            'ENTRYPOINT ["tini"' in DOCKERFILE.read_text(),
        )
        self._deployments = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "Deployment"}
        self._budgets = [m["spec"] for m in manifests if m["kind"] == "PodDisruptionBudget"]
        self.lock = threading.RLock()
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Pod] = {}
        self.events: list[Object] = []
        self.faults: list[Fault] = []
        self.history: list[Pod] = []
        """Every pod that there ever was."""
        self.suspends = False
        """Whether new Jobs are suspended, as by Kueue's webhook."""
        self.refused: list[str] = []
        """Requests that were answered with an error."""
        self.listener: Any = None
        """The port of the API; `with listener.outage():` closes it."""
        self._timers: list[threading.Timer] = []

    def deploy(self, name: str) -> Pod:
        """Start the one pod of a deployment, without its first containers."""
        template = self._deployments[name]["spec"]["template"]
        return self._start_pod(f"{name}-{uuid.uuid4().hex[:5]}", template, {})

    def create_job(self, job: Object) -> Object:
        """Take a Job over and start its pod."""
        name, spec = job["metadata"]["name"], job["spec"]
        with self.lock:
            uid = str(uuid.uuid4())
            job["metadata"] |= {"namespace": self.namespace, "uid": uid, "creationTimestamp": now()}
            job["status"] = {"startTime": now(), "active": 0, "failed": 0, "succeeded": 0}
            self.jobs[name] = job
            if self.suspends:
                spec["suspend"] = True
            if spec.get("suspend"):
                del job["status"]["startTime"]
            else:
                self._begin(name)
            return job

    def admit(self, name: str) -> None:
        """Start a suspended Job, as Kueue does."""
        with self.lock:
            job = self.jobs[name]
            job["spec"]["suspend"] = False
            job["status"]["startTime"] = now()
            self._begin(name)

    def _begin(self, name: str) -> None:
        job = self.jobs[name]
        if "activeDeadlineSeconds" in job["spec"]:
            give_up = partial(self._give_up, name, job["metadata"]["uid"])
            self._later(job["spec"]["activeDeadlineSeconds"], give_up)
        self._start_pod_of(name)

    def delete_job(self, name: str, with_pods: bool) -> None:
        """Forget a Job; its pods too, or not."""
        with self.lock:
            uid = self.jobs.pop(name)["metadata"]["uid"]
            if with_pods:
                for pod in self._pods_of(uid):
                    pod.delete()

    def delete_pod(self, name: str) -> None:
        """Let a pod end, and forget it then."""
        with self.lock:
            pod = self.pods[name]
            pod.delete()
            if pod.finished:
                del self.pods[name]

    def may_evict(self, name: str) -> bool:
        """Whether the budgets allow to end a pod, as `kubectl drain` asks."""
        with self.lock:
            healthy = [pod for pod in self.pods.values() if pod.phase == "Running" and not pod.terminating]
            for budget in self._budgets:
                wanted = budget["selector"]["matchLabels"].items()
                protected = [pod for pod in healthy if wanted <= pod.labels.items()]
                if self.pods[name] in protected and len(protected) <= budget["minAvailable"]:
                    return False
            return True

    def stop(self) -> None:
        """Kill everything."""
        with self.lock:
            for timer in self._timers:
                timer.cancel()
            self.jobs.clear()
            left = list(self.pods.values())
        for pod in left:
            pod.end()

    def pods_of(self, job: str) -> list[Pod]:
        """The pods that there ever were of a Job."""
        return [pod for pod in self.history if pod.labels.get("job-name") == job]

    def _pods_of(self, uid: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.labels.get("controller-uid") == uid]

    def _start_pod_of(self, name: str) -> None:
        job = self.jobs[name]
        uid, template = job["metadata"]["uid"], job["spec"]["template"]
        account = template["spec"].get("serviceAccountName", "default")
        if account not in self._node.kubeconfigs:
            self._record("Job", name, "FailedCreate", f'pods is forbidden: serviceaccount "{account}" not found')
            return
        labels = {"job-name": name, "batch.kubernetes.io/job-name": name, "controller-uid": uid}
        job["status"]["active"] += 1
        self._start_pod(f"{name}-{uuid.uuid4().hex[:5]}", template, labels)

    def _start_pod(self, name: str, template: Object, labels: Mapping[str, str]) -> Pod:
        with self.lock:
            here = {**template["metadata"].get("labels", {}), **labels}
            fault = next((f for f in self.faults if f.labels.items() <= here.items()), None)
            if fault:
                self.faults.remove(fault)
            pod = Pod(
                name, template, self._node, namespace=self.namespace, labels=labels, fault=fault,
                say=partial(self._record, "Pod", name), refuse=self.refused.append,
                leaves=self._count, ended=self._pod_ended,
            )  # fmt: skip
            self.pods[name] = pod
            self.history.append(pod)
            pod.start()
            return pod

    def _pod_ended(self, pod: Pod) -> None:
        with self.lock:
            if pod.terminating:
                self.pods.pop(pod.name, None)
            self._count(pod)
            self._settle(pod.labels.get("job-name", ""), pod.labels.get("controller-uid", ""))

    def _count(self, pod: Pod) -> None:
        """Tell a pod's Job that it has ended; a deleted one counts as failed before it has."""
        with self.lock:
            job = self.jobs.get(pod.labels.get("job-name", ""))
            if pod.counted or job is None or job["metadata"]["uid"] != pod.labels["controller-uid"]:
                return
            pod.counted = True
            name, status, spec = job["metadata"]["name"], job["status"], job["spec"]
            status["active"] -= 1
            status["succeeded" if pod.phase == "Succeeded" else "failed"] += 1
            if status.get("conditions"):
                return
            if status["succeeded"]:
                self._finish(name, "Complete", "CompletionsReached")
            elif status["failed"] > spec.get("backoffLimit", 6):
                self._finish(name, "Failed", "BackoffLimitExceeded")
            else:
                self._start_pod_of(name)

    def _give_up(self, name: str, uid: str) -> None:
        with self.lock:
            job = self.jobs.get(name)
            if job and job["metadata"]["uid"] == uid and not job["status"].get("conditions"):
                self._finish(name, "Failed", "DeadlineExceeded")
                for pod in self._pods_of(uid):
                    pod.delete()

    def _finish(self, name: str, kind: str, reason: str) -> None:
        """The outcome is known; it is final when no pod is left at work."""
        first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
        self.jobs[name]["status"]["conditions"] = [_condition(first, reason)]
        self._settle(name, self.jobs[name]["metadata"]["uid"])

    def _settle(self, name: str, uid: str) -> None:
        job = self.jobs.get(name)
        conditions = job["status"].get("conditions", []) if job and job["metadata"]["uid"] == uid else []
        if job is None or len(conditions) != 1 or not all(pod.finished for pod in self._pods_of(uid)):
            return
        reason, succeeded = conditions[0]["reason"], conditions[0]["type"] == "SuccessCriteriaMet"
        conditions.append(_condition("Complete" if succeeded else "Failed", reason))
        if succeeded:
            job["status"]["completionTime"] = now()
        self._record("Job", name, reason, f"Job has reached its end: {reason}")
        if "ttlSecondsAfterFinished" in job["spec"]:
            self._later(job["spec"]["ttlSecondsAfterFinished"], partial(self._expire, name, uid))

    def _expire(self, name: str, uid: str) -> None:
        with self.lock:
            if name in self.jobs and self.jobs[name]["metadata"]["uid"] == uid:
                del self.jobs[name]
                for pod in self._pods_of(uid):
                    del self.pods[pod.name]

    def _later(self, seconds: float, what: partial[None]) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _record(self, kind: str, name: str, reason: str, message: str) -> None:
        warnings = {"FailedScheduling", "FailedCreate", "Failed", "Evicted", "BackoffLimitExceeded", "DeadlineExceeded"}
        event = {
            "apiVersion": "v1", "kind": "Event", "reason": reason, "message": message, "count": 1,
            "type": "Warning" if reason in warnings else "Normal",
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": self.namespace},
            "involvedObject": {"kind": kind, "name": name, "namespace": self.namespace},
        }  # fmt: skip
        with self.lock:
            self.events.append(event)


def _condition(kind: str, reason: str) -> Object:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now()}
