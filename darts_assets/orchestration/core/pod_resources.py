"""Requests, limits and timeouts per step: memory, cores, GPUs, pools and retries."""

import math
from typing import Any, NamedTuple

from darts_assets.bands import AuxiliaryLayer

POOLS: dict[AuxiliaryLayer, str] = {"arcticdem": "arcticdem", "tcvis": "earth_engine"}
"""Layer -> pool of the steps that fetch its chunks."""

SCENE_POOL = "cdse"
"""Pool of the steps that fetch Sentinel-2 scenes: CDSE allows four connections per user, a step uses one."""

GPU_POOL = "gpu"
"""Pool of the steps that request a GPU: a run that would only wait for one stays in Dagster's queue."""

CHUNKS_PER_RUN = 64
"""Chunks per run or step: some minutes of work, so that the time to start it does not dominate."""

MAX_SOURCE_RETRIES = 3
SOURCE_RETRY_SECONDS = 60
"""Retries of a step whose source does not answer, after its client has retried for minutes.

Not a `RetryPolicy`, which would also retry permanent errors.
"""

GPU = "nvidia.com/gpu"
SHARES_POD = "darts/shares_pod"
"""Tag of the steps that may run in the pod of their run, with `DARTS_EXECUTOR=k8s_per_run`."""

HOURS_FOR_A_NODE = 24
"""Hours that a step may wait for a node or an image, in addition to its own hours."""


class Needs(NamedTuple):
    """Resources of a step.

    Attributes:
        memory: requested memory, GiB, measured with the largest input; rounded up to halves.
        limit: memory at which the pod is killed, GiB; by default twice the requested memory.
        cores: requested cores, without a limit.
        scratch: requested space for temporary files, GiB; the limit is 5 GiB more, for logs and caches.
        hours: timeout of the pod for steps that hang, a multiple of the time on a slow machine; 0: none.
        gpu: whether to request a GPU.
        shares_pod: whether the step may run in the pod of its run, beside other steps.
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
    "raw_scene": Needs(1.1, scratch=1, hours=6, shares_pod=True),  # files of CDSE are downloaded to /tmp: 1 GB
    "auxiliary": Needs(1.3, hours=6, shares_pod=True),
    "preprocessed_tile": Needs(1.44, cores=2, shares_pod=True),
    "polygons": Needs(1.97, shares_pod=True),
    "products": Needs(0.6, scratch=1, shares_pod=True),  # 0.43 GB of files before publishing
    # 2.9 GiB on a CPU, doubled for the GPU's driver and libraries and for larger models, which were not measured in a
    # pod. 261 s per scene on two cores; a run may have several scenes.
    "segmentation": Needs(6, cores=4, hours=24, gpu=True),
    # 64 chunks per step need no more than the chunks under a scene.
    "chunk": Needs(1.3, hours=6),
    # Reads manifests and tables only; most of it is Python, Dagster and the store's libraries.
    "check": Needs(0.5, limit=1.5, cores=0.25, hours=1, shares_pod=True),
    # Pointers of all scenes and the detections of one region and year: 0.35 GiB with 10,000 scenes.
    "catalog": Needs(0.5, limit=2, hours=6, shares_pod=True),
    # The detections of a year: 1 GiB with 100,000. The GeoPackage is a temporary file.
    "inventory": Needs(2, limit=8, scratch=1, hours=6),
    # Reads one preprocessed tile or labelled image by windows; needs less than preprocessing.
    "samples": Needs(1.44),
    "dataset": Needs(1.44, hours=6),
    "matches": Needs(1.44, hours=6),
    # Steps of jobs that read items, pointers and logs, but no pixels.
    "job": Needs(2, limit=3, hours=0, shares_pod=True),
    # Not measured; depends on the configured batch size, patch size and readers.
    "model": Needs(8, limit=24, cores=4, hours=7 * 24, gpu=True),
    "report": Needs(8, limit=24, cores=4, hours=24, gpu=True),
}
"""Name of the asset, or kind of step (`chunk`, `check`, `samples`, ...) -> its resources."""

ANY_STEP = Needs(2, limit=3, scratch=4, hours=0)
"""Resources of all other steps, such as those of jobs that fetch several scenes; no timeout."""


def op_tags(step: str) -> dict[str, Any]:
    """Tags from which `k8s_job_executor` configures the pod of a step; other executors ignore them."""
    if step not in NEEDS:
        return {}  # the executor uses `ANY_STEP`
    needs = NEEDS[step]
    return {"dagster-k8s/config": pod_config(needs), **({SHARES_POD: "true"} if needs.shares_pod else {})}


def pod_config(needs: Needs) -> dict[str, Any]:
    """Resources as config of `dagster-k8s`."""
    memory = math.ceil(2 * needs.memory) / 2
    requests = {"cpu": f"{needs.cores:g}", "memory": _gib(memory), "ephemeral-storage": _gib(needs.scratch + 0.25)}
    limits = {"memory": _gib(needs.limit or 2 * memory), "ephemeral-storage": _gib(needs.scratch + 5)}
    if needs.gpu:
        limits[GPU] = "1"
    config: dict[str, Any] = {"container_config": {"resources": {"requests": requests, "limits": limits}}}
    if needs.hours:
        # The deadline of a pod counts from its start, that of its Job includes the time before the pod starts.
        config["pod_spec_config"] = {"active_deadline_seconds": round(3600 * needs.hours)}
        config["job_spec_config"] = {"active_deadline_seconds": round(3600 * (needs.hours + HOURS_FOR_A_NODE))}
    return config


def _gib(amount: float) -> str:
    return f"{round(1024 * amount)}Mi"
