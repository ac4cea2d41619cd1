"""Costs of a step (time, memory, bytes) and package versions, in the metadata of every materialization.

Assets have `@measured` below `@dg.asset`, which adds the costs up to their return. Tiles are computed while they are
written, so the IO manager adds `costs_of` once it has written them. Steps that record several partitions use a `Meter`
for each.
"""

import functools
import platform
import resource
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from darts_assets.orchestration.core.metadata import as_metadata, in_units, pictures_first, without_pictures

P = ParamSpec("P")
R = TypeVar("R")

PACKAGES = (
    "darts_assets", "dagster", "numpy", "xarray", "zarr", "icechunk", "obstore", "rasterio", "pyproj",
    "opencv-python-headless", "connected-components-3d", "shapely", "geopandas", "torch", "segmentation-models-pytorch",
)  # fmt: skip
"""Packages whose versions affect results."""

_STATUS, _IO, _CLEAR = (Path("/proc/self", name) for name in ("status", "io", "clear_refs"))
_current = threading.local()  # .meter: of the step that this thread executes
_running: "weakref.WeakSet[Meter]" = weakref.WeakSet()
_lock = threading.Lock()


class Meter:
    """Measures wall time, CPU time, peak memory and bytes moved, from construction on. Meters may nest.

    Peak memory is the process's high-water mark, which is reset through `/proc/self/clear_refs`; where that is not
    permitted, the mark covers the whole life of the process.

    Args:
        of: identifies the measured step, see `costs_of`.
    """

    def __init__(self, of: object = None) -> None:
        self.of = of
        self._peak: dict[str, int] = {}
        with _lock:
            for meter in _running:  # the reset also clears the peaks of running meters
                meter._update_peak()
            _reset_peak()
            _running.add(self)
        self._moved, self._cpu, self._started = _bytes_moved(), _cpu_seconds(), time.perf_counter()

    def costs(self) -> dict[str, float | int]:
        """The costs so far, as metadata.

        `seconds`: wall time; `cpu_seconds`: of all threads and of ended child processes; `peak_memory`: bytes;
        `bytes_read` and `bytes_written`: of files, from disk or page cache (Linux only); `peak_gpu_memory`: bytes of
        tensors, if a GPU was used.
        """
        seconds, cpu = time.perf_counter() - self._started, _cpu_seconds() - self._cpu
        moved = {name: now - self._moved[name] for name, now in _bytes_moved().items() if name in self._moved}
        with _lock:
            self._update_peak()
        return {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), **self._peak, **moved}

    def _update_peak(self) -> None:
        for name, now in _peaks().items():
            self._peak[name] = max(now, self._peak.get(name, 0))


def measured(asset: Callable[P, R]) -> Callable[P, R]:
    """Add costs, package versions and the config (with defaults) to the metadata of an asset."""

    @functools.wraps(asset)
    def step(*args: P.args, **kwargs: P.kwargs) -> R:
        context: Any = args[0] if args else kwargs["context"]
        meter = _current.meter = Meter(_step_of(context))
        result = asset(*args, **kwargs)
        if not isinstance(result, dg.MaterializeResult):
            return result
        own = without_pictures(context, result.metadata or {})
        config = kwargs.get("config")
        return result._replace(metadata=with_costs(own, meter, config if isinstance(config, dg.Config) else None))

    return step


def costs_of(context: dg.OutputContext) -> dict[str, Any]:
    """The costs of a step, also in words, for the IO manager of its output; empty if the asset is not `measured`."""
    meter: Meter | None = getattr(_current, "meter", None)
    if meter is None or meter.of != _step_of(context):
        return {}
    costs = meter.costs()
    return {**in_units(costs), **costs}


def with_costs(own: Mapping[str, Any], meter: Meter, config: dg.Config | None = None) -> dict[str, Any]:
    """Metadata of a result with its costs, config and package versions, in the order in which people read them.

    Args:
        own: metadata of the result, which win and come first, except for `provenance`.
        meter: of the step or of the partition.
        config: with its defaults.
    """
    shown = {**own, **as_metadata({**meter.costs(), "config": config.model_dump() if config else None}), **own}
    last = {name: shown.pop(name) for name in ("provenance",) if name in shown}
    return pictures_first({**as_metadata(in_units(shown)), **shown, **last, **as_metadata({"versions": versions()})})


@functools.cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the installed `PACKAGES`."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def _step_of(context: Any) -> tuple[str, str]:
    key = context.step_key if isinstance(context, dg.OutputContext) else context.get_step_execution_context().step.key
    return str(context.run_id), str(key)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes_moved() -> dict[str, int]:
    try:
        counters = dict(line.split(": ") for line in _IO.read_text().splitlines())
    except OSError:
        return {}
    return {"bytes_read": int(counters["rchar"]), "bytes_written": int(counters["wchar"])}


def _peaks() -> dict[str, int]:
    peaks = {"peak_memory": _peak_memory()}
    if (torch := _torch_with_gpu()) is not None:
        peaks["peak_gpu_memory"] = sum(
            int(torch.cuda.max_memory_allocated(index)) for index in range(torch.cuda.device_count())
        )
    return peaks


def _peak_memory() -> int:
    try:
        # `getrusage` starts with the memory of the parent process.
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> None:
    try:
        _CLEAR.write_text("5")  # VmHWM becomes the present size, see proc_pid_clear_refs(5)
    except OSError:
        return
    finally:
        if (torch := _torch_with_gpu()) is not None:
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)


def _torch_with_gpu() -> Any:
    """PyTorch, if it is loaded and has used a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
