"""A backfill of many scenes whose steps take no work: what is left is Dagster's daemon and its database.

`python -m tests.benchmarks.backfill_scale`

`dagster-daemon` runs as in `k8s/base` (PostgreSQL, queue, 100 runs at once, 60 of a backfill), with a launcher in place
of Kubernetes: a run that it launches succeeds after some seconds, with the events of its steps and materializations
that have as much metadata as real ones. The whole chain is backfilled. Printed are the runs launched per second between
the first and the last, the memory of the daemon and of the code location that it has started, their processor time, and
by how much the database has grown. Real steps also log what they do; the README of
`darts_assets/orchestration` has what a scene leaves.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import dagster as dg
import psutil
import sqlalchemy as sa
import yaml
from dagster._core.events import StepMaterializationData
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from rich.console import Console
from rich.table import Table

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.dynamic_partitions import register
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.settings import Settings
from tests.benchmarks.measuring import machine
from tests.e2e.backfills import request_backfill
from tests.servers.postgres.cluster import FAST_DISKS, postgres_instance

AT_ONCE = 100

YAML = """
run_launcher:
  module: tests.benchmarks.backfill_scale
  class: SimulatedLauncher
  config: {{seconds: {seconds}}}
run_coordinator: {{module: dagster.core.run_coordinator, class: QueuedRunCoordinator}}
concurrency:
  runs:
    max_concurrent_runs: {at_once}
    tag_concurrency_limits: [{{key: dagster/backfill, value: {{applyLimitPerUniqueValue: true}}, limit: 60}}]
