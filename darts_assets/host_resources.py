"""Memory, processors and GPUs that this process may use, by the limits of its container, batch job or shell."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GIB = 2**30

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")
_SECONDS = 10  # for nvidia-smi, which hangs if a driver does


def memory_limit() -> int:
    """Bytes of memory that the processes of this machine, container or batch job may use together."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_cgroup_limits()]
    return min([*limits, *(limit for limit in [_address_space()] if limit)])


def available_memory() -> int:
    """Bytes of the limit that other processes of the machine do not use now."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (free,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):  # not Linux
        free = memory_limit()
    return min(free, memory_limit())


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Whether the machine may have an NVIDIA GPU; PyTorch is not loaded."""
    return sys.platform != "darwin" and (any(Path("/dev").glob("nvidia[0-9]*")) or bool(shutil.which("nvidia-smi")))


def gpus() -> list[str]:
    """The GPUs of this process, as values of CUDA_VISIBLE_DEVICES; PyTorch is not loaded."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    if not may_have_gpu() or not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.splitlines() if line.strip().isdigit()]


def _cgroup_limits() -> Iterator[int]:
    """The limits of the control groups of this process and of those above them."""
    folders = {_CGROUPS, _CGROUPS / "memory"}
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = _CGROUPS / controllers if controllers else _CGROUPS
            own = root / path.lstrip("/")
            folders |= {own, *(folder for folder in own.parents if root in folder.parents)}
    except (OSError, ValueError):  # not Linux
        pass
    for folder in folders:
        for name in _LIMITS:
            try:
                yield int((folder / name).read_text())
            except (OSError, ValueError):  # no such group, or "max"
                continue


def _address_space() -> int | None:
    """The limit of `ulimit -v`, which holds for each process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
