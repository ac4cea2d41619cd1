"""The worker processes of a machine: how many, how they start and end, and what they report."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from darts_assets.area_mapping.scene_worker import Message, Task
from darts_assets.host_resources import GIB, available_memory, gpus, processors
from darts_assets.orchestration.core.pod_resources import NEEDS
from darts_assets.orchestration.core.run_owner import process_start

PARENT_MEMORY = 0.5
"""GiB of the process that starts the workers."""

WORKER_MEMORY = 4.0
"""GiB of a worker; measured: 3.9 GiB for a full Sentinel-2 scene through all steps in one process."""

_CORES = 2  # that a worker keeps busy
_GRACE = 3.0  # seconds for a worker to remove its temporary files
_TEMPORARY = "darts-map-"


@dataclass(frozen=True)
class Capacity:
    """How many scenes a machine can process at once.

    Attributes:
        workers: number of worker processes, at least 1.
        gpus: values of CUDA_VISIBLE_DEVICES that the workers share; empty without a GPU.
        reason: what limits the number.
    """

    workers: int
    gpus: tuple[str, ...]
    reason: str


def capacity(scenes: int, requested: int | None, *, segments: bool) -> Capacity:
    """The number of workers for a number of scenes, by the memory and processors that are free.

    Args:
        scenes: number of scenes.
        requested: number of workers that the user asked for.
        segments: whether the workers run models.
    """
    devices = tuple(gpus()) if segments else ()
    memory = max(WORKER_MEMORY, NEEDS["segmentation"].memory) if devices else WORKER_MEMORY
    free = available_memory() / GIB
    limits = {
        f"{free:.1f} GiB of free memory, {memory:g} GiB per scene": int((free - PARENT_MEMORY) / memory),
        f"{processors()} processors, {_CORES} per scene": processors() // _CORES,
        f"{scenes} scenes": scenes,
    }
    if requested:
        return Capacity(max(1, min(requested, scenes)), devices, "as requested")
    reason = min(limits, key=limits.__getitem__)
    return Capacity(max(1, limits[reason]), devices, reason)


@dataclass(frozen=True)
class Report:
    """A message of a worker; None if its process has ended, with the status."""

    worker: int
    message: Message | None
    status: int = 0


class WorkerPool:
    """Starts workers and gives them tasks. Workers end when this process does.

    Args:
        environment: environment of the workers.
        devices: values of CUDA_VISIBLE_DEVICES; worker after worker gets the next one.
        share: processors of a worker.
    """

    def __init__(self, environment: Mapping[str, str], devices: tuple[str, ...], share: int) -> None:
        self.reports: queue.Queue[Report] = queue.Queue()
        self._environment = dict(environment)
        self._devices = devices
        self._share = share
        self._processes: dict[int, subprocess.Popen[str]] = {}
        # Workers that are killed leave temporary files, such as those that they download.
        _remove_abandoned()
        self._temporary = tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-")

    def start(self, worker: int, log: Path) -> None:
        """Start a worker, which reports `ready`; its output before its first task goes to a log file."""
        environment = self._environment | {"TMPDIR": self._temporary, "OMP_NUM_THREADS": str(self._share)}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[worker % len(self._devices)]
        with log.open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "darts_assets.area_mapping.scene_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
                start_new_session=True,  # Ctrl-C in a terminal reaches this process only
            )  # fmt: skip
        self._processes[worker] = process
        threading.Thread(target=self._read, args=(worker, process), daemon=True).start()

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker that is ready; a worker that has ended meanwhile reports so."""
        stdin = self._processes[worker].stdin
        assert stdin is not None
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(asdict(task)) + "\n")
            stdin.flush()

    def retire(self, worker: int) -> None:
        """End a worker that is ready."""
        process = self._processes.pop(worker)
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()

    def close(self) -> None:
        """End all workers, within seconds, also in the middle of a step."""
        processes = list(self._processes.values())
        self._processes.clear()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                with suppress(ProcessLookupError):  # with the processes that a step has started
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + _GRACE
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0, deadline - time.monotonic()))
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _read(self, worker: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.reports.put(Report(worker, Message.of(line)))
        self.reports.put(Report(worker, None, process.wait()))


def _remove_abandoned() -> None:
    """Remove the temporary files of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*-*"):
        pid = folder.name.removeprefix(_TEMPORARY).partition("-")[0]
        if pid.isdecimal() and process_start(int(pid)) is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def worker_pool(environment: Mapping[str, str], devices: tuple[str, ...], share: int) -> Iterator[WorkerPool]:
    """A pool whose workers end with the context."""
    pool = WorkerPool(environment, devices, share)
    try:
        yield pool
    finally:
        pool.close()
