"""Dagster's own daemon over a code location whose sensors look every second, and an instance in which runs wait."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

LOCATION = Path(__file__).with_name("watched_location.py")
SECONDS = 240

YAML = """
telemetry: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 0}}  # runs wait in the queue for good
"""


@dataclass(frozen=True)
class Home:
    """A Dagster instance on disk, its settings, and what is watched.

    Attributes:
        folder: of the instance.
        environment: of its processes.
        instance: the same, for looking at it.
    """

    folder: Path
    environment: dict[str, str]
    instance: dg.DagsterInstance

    @classmethod
    @contextmanager
    def at(cls, folder: Path, **settings: str) -> "Iterator[Home]":
        """A new instance in a folder; `settings` are environment variables."""
        folder.mkdir()
        (folder / "dagster.yaml").write_text(YAML)
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            yield cls(folder, {**os.environ, "DAGSTER_HOME": str(folder), **settings}, instance)

    def turn_on(self, sensor: str) -> None:
        command = [sys.executable, "-m", "dagster", "sensor", "start", sensor, "-f", str(LOCATION)]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True, capture_output=True)

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Dagster's daemon, which is killed at the end with all its processes."""
        with (self.folder / "daemon.log").open("a") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-f", str(LOCATION)],
                env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield
            finally:
                children = psutil.Process(daemon.pid).children(recursive=True)
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
                for child in children:
                    if child.is_running():
                        child.kill()
                psutil.wait_procs(children, SECONDS)

    def wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not until():
            if time.monotonic() > end:
                pytest.fail((self.folder / "daemon.log").read_text()[-4000:])
            time.sleep(0.1)

    def ticks(self, status: str) -> int:
        (state,) = self.instance.all_instigator_state()
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sum(tick.status.value == status for tick in ticks)
