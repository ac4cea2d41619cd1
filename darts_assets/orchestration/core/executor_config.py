"""Config of `k8s_job_executor` from the settings: defaults of all steps, of steps with a GPU, and of single ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from darts_assets.orchestration.core.pod_resources import ANY_STEP, GPU, pod_config
from darts_assets.settings import Settings


def executor_config(settings: Settings, assets: Iterable[dg.AssetsDefinition]) -> dict[str, Any]:
    """The config for runs that do not set their own.

    `k8s_executor` precedes `k8s_gpu_steps`, which precedes `k8s_steps`.

    Args:
        settings: the settings.
        assets: of the code location; the tags of their ops show which request a GPU.
    """
    given = settings.k8s_executor
    own = given.get("per_step_k8s_config", {})
    gpu_ops = [asset.op.name for asset in assets if GPU in str(asset.op.tags)] if settings.k8s_gpu_steps else []
    steps = {op: _merged(settings.k8s_gpu_steps, own.get(op, {})) for op in gpu_ops}
    any_step = _merged(settings.k8s_steps, given.get("step_k8s_config", {}))
    return {
        **given,
        "step_k8s_config": _merged(pod_config(ANY_STEP), any_step),
        "per_step_k8s_config": {**own, **steps},
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `above`, else of `below`; key by key in nested tables."""
    both = {key for key in below.keys() & above if isinstance(below[key], dict) and isinstance(above[key], dict)}
    return {**below, **above, **{key: _merged(below[key], above[key]) for key in both}}
