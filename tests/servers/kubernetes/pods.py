"""Pods as local processes: their phases, faults, status and logs."""

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tests.servers.kubernetes.containers import ContainerConfigError, Node, Object, prepare, written_to_read_only
from tests.servers.kubernetes.scheduler import unschedulable


def _handles_sigterm(process: int) -> bool:
    """The kernel delivers a signal to the first process of a container only if that has a handler for it."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@dataclass
class Fault:
    """A fault of the next pod with these labels, once.

    Attributes:
        kind: `unschedulable`: it stays Pending for good. `killed`: SIGKILL, as for want of memory. `evicted`: by its
            node, with SIGTERM and the time it has to end. `drained`: the same, but the pod is deleted with its node.
        labels: of the pod.
        line: the pod's log must contain it first.
        pod: name of the pod that had the fault.
    """

    kind: Literal["unschedulable", "killed", "evicted", "drained"]
    labels: Mapping[str, str]
    line: str = ""
    pod: str | None = None


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """A pod with the one container that all of ours have.

    Args:
        name: of the pod.
        template: metadata and spec.
        node: where it runs.
        namespace: of the pod.
        labels: beside those of the template.
        fault: what befalls it.
        say: records an event: reason and message.
        refuse: records what a real cluster does not let pods do.
        leaves: called when the pod is deleted, before its end.
        ended: called at the end with the pod, when its status is final.
    """

    def __init__(
        self,
        name: str,
        template: Object,
        node: Node,
        *,
        namespace: str,
        labels: Mapping[str, str],
        fault: Fault | None,
        say: Callable[[str, str], None],
        refuse: Callable[[str], None],
        leaves: Callable[["Pod"], None],
        ended: Callable[["Pod"], None],
    ) -> None:
        self.name = name
        self.object: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "name": name,
                "namespace": namespace,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now(),
                "labels": {**template["metadata"].get("labels", {}), **labels},
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.log = node.folder / f"{name}.log"
        self.fault = fault
        self.counted = False
        self._node, self._say, self._refuse, self._leaves, self._ended = node, say, refuse, leaves, ended
        self._deleted = threading.Event()
        self._at_once = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    @property
    def labels(self) -> Mapping[str, str]:
        return self.object["metadata"]["labels"]

    @property
    def phase(self) -> str:
        return self.object["status"]["phase"]

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def terminating(self) -> bool:
        return self._deleted.is_set()

    def start(self) -> None:
        self._thread.start()

    def delete(self) -> None:
        """SIGTERM, and SIGKILL when the pod's time to end is over."""
        self.object["metadata"]["deletionTimestamp"] = now()
        self._deleted.set()
        self._leaves(self)

    def end(self) -> None:
        """SIGKILL, and nothing of it is left."""
        self._at_once = True
        self._deleted.set()
        self._thread.join()

    def _live(self) -> None:
        if reason := self._unschedulable():
            self._say("FailedScheduling", reason)
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            self.object["status"]["conditions"] = [condition]
            self._deleted.wait()
        else:
            self._run()
        self._ended(self)

    def _unschedulable(self) -> str:
        if self.fault and self.fault.kind == "unschedulable":
            return "0/1 nodes are available: 1 Insufficient memory."
        return unschedulable(self.object["spec"])

    def _run(self) -> None:
        (container,) = self.object["spec"]["containers"]
        try:
            command, environment, folder = prepare(self.object, container, self._node)
        except ContainerConfigError as error:
            self._say("Failed", f"Error: {error}")
            self._tell("Pending", "waiting", reason="CreateContainerConfigError", message=str(error))
            self._deleted.wait()
            return
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        started = now()
        self._tell("Running", "running", startedAt=started)
        cause = self._watch()
        code = self._process.wait()
        self._kill()  # what it has left
        for path in written_to_read_only(self.object, self._node):
            self._refuse(f"{self.name} wrote to a read-only volume: {path}")
        code = 128 - code if code < 0 else code
        reason = {"killed": "OOMKilled"}.get(cause, "Completed" if code == 0 else "Error")
        phase = "Succeeded" if code == 0 and not cause else "Failed"
        self._tell(phase, "terminated", exitCode=code, reason=reason, startedAt=started, finishedAt=now())
        if cause == "evicted":
            self.object["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
            self._say("Evicted", "The node was low on resource: memory.")

    def _watch(self) -> str:
        """Wait for the end, or bring it about; says what was the cause if it was not the process itself."""
        assert self._process
        while self._process.poll() is None:
            if self._deleted.is_set():
                self._stop()
                return "deleted"
            if self.fault and self.fault.line in self.log.read_text(errors="replace"):
                self.fault.pod = self.name
                if self.fault.kind == "drained":
                    self.delete()
                    continue
                if self.fault.kind == "killed":
                    self._kill()
                else:
                    self._stop()
                return self.fault.kind
            time.sleep(0.05)
        return ""

    def _stop(self) -> None:
        assert self._process
        if not self._at_once:
            passes_on = self._node.has_init and "command" not in self.object["spec"]["containers"][0]
            if passes_on or _handles_sigterm(self._process.pid):
                self._process.terminate()
            try:
                self._process.wait(self.object["spec"].get("terminationGracePeriodSeconds", 30))
            except subprocess.TimeoutExpired:
                self._say("Killing", "The container did not end in time")
        self._kill()

    def _kill(self) -> None:
        assert self._process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _tell(self, phase: str, state: str, **facts: str | int) -> None:
        (container,) = self.object["spec"]["containers"]
        running = state == "running"
        self.object["status"] = {
            "phase": phase,
            "startTime": self.object["metadata"]["creationTimestamp"],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(running)},
            ],
            "containerStatuses": [
                {
                    "name": container["name"], "image": container["image"], "imageID": container["image"],
                    "ready": running, "started": running, "restartCount": 0, "state": {state: facts}, "lastState": {},
                }
            ],
        }  # fmt: skip

    def lines(self, last: int | None = None) -> str:
        """The container's log, or its last lines."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text if last is None else "".join(text.splitlines(keepends=True)[-last:])