"""

METADATA = {f"Fact {number}": "x" * 150 for number in range(16)}
"""As much as a materialization of ours has, 4 kB as JSON."""


class SimulatedLauncher(RunLauncher, ConfigurableClass):
    """Launches runs that succeed after some seconds, in threads of the launching process."""

    def __init__(self, seconds: float, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__()
        self._seconds, self._inst_data = seconds, inst_data
        self._runs = ThreadPoolExecutor(AT_ONCE)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        return {"seconds": dg.Field(float)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "SimulatedLauncher":
        return cls(config_value["seconds"], inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        self._runs.submit(self._execute, self._instance, context.dagster_run)

    def terminate(self, run_id: str) -> bool:
        return False

    def _execute(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        try:
            self._simulate(instance, run)
        except Exception as error:
            instance.report_run_failed(run, f"{type(error).__name__}: {error}")

    def _simulate(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        def report(kind: dg.DagsterEventType, step: str | None = None, data: Any = None) -> None:
            event = dg.DagsterEvent(kind.value, run.job_name, step_key=step, event_specific_data=data)
            instance.report_dagster_event(event, run.run_id)

        report(dg.DagsterEventType.RUN_START)
        for asset in sorted(run.asset_selection or (), key=lambda key: STEPS.index(key.path[-1])):
            step = asset.to_python_identifier()
            report(dg.DagsterEventType.STEP_START, step)
            time.sleep(self._seconds)
            for partition in partitions_of(instance, run):
                made = dg.AssetMaterialization(asset, partition=partition, metadata=METADATA)
                report(dg.DagsterEventType.ASSET_MATERIALIZATION, step, StepMaterializationData(made))
            report(dg.DagsterEventType.STEP_SUCCESS, step, StepSuccessData(1000 * self._seconds))
        report(dg.DagsterEventType.RUN_SUCCESS)


def partitions_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[str]:
    """The scenes of a run: one, or a range in the order of registration."""
    if "dagster/partition" in run.tags:
        return [run.tags["dagster/partition"]]
    keys = list(instance.get_dynamic_partitions(str(SENTINEL2.partitions.name)))
    ends = [keys.index(run.tags[f"dagster/asset_partition_range_{end}"]) for end in ("start", "end")]
    return keys[ends[0] : ends[1] + 1]


@dataclass(frozen=True)
class Backfilled:
    """What a backfill took.

    Attributes:
        scenes: of the backfill.
        runs: that the daemon has launched for it.
        seconds: from the request to its end.
        launches_per_second: between the start of the first and of the last run.
        daemon_memory: bytes, the most that the daemon had (resident).
        code_memory: the same of the code location.
        cpu_seconds: of both.
        database_growth: bytes.
    """

    scenes: int
    runs: int
    seconds: float
    launches_per_second: float
    daemon_memory: int
    code_memory: int
    cpu_seconds: float
    database_growth: int


def measure(scenes: int, seconds: float, folder: Path, patience: float = 7200) -> Backfilled:
    """A backfill by a daemon of its own.

    Raises:
        RuntimeError: if the daemon ends, or the backfill does not succeed in time.
    """
    config = yaml.safe_load(YAML.format(seconds=seconds, at_once=AT_ONCE))
    with postgres_instance(folder, config, options=FAST_DISKS) as instance:
        names = [f"S2A_MSIL2A_20230715T200901_N0509_R128_T08WMB_20230716T{number:06d}" for number in range(scenes)]
        register(instance, SENTINEL2.partitions, names)
        before = database_size(instance)
        graph = build_defs(Settings(store=str(folder / "store"))).resolve_asset_graph()
        asked = request_backfill(instance, graph, [SENTINEL2.key(step) for step in STEPS], names)
        environment = {**os.environ, "DAGSTER_HOME": str(folder / "home"), "DARTS_STORE": str(folder / "store")}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), environment.get("PYTHONPATH", "")])
        started, log = time.monotonic(), folder / "daemon.log"
        with log.open("w") as output:
            daemon = subprocess.Popen(
                ["dagster-daemon", "run", "-m", "darts_assets"], env=environment, stdout=output, stderr=output
            )
        try:
            memory, cpu = wait(instance, asked.backfill_id, daemon, started + patience, log)
        finally:
            for child in psutil.Process(daemon.pid).children(recursive=True):
                child.kill()
            daemon.kill()
            daemon.wait()
        took = time.monotonic() - started
        records = instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": asked.backfill_id}))
        starts = sorted(record.start_time or 0.0 for record in records)
        rate = (len(starts) - 1) / max(starts[-1] - starts[0], 1e-3)
        growth = database_size(instance) - before
        return Backfilled(scenes, len(records), took, rate, memory[0], memory[1], cpu, growth)


def wait(
    instance: dg.DagsterInstance, backfill: str, daemon: "subprocess.Popen[bytes]", until: float, log: Path
) -> tuple[tuple[int, int], float]:
    """The memory of daemon and code location, and their processor seconds, when the backfill is done."""
    peaks, cpu = [0, 0], 0.0
    while True:
        if daemon.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the backfill is not done:\n{log.read_text()[-3000:]}")
        parts = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children(recursive=True)]
        used = [each.memory_info().rss for each in parts]
        peaks = [max(peaks[0], used[0]), max(peaks[1], sum(used[1:]))]
        cpu = sum(sum(each.cpu_times()[:2]) for each in parts)
        state = instance.get_backfill(backfill)
        assert state
        if state.status is BulkActionStatus.COMPLETED_SUCCESS:
            return (peaks[0], peaks[1]), cpu
        if state.status is not BulkActionStatus.REQUESTED:
            raise RuntimeError(f"the backfill is {state.status}:\n{log.read_text()[-3000:]}")
        time.sleep(1)


def database_size(instance: dg.DagsterInstance) -> int:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar())


def table(done: Backfilled) -> Table:
    host = machine()
    shown = Table(title=f"{host['cpu']}, {host['cores']} cores, load {os.getloadavg()[0]:.0f}")
    shown.add_column("backfill with simulated steps")
    shown.add_column(f"{done.scenes:,} scenes", justify="right")
    for name, value in (
        ("runs", f"{done.runs:,}"),
        ("minutes", f"{done.seconds / 60:.1f}"),
        ("runs launched per second", f"{done.launches_per_second:.1f}"),
        ("memory of the daemon, MiB", f"{done.daemon_memory / 2**20:.0f}"),
        ("memory of the code location, MiB", f"{done.code_memory / 2**20:.0f}"),
        ("processor seconds of both", f"{done.cpu_seconds:.0f}"),
        ("growth of the database, MB", f"{done.database_growth / 1e6:.0f}"),
    ):
        shown.add_row(name, value)
    return shown


@click.command(help=__doc__)
@click.option("--scenes", default=1000, show_default=True, help="Of the backfill.")
@click.option("--seconds", default=1.0, show_default=True, help="That a step takes.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the figures, JSON.")
def main(scenes: int, seconds: float, output: Path | None) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="backfill-") as folder:
        done = measure(scenes, seconds, Path(folder))
    Console().print(table(done))
    if output:
        output.write_text(json.dumps({"machine": machine(), "load": os.getloadavg(), **asdict(done)}, indent=1))


if __name__ == "__main__":
    main()
