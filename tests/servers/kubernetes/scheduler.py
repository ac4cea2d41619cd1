"""On which machines a pod may run: two, as clouds offer them, both of unlimited size."""

from dataclasses import dataclass
from typing import Any

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Machine:
    """What the scheduler looks at.

    Attributes:
        labels: that a pod's `nodeSelector` must be among.
        taint: key of the taint `NoSchedule` that a pod must tolerate.
        has_gpu: whether a pod may request one.
    """

    labels: frozenset[tuple[str, str]] = frozenset()
    taint: str | None = None
    has_gpu: bool = False


MACHINES = (Machine(), Machine(frozenset({("nvidia.com/gpu.present", "true")}), GPU, has_gpu=True))


def unschedulable(spec: dict[str, Any]) -> str:
    """Why a pod fits on none of them, in the words of an event; empty if it fits."""
    reasons = [reason for machine in MACHINES if (reason := _misfit(spec, machine))]
    if len(reasons) < len(MACHINES):
        return ""
    return f"0/{len(MACHINES)} nodes are available: {', '.join(f'1 {reason}' for reason in reasons)}."


def _misfit(spec: dict[str, Any], machine: Machine) -> str:
    limits = [container.get("resources", {}).get("limits", {}) for container in spec["containers"]]
    if any(GPU in each for each in limits) and not machine.has_gpu:
        return f"Insufficient {GPU}"
    if not set(spec.get("nodeSelector", {}).items()) <= machine.labels:
        return "node(s) didn't match Pod's node affinity/selector"
    if machine.taint and not any(_tolerates(each, machine.taint) for each in spec.get("tolerations", [])):
        return f"node(s) had untolerated taint {{{machine.taint}: }}"
    return ""


def _tolerates(toleration: dict[str, Any], taint: str) -> bool:
    exists = toleration.get("operator", "Equal") == "Exists"
    return exists and toleration.get("key", taint) == taint and toleration.get("effect", "NoSchedule") == "NoSchedule"
