"""Where the seconds of a cold `dagster asset materialize` go: `python tests/benchmarks/cold_start.py`.

A demo world, an instance and a store are made in a temporary folder; then one scene is materialized as a user does it,
from an empty process. The times of steps are those of the run's event log. `work` is what the same domain calls take
in a process that has made them once before; `imports` is what the step loads of libraries, from a second run under
`-X importtime`, which itself makes imports some tenths slower. What is left is overhead: Dagster's events and stores.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import dagster as dg
from rich.console import Console
from rich.table import Table

from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from tests.benchmarks.measuring import machine, seconds_of
from tests.benchmarks.stage_site import Site

WORK = dict(
    zip(("raw scene", "auxiliary", "preprocess", "segmentation", "postprocess", "products"), STEPS, strict=True)
)
"""Stage of the benchmark -> step of the chain."""

IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|")
EVENT = re.compile(r" - (\w+) - (STEP_START|STEP_SUCCESS|RUN_START) - ")

_LINES = {
    "Python": "",
    "Dagster's command": "from dagster._cli import asset",
    "our definitions": "import warnings; warnings.simplefilter('ignore'); from dagster._cli import asset; "
    "import darts_assets; darts_assets.defs",
}


@dataclass(frozen=True)
class Run:
    """A materialization of one scene.

    Attributes:
        started: when its process was started, seconds of the epoch, as all times.
        begun: when Dagster logged that the run began.
        steps: beginning and end of each step, in order.
        ended: when its process had ended.
    """

    started: float
    begun: float
    steps: dict[str, tuple[float, float]]
    ended: float


def environment(site: Site, folder: Path) -> dict[str, str]:
    """Variables that point a shell at a store and an instance of its own in a folder; registers the scene."""
    (home := folder / "dagster").mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    variables = {
        "DAGSTER_HOME": str(home),
        "DARTS_STORE": str(folder / "store"),
        "DARTS_ARCTICDEM": str(site.world.arcticdem),
        "DARTS_TCVIS": site.world.tcvis,
        "DARTS_MODELS": str(DEMO_CHECKPOINT),
    }
    subprocess.run(
        ["darts-assets", "register", str(site.world.items[0])],
        env=os.environ | variables,
        check=True,
        capture_output=True,
    )
    return os.environ | variables


def materialize(scene: str, variables: dict[str, str], *options: str) -> tuple[Run, str]:
    """Materialize the chain of a scene from an empty process; returns the run and its output."""
    command = [sys.executable, *options, "-m", "dagster", "asset", "materialize", "-m", "darts_assets"]
    selection = ["--select", f"group:{SENTINEL2.name}", "--partition", scene]
    started = time.time()
    done = subprocess.run([*command, *selection], env=variables, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    kinds = {dg.DagsterEventType.RUN_START, dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
    with dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
        (record,) = instance.get_run_records(limit=1)
        logs = instance.all_logs(record.dagster_run.run_id, of_type=kinds)
    times: dict[str | None, list[float]] = defaultdict(list)
    for entry in logs:
        times[entry.step_key].append(entry.timestamp)
    (begun,) = times.pop(None)
    steps = {str(step): (first, last) for step, (first, last) in times.items()}
    return Run(started, begun, steps, ended), done.stderr + done.stdout


def imports_of(output: str) -> dict[str, float]:
    """Seconds of imports by the step in which they happened, from what a run under `-X importtime` says."""
    seconds: dict[str, float] = defaultdict(float)
    step = ""
    for line in output.splitlines():
        if found := EVENT.search(line):
            step = found[1] if found[2] == "STEP_START" else ""
        for microseconds in IMPORT.findall(line):
            seconds[step] += int(microseconds) / 1e6
    return seconds


def work_of(folder: Path, size: int) -> dict[str, float]:
    """Seconds of the domain calls of each step, the second time that a process makes them."""
    command = [sys.executable, "-m", "tests.benchmarks.stage_work", str(folder), str(size), "work", *WORK, *WORK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {WORK[row["stage"]]: row["seconds"] for row in rows}  # later rows win


def before_the_run() -> Iterator[tuple[str, float]]:
    """Seconds of what a process does before it knows what to run, each without what comes before it."""
    before = 0.0
    for name, code in _LINES.items():
        spent = min(
            seconds_of(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)) for _ in "ab"
        )
        yield name, spent - before
        before = spent


@click.command(help=__doc__.partition("\n")[0])
@click.option("--size", type=click.IntRange(200, 3000), default=640, show_default=True, help="Pixels of the scene.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures in FILE.")
def main(size: int, file: Path | None) -> None:
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = Site(folder, size)
        scene = site.world.items[0].stem
        run, _ = materialize(scene, environment(site, folder / "cold"))
        _, output = materialize(scene, environment(site, folder / "imports"), "-X", "importtime")
        imports, work = imports_of(output), work_of(folder, size)
        first = dict(before_the_run())

    whole = Table(title=f"One scene of {size} x {size} pixels, cold", title_justify="left")
    rows = {
        **first,
        "run is planned and recorded": run.begun - run.started - sum(first.values()),
        "run begins": min(start for start, _ in run.steps.values()) - run.begun,
        "between steps": sum(gaps(run)),
        "run ends": run.ended - max(end for _, end in run.steps.values()),
    }
    for column in ("not a step", "seconds"):
        whole.add_column(column)
    for part, seconds in rows.items():
        whole.add_row(part, f"{seconds:.2f}")

    table = Table(title="Steps", title_justify="left")
    for column in ("step", "seconds", "work", "imports", "overhead"):
        table.add_column(column, justify="left" if column == "step" else "right")
    left = {}
    for step, (start, end) in run.steps.items():
        short = step.removeprefix(f"{SENTINEL2.name}__")
        figures = (end - start, work.get(short, 0.0), imports.get(step, 0.0))
        left[short] = figures[0] - figures[1] - figures[2]
        table.add_row(short, *(f"{figure:.2f}" for figure in (*figures, left[short])))
    console.print(" ".join(f"{name}: {value};" for name, value in machine().items()), whole, table)
    total, loading = run.ended - run.started, sum(seconds for step, seconds in imports.items() if step)
    console.print(
        f"{total:.1f} s in all: work {sum(work.values()):.1f} s, imports within steps {loading:.1f} s (of these "
        f"{imports[f'{SENTINEL2.name}__segmentation']:.1f} s for torch), overhead "
        f"{total - sum(work.values()) - loading:.1f} s; {max(left.values()):.2f} s in the worst step."
    )
    if file:
        figures = {"machine": machine(), "size": size, "total": total, "run": rows, "steps": left, "work": work}
        file.write_text(json.dumps(figures | {"imports": dict(imports)}, indent=1))


def gaps(run: Run) -> Iterator[float]:
    """Seconds between one step's end and the next one's beginning."""
    times = sorted(run.steps.values())
    for (_, end), (start, _) in pairwise(times):
        yield start - end


if __name__ == "__main__":
    main()
