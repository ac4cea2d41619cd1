"""Where steps run: executors by setting, GPU requests, pools for quotas, retries."""

from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg

from darts_assets.bands import AuxiliaryLayer

POOLS: dict[AuxiliaryLayer, str] = {"arcticdem": "arcticdem", "tcvis": "earth_engine"}
"""Pools of the steps that fetch a layer's chunks from their provider."""

SCENE_POOL = "cdse"
"""Pool of the steps that fetch Sentinel-2 scenes; CDSE grants a user four connections, and a step has one."""

CHUNKS_PER_RUN = 64
"""Chunks that one run or one step fills: some minutes of work, which starting it must not outweigh."""

MAX_SOURCE_RETRIES = 3
SOURCE_RETRY_SECONDS = 60
"""How a step is retried whose source does not answer; the source's own client has retried for minutes before.

Not a `RetryPolicy`: that would also repeat steps whose error no retry can help.
"""

GPU_TAGS: dict[str, Any] = {
    "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}
}
"""One GPU for the step's pod; acts only with the Kubernetes executor."""


def executor(
    kind: Literal["in_process", "multiprocess", "k8s"], k8s_config: Mapping[str, Any] | None = None
) -> dg.ExecutorDefinition:
    """The executor for all runs. In process starts fastest on one machine; on a cluster each step gets a pod.

    Args:
        kind: how the steps of a run execute.
        k8s_config: config of `k8s_job_executor`; what a run's own config says goes before it, key by key.
    """
    if kind == "k8s":
        from dagster_k8s import k8s_job_executor

        # Permissive, since the executor's own schema would fill in defaults that go before ours; it checks the result.
        @dg.configured(k8s_job_executor, config_schema=dg.Permissive())
        def k8s(config: Mapping[str, Any]) -> dict[str, Any]:
            return {**(k8s_config or {}), **config}

        return k8s
    return dg.in_process_executor if kind == "in_process" else dg.multiprocess_executor
