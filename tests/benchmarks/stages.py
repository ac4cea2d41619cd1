"""What each stage of the chain costs on a scene of the demo world: `python tests/benchmarks/stages.py --size 4096`.

Each stage runs in a process of its own, which has its libraries loaded when the clock starts; its input was written
just before, so that reading means the page cache. `I/O s` is what merely reading that input and writing that output
takes, in another process. `--peer` adds what the peer does for the same result (`pip install '.[bench]'`).

The baseline of this repository is made by

    for size in 2048 4096 10980; do
        python tests/benchmarks/stages.py --size $size --together --json tests/benchmarks/baseline.json
    done

and compared with by `--baseline tests/benchmarks/baseline.json`, which ends with exit code 1 if a stage takes more
processor time or memory than its tolerance.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.benchmarks.figures import Figures, beside_peer, compared, keep, load, medians, size, table
from tests.benchmarks.measuring import machine

ROOT = Path(__file__).parents[2]

STAGES = ("raw scene", "auxiliary", "preprocess", "segmentation", "postprocess", "products")


def in_a_process(module: str, *arguments: object) -> list[dict[str, Any]]:
    """The lines of JSON that one of our scripts prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        raise click.ClickException(f"{module} {' '.join(map(str, arguments))} failed; its words are above")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@click.command(help=__doc__.partition("\n")[0])
@click.option("--size", "pixels", type=click.IntRange(200, 10980), default=2048, show_default=True)
@click.option("--stage", "chosen", type=click.Choice(STAGES), multiple=True, help="Default: all of them.")
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="Figures are their medians.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps the world and what stages make; else removed.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures in FILE, beside other sizes.")
@click.option("--baseline", type=click.Path(path_type=Path, exists=True), help="Compare with a file of --json.")
@click.option("--tolerance", default=0.25, show_default=True, help="How much worse a stage may be, a fraction.")
@click.option("--together", is_flag=True, help="Then run the whole chain in one process.")
@click.option("--memory-limit", default=6.0, show_default=True, help="GiB that one process for all may take.")
@click.option("--peer", is_flag=True, help="Compare with what the peer does for the same results, on one core.")
def main(
    pixels: int,
    chosen: tuple[str, ...],
    runs: int,
    folder: Path | None,
    file: Path | None,
    baseline: Path | None,
    tolerance: float,
    together: bool,
    memory_limit: float,
    peer: bool,
) -> None:
    console = Console(width=120)
    known = {} if baseline is None else load(baseline)["sizes"].get(str(pixels), {})
    if baseline is not None and not known:
        raise click.UsageError(f"{baseline} has no figures of size {pixels}")
    with ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console.print(" ".join(f"{name}: {value};" for name, value in machine().items()))
        console.print(f"Building a world of one scene of {pixels} x {pixels} pixels, or finding it.")
        in_a_process("stage_work", where, pixels, "make")  # else its making would count as memory of a stage
        names = [name for name in STAGES if not chosen or name in chosen]
        measured: dict[str, Figures] = {"stages": measure(where, pixels, names, runs)}
        console.print(table("Each stage in a process of its own", measured["stages"]))
        if together:
            rows = {row.pop("stage"): row for row in in_a_process("stage_work", where, pixels, "work", *STAGES)}
            measured["together"] = rows
            console.print(table("All stages in one process, its peak so far", rows))
        if peer:
            measured["memory"] = measured_together("stage_work", where, pixels, "memory", runs=runs)
            measured["peer"] = measured_together("peer", where, pixels, runs=runs)
            console.print(table("From memory to memory", measured["memory"]))
            console.print(table("The peer on one core, from memory to memory", measured["peer"]))
            console.print(beside_peer(measured["memory"], measured["peer"]))
    problems = []
    if together and (peak := max(row["peak_rss"] or 0 for row in measured["together"].values())) > memory_limit * 2**30:
        problems.append(f"the whole chain in one process takes {size(peak)}, more than {memory_limit:g} GiB")
    if file:
        keep(file, pixels, measured)
    for part, before in known.items():
        if part in measured and part != "peer":
            ratios, worse = compared(measured[part], before, tolerance)
            console.print(ratios)
            problems += worse
    if problems:
        raise click.ClickException("\n".join(problems))


def measure(folder: Path, pixels: int, names: Sequence[str], runs: int) -> Figures:
    """The figures of some stages; what they need of stages before them is made, where it is not there."""
    figures: Figures = {}
    for number, name in enumerate(STAGES):
        if name not in names:
            continue
        if number and STAGES[number - 1] not in names:
            in_a_process("stage_work", folder, pixels, "make", *STAGES[:number])
        rows = []
        for _ in range(runs):
            (work,) = in_a_process("stage_work", folder, pixels, "work", name)
            (moving,) = in_a_process("stage_work", folder, pixels, "io", name)
            rows.append(work | moving)
        figures[name] = medians(rows)
    return figures


def measured_together(script: str, *arguments: object, runs: int) -> Figures:
    """The medians of the stages that a script runs in one process."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for _ in range(runs):
        for row in in_a_process(script, *arguments):
            rows.setdefault(row["stage"], []).append(row)
    return {stage: medians(those) for stage, those in rows.items()}


if __name__ == "__main__":
    main()
