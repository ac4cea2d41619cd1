"""What steps need of a machine, and what limits them: memory, cores, GPUs, pools for quotas, retries."""

import math
from typing import Any, NamedTuple

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

GPU = "nvidia.com/gpu"
SHARES_POD = "darts/shares_pod"
"""Tag of the steps that may run in the pod of their run, with `DARTS_EXECUTOR=k8s_per_run`."""


HOURS_FOR_A_NODE = 24
"""How long a step may wait for a node or an image, beside its own hours: GPUs may be taken for a while."""


class Needs(NamedTuple):
    """What a step takes at most.

    Attributes:
        memory: GiB that the pod asks for, rounded up to halves: what was measured for the largest input.
        limit: GiB beyond which the pod is killed; by default twice what it asks for.
        cores: cores that the pod asks for. There is no limit on them: idle ones may be used.
        scratch: GiB of temporary files; the pod may have five more, for logs and caches.
        hours: after which the pod is ended, a multiple of what a slow machine needs: for steps that hang.
        gpu: whether a GPU is asked for.
        shares_pod: whether it may run beside other steps, in the pod of the run.
    """

    memory: float
    limit: float | None = None
    cores: float = 1
    scratch: float = 0
    hours: float = 2
    gpu: bool = False
    shares_pod: bool = False


NEEDS: dict[str, Needs] = {
    # Measured on 10980 x 10980 pixels, each step in its own process (tests/benchmarks/baseline.json, "Costs" in
    # orchestration/README.md); the hours include retries of slow sources.
    "raw_scene": Needs(1.1, scratch=1, hours=6, shares_pod=True),  # CDSE's files lie in /tmp meanwhile: 1 GB
    "auxiliary": Needs(1.3, hours=6, shares_pod=True),
    "preprocessed_tile": Needs(1.44, cores=2, shares_pod=True),
    "polygons": Needs(1.97, shares_pod=True),
    "products": Needs(0.6, scratch=1, shares_pod=True),  # 0.43 GB of files before they are published
    # 2.9 GiB on a CPU. A GPU's driver and libraries take memory of the host as well, and other models may be larger:
    # none of that was measured in a pod, so it gets twice as much. 261 s for a scene on two cores, several in a run.
    "segmentation": Needs(6, cores=4, hours=24, gpu=True),
    # A step of 64 chunks holds no more than the chunks under a scene.
    "chunk": Needs(1.3, hours=6),
    # Reads manifests and tables only: Python with Dagster and the libraries of the store.
    "check": Needs(0.5, limit=1.5, cores=0.25, hours=1, shares_pod=True),
    # Pointers of all scenes, and the detections of one region and year at a time: 0.35 GiB with 10,000 scenes.
    "catalog": Needs(0.5, limit=2, hours=6),
    # Holds the detections of a year: 1 GiB with 100,000. The GeoPackage is a temporary file.
    "inventory": Needs(2, limit=8, scratch=1, hours=6),
    # Reads one preprocessed tile or labelled image, by windows: less than making it took.
    "samples": Needs(1.44),
    "dataset": Needs(1.44, hours=6),
    "matches": Needs(1.44, hours=6),
    # Grows with the batch, the patches and the readers, which are config: a start, not a measurement.
    "model": Needs(8, limit=24, cores=4, hours=7 * 24, gpu=True),
    "report": Needs(8, limit=24, cores=4, hours=24, gpu=True),
}
"""Steps by the name of their asset, those that fetch chunks, patches and checks by what they are."""

ANY_STEP = Needs(2, limit=3, scratch=4, hours=0)
"""What is asked for steps without a row above: those of jobs, which fetch several scenes, however long."""


def op_tags(step: str) -> dict[str, Any]:
    """The tags of a step: what `k8s_job_executor` makes its pod with; others ignore them."""
    if step not in NEEDS:
        return {}  # the executor gives it `ANY_STEP`
    needs = NEEDS[step]
    return {"dagster-k8s/config": pod_config(needs), **({SHARES_POD: "true"} if needs.shares_pod else {})}


def pod_config(needs: Needs) -> dict[str, Any]:
    """Needs as `dagster-k8s` takes them."""
    asked = math.ceil(2 * needs.memory) / 2
    requests = {"cpu": f"{needs.cores:g}", "memory": _gib(asked), "ephemeral-storage": _gib(needs.scratch + 0.25)}
    limits = {"memory": _gib(needs.limit or 2 * asked), "ephemeral-storage": _gib(needs.scratch + 5)}
    if needs.gpu:
        limits[GPU] = "1"
    config: dict[str, Any] = {"container_config": {"resources": {"requests": requests, "limits": limits}}}
    if needs.hours:
        # The clock of a pod runs while the pod does; that of its Job also while the pod waits to be started.
        config["pod_spec_config"] = {"active_deadline_seconds": round(3600 * needs.hours)}
        config["job_spec_config"] = {"active_deadline_seconds": round(3600 * (needs.hours + HOURS_FOR_A_NODE))}
    return config


def _gib(amount: float) -> str:
    return f"{round(1024 * amount)}Mi"
