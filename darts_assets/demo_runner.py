"""The demo: synthetic scenes, processed by the same assets as real ones, and compared with the truth."""

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg
from rich.console import Console
from rich.table import Table

from darts_assets.area_mapping.map_area import INTERRUPTED, AreaRequest, map_area
from darts_assets.area_mapping.missing_steps import missing_steps
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.local_instance import create_local_instance
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.settings import Settings

if TYPE_CHECKING:
    from darts_assets.demo import Score, World


def run_demo(
    folder: Path,
    build_defs: Callable[[Settings], dg.Definitions],
    *,
    scenes: int,
    size: int,
    seed: int,
    verbosity: int = 0,
) -> int:
    """Generate the synthetic data, materialize the chain of each scene, and print a comparison with the truth.

    Args:
        folder: folder of the demo; existing data are reused.
        build_defs: makes the code location for the demo's settings.
        scenes: number of scenes.
        size: width and height of a scene, in pixels.
        seed: random seed of the synthetic data.
        verbosity: as of `AreaRequest`.

    Returns:
        The exit code: 0 if every scene was materialized, 130 after an interrupt.

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
    variables = _write_home(folder, home, settings)
    own = {name: value for name, value in os.environ.items() if not name.startswith("DARTS_")}
    items = tuple(str(path) for path in world.items)
    request = AreaRequest(SENTINEL2, items=items, environment={**own, **variables}, verbosity=verbosity)
    code = map_area(request, settings, defs, home, console)
    if code == INTERRUPTED:
        return code
    with dg.DagsterInstance.from_config(str(home)) as instance:
        registry = (defs.resources or {})["scenes"]
        scenes_by_id = {path.stem: registry.scene(SENTINEL2, path.stem) for path in world.items}
        unfinished = missing_steps(instance, settings.root, SENTINEL2, list(scenes_by_id), STEPS)
        results = {scene: _result(instance, defs, world, scene) for scene in scenes_by_id if scene not in unfinished}
    _summarize(console, {scene: found.label for scene, found in scenes_by_id.items()}, results)
    console.print(f"\n{len(results)} of {len(scenes_by_id)} scenes processed in {time.perf_counter() - began:.0f} s.")
    console.print("To open this instance in Dagster's UI (http://localhost:3000):")
    console.print(f"  . {folder / 'env.sh'} && dagster dev -m darts_assets", soft_wrap=True)
    console.print("To look at the slumps on a map:")
    console.print(f"  . {folder / 'env.sh'} && darts-assets publish && darts-assets map-server", soft_wrap=True)
    return code


def _write_home(folder: Path, home: Path, settings: Settings) -> dict[str, str]:
    """Write the Dagster instance's folder, and a file that sets the demo's environment variables; returns these."""
    create_local_instance(home)
    variables = {
        "DAGSTER_HOME": str(home),
        "DARTS_CONFIG": "none",
        "DARTS_STORE": settings.store,
        "DARTS_ARCTICDEM": settings.arcticdem,
        "DARTS_TCVIS": str(settings.tcvis),
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    (folder / "env.sh").write_text("".join(lines))
    return variables


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
