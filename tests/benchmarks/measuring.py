"""What a piece of work costs this process, and on which machine."""

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Cost:
    """What some work has cost.

    Attributes:
        seconds: wall clock.
        cpu_seconds: processor time of all threads, and of child processes that have ended.
        peak_rss: bytes, the most memory that the process has had so far, libraries included.
        bytes_read: bytes that the process asked files for, whether they came from the disk or from the page cache; None
            where the system does not say (anywhere but on Linux).
        bytes_written: the same for writing.
    """

    seconds: float
    cpu_seconds: float
    peak_rss: int
    bytes_read: int | None
    bytes_written: int | None


def cost_of(work: Callable[[], Any]) -> Cost:
    """Do some work and say what it has cost."""
    before, cpu, started = _bytes_moved(), _cpu_seconds(), time.perf_counter()
    work()
    seconds, cpu_after, after = time.perf_counter() - started, _cpu_seconds(), _bytes_moved()
    moved = [y - x if x is not None and y is not None else None for x, y in zip(before, after, strict=True)]
    return Cost(seconds, cpu_after - cpu, peak_rss(), *moved)


def seconds_of(work: Callable[[], Any]) -> float:
    """Wall clock of some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_rss() -> int:
    """The most memory that this process has had, in bytes."""
    try:
        # What getrusage says of a process begins with the memory of the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (FileNotFoundError, StopIteration):
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> dict[str, Any]:
    """What figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):
        return platform.processor() or platform.machine()


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes_moved() -> tuple[int | None, int | None]:
    try:
        counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except FileNotFoundError:
        return None, None
    return int(counters["rchar"]), int(counters["wchar"])
