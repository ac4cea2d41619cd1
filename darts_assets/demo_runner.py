"""The demo: synthetic scenes, processed by the same assets as real ones, and compared with the truth."""

import shlex
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import failure_message
from darts_assets.orchestration.core.local_instance import create_local_instance
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.orchestration.scene_discovery.registration import register_items
from darts_assets.settings import Settings

if TYPE_CHECKING:
    from darts_assets.demo import Score, World

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_STEP_EVENTS = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}


def run_demo(
    folder: Path, build_defs: Callable[[Settings], dg.Definitions], *, scenes: int, size: int, seed: int
) -> int:
    """Generate the synthetic data, materialize the chain of each scene, and print a comparison with the truth.

    Args:
        folder: folder of the demo; existing data are reused.
        build_defs: makes the code location for the demo's settings.
        scenes: number of scenes.
        size: width and height of a scene, in pixels.
        seed: random seed of the synthetic data.

    Returns:
        The exit code: 0 if every scene was materialized.

    Raises:
        SettingsError: if the folder contains a demo with other parameters, whose cubes contain other terrain.
    """
    from darts_assets.demo import build_world, holds_other_world

    console = Console()
    folder = folder.resolve()
    if (folder / "store").exists() and holds_other_world(folder / "world", seed, scenes, size):
        raise SettingsError(f"{folder} contains a demo with other parameters: set another --folder, or remove it")
    began = time.perf_counter()
    with console.status("Generating synthetic scenes, terrain, trends and slumps"):
        world = build_world(folder / "world", seed=seed, scenes=scenes, size=size)
    console.print(f"Synthetic data in {folder / 'world'} ({time.perf_counter() - began:.0f} s)")

    # The environment is ignored, so that the demo gives the same results everywhere.
    settings = Settings.model_construct(store=str(folder / "store"), arcticdem=str(world.arcticdem), tcvis=world.tcvis)
    defs = build_defs(settings)
    home = folder / "dagster"
    _write_home(folder, home, settings)
    registry = (defs.resources or {})["scenes"]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        ids = register_items(instance, registry, SENTINEL2, [str(path) for path in world.items])
        scenes_by_id = {scene: registry.scene(SENTINEL2, scene) for scene in ids}
        labels = {key: f"T{scene.tile} {scene.datetime:%Y-%m-%d}" for key, scene in scenes_by_id.items()}
        failed = _materialize(console, instance, defs, labels)
        results = {scene: _result(instance, defs, world, scene) for scene in ids if scene not in failed}
    _summarize(console, labels, results)
    console.print(f"\n{len(results)} of {len(ids)} scenes processed in {time.perf_counter() - began:.0f} s.")
    console.print("To open this instance in Dagster's UI (http://localhost:3000):")
    console.print(f"  . {folder / 'env.sh'} && dagster dev -m darts_assets", soft_wrap=True)
    return 1 if failed else 0


def _write_home(folder: Path, home: Path, settings: Settings) -> None:
    """Write the Dagster instance's folder, and a file that sets the demo's environment variables."""
    create_local_instance(home)
    variables = {
        "DAGSTER_HOME": home,
        "DARTS_CONFIG": "none",
        "DARTS_STORE": settings.store,
        "DARTS_ARCTICDEM": settings.arcticdem,
        "DARTS_TCVIS": settings.tcvis,
    }
    lines = [f"export {name}={shlex.quote(str(value))}\n" for name, value in variables.items()]
    (folder / "env.sh").write_text("".join(lines))


def _materialize(
    console: Console, instance: dg.DagsterInstance, defs: dg.Definitions, labels: dict[str, str]
) -> dict[str, str]:
    """Run the chain for each scene, with a progress bar; returns scene id -> reason of the failed ones."""
    failed: dict[str, str] = {}
    job = defs.resolve_job_def(f"{SENTINEL2.name}_chain")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(1) as pool:
        for scene, label in labels.items():
            task, run_id = progress.add_task(label, total=len(STEPS)), str(uuid.uuid4())
            future = pool.submit(
                job.execute_in_process, instance=instance, partition_key=scene, run_id=run_id, run_config=_QUIET,
                raise_on_error=False,
            )  # fmt: skip
            running = True
            while running:
                running = bool(wait([future], timeout=0.3).not_done)
                completed, step = _position(instance, run_id)
                progress.update(task, completed=completed, description=f"{label}  {step:<17}")
            failures = [event.step_failure_data for event in future.result().all_events if event.is_step_failure]
            if not future.result().success:
                failed[scene] = failure_message(failures[0]) if failures else "the run failed"
    for scene, reason in failed.items():
        console.print(f"[red]{scene}: {reason}")
    return failed


def _position(instance: dg.DagsterInstance, run_id: str) -> tuple[int, str]:
    """The number of completed steps of the chain, and the latest one; Dagster's check steps do not count."""
    steps = {f"{SENTINEL2.name}__{step}": step for step in STEPS}
    events = [entry.dagster_event for entry in instance.all_logs(run_id, of_type=_STEP_EVENTS)]
    chain = [event for event in events if event and event.step_key in steps]
    return sum(event.is_step_success for event in chain), steps[str(chain[-1].step_key)] if chain else ""


@dataclass(frozen=True)
class _Result:
    score: "Score"
    detections: int
    products: str


def _result(instance: dg.DagsterInstance, defs: dg.Definitions, world: "World", scene: str) -> _Result:
    import geopandas as gpd

    from darts_assets.demo import score

    key = SENTINEL2.key("polygons")
    vectors = cast("dict[str, gpd.GeoDataFrame]", defs.load_asset_value(key, partition_key=scene, instance=instance))
    truth = gpd.read_file(world.truth)
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=SENTINEL2.key("products"), asset_partitions=[scene]), limit=1
    ).records
    materialization = records[0].asset_materialization if records else None
    return _Result(
        score(vectors["segments"], truth[truth["scene_id"] == scene], vectors["extent"]),
        len(vectors["segments"]),
        str(materialization.metadata["path"].value) if materialization else "",
    )


def _summarize(console: Console, labels: dict[str, str], results: dict[str, _Result]) -> None:
    table = Table(title="Thaw slumps against the truth, within the valid area of each scene", title_justify="left")
    for column in ("scene", "detections", "slumps", "hits", "misses", "false", "IoU"):
        table.add_column(column, justify="left" if column == "scene" else "right", no_wrap=True)
    for scene, label in labels.items():
        if scene not in results:
            table.add_row(label, "failed", *["-"] * 5)
            continue
        score = results[scene].score
        figures = (results[scene].detections, score.hits + score.misses, score.hits, score.misses, score.false_alarms)
        table.add_row(label, *(str(figure) for figure in figures), f"{score.iou:.2f}")
    console.print(table)
    for scene, result in results.items():
        console.print(f"{scene}\n  {result.products}", soft_wrap=True, highlight=False)
