"""How many pods a backfilled scene takes, and how much processor time: `python -m tests.benchmarks.cluster_pods`.

The overlay for GPUs is installed in the tests' cluster, as `tests/e2e/test_kubernetes.py` does, and maps scenes of 300
x 300 pixels by backfills. The work on scenes that small is next to nothing: what remains is the cost of pods. Processor
seconds are those of the processes of runs and steps and their children, noted at their end. `in steps` is the part
that the materializations record as theirs, including libraries that the step loads. Seconds of the clock say little:
they depend on how many pods the machine runs at once.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from rich.console import Console
from rich.table import Table

from darts_assets.demo import build_world
from darts_assets.orchestration.core.partitions import STEPS
from tests.benchmarks.measuring import machine
from tests.e2e.harness import DEMO_MODEL, repeated_items
from tests.e2e.installation import Installation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

EXECUTORS = ("k8s", "k8s_per_run")

AT_EXIT = """
import atexit, os
def note():
    times = os.times()
    with open(os.path.join({folder!r}, os.environ.get("HOSTNAME", "no pod")), "w") as file:
        file.write(str(sum(times[:4])))
if "HOSTNAME" in os.environ:
    atexit.register(note)
"""
"""`sitecustomize.py`: the processor seconds of each process of a pod, in a file of the pod's name."""


@dataclass(frozen=True)
class Kind:
    """The pods of a kind: of runs, or of one op.

    Attributes:
        pods: how many there were.
        cpu_seconds: of all of them.
    """

    pods: int
    cpu_seconds: float


@dataclass(frozen=True)
class Backfilled:
    """What a backfill took.

    Attributes:
        executor: `DARTS_EXECUTOR`.
        scenes: of the backfill.
        kinds: name of the op, or `run` -> its pods.
        in_steps: processor seconds of the materializations.
    """

    executor: str
    scenes: int
    kinds: dict[str, Kind]
    in_steps: float

    @property
    def pods(self) -> float:
        """Pods per scene."""
        return sum(kind.pods for kind in self.kinds.values()) / self.scenes

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of the pods per scene."""
        return sum(kind.cpu_seconds for kind in self.kinds.values()) / self.scenes

    @property
    def beside_steps(self) -> float:
        """Processor seconds per scene that no step takes: to start pods, and what Dagster does."""
        return self.cpu_seconds - self.in_steps / self.scenes


@contextmanager
def processor_seconds(folder: Path) -> Iterator[Path]:
    """Let processes that start meanwhile note their processor seconds in the folder that is given."""
    (notes := folder / "notes").mkdir()
    (hook := folder / "hook").mkdir()
    (hook / "sitecustomize.py").write_text(AT_EXIT.format(folder=str(notes)))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield notes


def measure(executor: str, scenes: int, per_run: int, at_once: int, folder: Path) -> Backfilled:
    """Map scenes by one backfill, after the steps before segmentation by another, so that batches are full."""
    world = build_world(folder / "world", seed=7, scenes=2, size=300)
    items = repeated_items(world, folder / "items", scenes)
    server = S3Server(folder)
    server.client.create_bucket(Bucket="darts")
    settings = {
        "DARTS_STORE_ENDPOINT": server.endpoint, "DARTS_STORE_REGION": "us-east-1", "DARTS_EXECUTOR": executor,
        "DARTS_ARCTICDEM": str(world.arcticdem), "DARTS_TCVIS": world.tcvis, "DARTS_MODELS": DEMO_MODEL,
        "DARTS_SCENES_PER_RUN": str(per_run),
    }  # fmt: skip
    with processor_seconds(folder) as notes, pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        installing = Installation.of(
            "overlays/gpu", folder=folder / "site", secrets=CREDENTIALS, max_runs=at_once, start_timeout=1800,
            patience=600 + 300 * scenes, **settings,
        )  # fmt: skip
        with installing as installation:
            keys = installation.site.register(*items)
            before = STEPS.index("segmentation")
            installation.start()
            for steps in (STEPS[:before], STEPS[before:]):
                backfill = installation.backfill(keys, *steps)
                installation.restart_daemon()
                installation.finish(backfill)
                record = installation.site.instance.get_backfill(backfill)
                if not record or record.status is not BulkActionStatus.COMPLETED_SUCCESS:
                    raise click.ClickException(f"the backfill of {', '.join(steps)} did not succeed")
            kinds = _kinds(installation, notes)
            in_steps = sum(
                _cpu_seconds(installation.site.instance, installation.site.family.key(step)) for step in STEPS
            )
    server.stop()
    return Backfilled(executor, scenes, kinds, in_steps)


def _kinds(installation: Installation, notes: Path) -> dict[str, Kind]:
    seconds: dict[str, list[float]] = {}
    for component in ("run_worker", "step_worker"):
        for pod in installation.pods(component):
            op = pod.labels.get("dagster/op", "run").rpartition("__")[2] if component == "step_worker" else "run"
            seconds.setdefault(op, []).append(float((notes / pod.name).read_text()))
    return {kind: Kind(len(each), sum(each)) for kind, each in seconds.items()}


def _cpu_seconds(instance: dg.DagsterInstance, asset: dg.AssetKey) -> float:
    materialized = instance.fetch_materializations(asset, limit=10_000).records
    metadata = [record.asset_materialization.metadata for record in materialized if record.asset_materialization]
    return sum(float(str(each["cpu_seconds"].value)) for each in metadata if "cpu_seconds" in each)


def tables(measured: Sequence[Backfilled]) -> Iterator[Table]:
    """Per scene, and by kind of pod."""
    each = Table(title="Per scene", title_justify="left")
    for column in ("executor", "pods", "core seconds", "in steps", "beside steps"):
        each.add_column(column, justify="left" if column == "executor" else "right")
    for backfill in measured:
        in_steps = backfill.in_steps / backfill.scenes
        figures = (backfill.pods, backfill.cpu_seconds, in_steps, backfill.beside_steps)
        each.add_row(backfill.executor, *(f"{figure:.2f}" for figure in figures))
    yield each
    for backfill in measured:
        table = Table(title=f"{backfill.executor}, {backfill.scenes} scenes", title_justify="left")
        for column in ("pods of", "number", "core seconds each"):
            table.add_column(column, justify="left" if column == "pods of" else "right")
        for name, kind in backfill.kinds.items():
            table.add_row(name, str(kind.pods), f"{kind.cpu_seconds / kind.pods:.2f}")
        yield table


@click.command(help=__doc__.partition("\n")[0])
@click.option("--scenes", type=click.IntRange(1), default=30, show_default=True)
@click.option("--scenes-per-run", type=click.IntRange(1), default=8, show_default=True, help="DARTS_SCENES_PER_RUN.")
@click.option("--at-once", type=click.IntRange(1), default=2, show_default=True, help="Runs at once.")
@click.option("--executor", "executors", type=click.Choice(EXECUTORS), multiple=True, default=EXECUTORS)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures in FILE.")
def main(scenes: int, scenes_per_run: int, at_once: int, executors: Sequence[str], file: Path | None) -> None:
    measured = []
    for executor in executors:
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure(executor, scenes, scenes_per_run, at_once, Path(folder)))
    console = Console(width=100)
    console.print(" ".join(f"{name}: {value};" for name, value in machine().items()), *tables(measured))
    if file:
        figures = {"machine": machine(), "backfills": [asdict(backfill) for backfill in measured]}
        file.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
