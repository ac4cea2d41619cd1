"""The command `darts-assets map`: find scenes, register them, process what is missing, and summarize."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

from darts_assets.area_mapping.area_run import AreaResult, AreaRun, write_failures
from darts_assets.area_mapping.missing_steps import Plan, missing_steps, steps_through
from darts_assets.area_mapping.progress_display import ProgressDisplay, duration
from darts_assets.area_mapping.worker_pool import capacity
from darts_assets.orchestration.core.local_instance import create_local_instance, own_home
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.run_monitoring.dead_runs import end_dead_runs
from darts_assets.orchestration.run_monitoring.scene_results import write_results
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, find_and_register
from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice, find_images
from darts_assets.orchestration.scene_discovery.registered_scenes import find_registered
from darts_assets.orchestration.scene_discovery.registration import register_any, twin_note
from darts_assets.orchestration.scene_discovery.selection import SceneChoice
from darts_assets.scene_shards import Shard
from darts_assets.settings import Settings
from darts_assets.stores.latest import LATEST
from darts_assets.stores.store_layout import products_folder

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit code after an interrupt, as of shells."""

_SHOWN = 20  # failures, problems and notes
_LOGS = "map-logs"
_HOME = "dagster-home"


@dataclass(frozen=True)
class AreaRequest:
    """What to map.

    Attributes:
        family: family of the scenes.
        choice: which scenes; None if `items` has them all.
        items: STAC items, SAFE products, or folders of Planet images, to register.
        repeat_acquisitions: register those whose acquisition is registered from another source, too.
        through: the last step.
        everything: run finished steps as well.
        shard: process only this part of the scenes.
        workers: number of worker processes; None for what memory and processors allow.
        dry_run: only report.
        export: folder or bucket that receives the products; None for none.
        verbosity: 0 for our lines, 1 for Dagster's messages, 2 for its debug messages as well.
        environment: environment of the workers; None for that of this process.
        title: of the backfill.
    """

    family: SceneFamily
    choice: SceneChoice | PlanetChoice | None = None
    items: tuple[str, ...] = ()
    repeat_acquisitions: bool = False
    through: str = "products"
    everything: bool = False
    shard: Shard | None = None
    workers: int | None = None
    dry_run: bool = False
    export: str | None = None
    verbosity: int = 0
    environment: Mapping[str, str] | None = None
    title: str = "darts-assets map"


def instance_home(settings: Settings, console: Console) -> Path:
    """The folder of the Dagster instance: DAGSTER_HOME, or a folder beside the store; it is created if needed."""
    if configured := own_home():
        return configured
    root = settings.root
    home = (root.path.parent if root.is_local else Path.cwd()) / _HOME
    is_new = not home.exists()
    create_local_instance(home)
    console.print(
        f"Dagster instance: {home}{' (created)' if is_new else ''}. For other commands: export DAGSTER_HOME={home}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    return home


def map_area(request: AreaRequest, settings: Settings, defs: dg.Definitions, home: Path, console: Console) -> int:
    """Find the scenes of a request, process what is missing, and print a summary.

    Returns:
        The exit code: 0; 1 if a scene failed or a requested scene was not found; 130 after an interrupt.

    Raises:
        DartsError: if the request is invalid, a service cannot be reached, or nothing can be processed at all.
    """
    resources = defs.resources or {}
    steps = steps_through(request.through)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        with console.status("Searching for scenes"):
            discovered = _find(request, settings, instance, resources)
        ids = discovered.registered.scene_ids
        if request.shard:
            ids = [scene for scene in ids if request.shard.has(scene)]
        if request.everything:
            plan: Plan = dict.fromkeys(ids, steps)
        else:
            plan = missing_steps(instance, settings.root, request.family, ids, steps)
        _print(console, _matches(discovered, ids, plan, request))
        for note in discovered.notes[:_SHOWN]:
            _print(console, f"  {note}")
        for problem in discovered.problems[:_SHOWN]:
            _print(console, f"  {problem}")
        failed_before = bool(discovered.problems)
        if not plan or request.dry_run:
            if plan:
                _print(console, _planned(plan, request, steps))
            elif ids and request.through == "products":
                _print(console, f"Products: {_products(settings, request)}. To process all again: --all")
            if not request.dry_run and request.export and ids:
                failed_before |= _export(request, settings, ids, console)
            return int(failed_before)
        result = process(request, defs, instance, home, plan, console)
        # After Ctrl-C, people wait: no chart, and only the scenes of this call.
        wait = result.ended_by != "interrupted"
        table = write_results(
            instance, resources["store"], request.family, result.run_ids, ids if wait else (),
            last_step=request.through, with_chart=wait,
        )  # fmt: skip
        exported_badly = False
        if request.export and not result.ended_by:
            exported_badly = _export(request, settings, [scene for scene in ids if scene not in result.failed], console)
    _summarize(result, request, settings, table.url, console)
    if result.ended_by == "interrupted":
        return INTERRUPTED
    return int(bool(result.failed or result.ended_by) or failed_before or exported_badly)


def _find(
    request: AreaRequest, settings: Settings, instance: dg.DagsterInstance, resources: Mapping[str, Any]
) -> DiscoveredScenes:
    scenes: SceneRegistry = resources["scenes"]
    options: dict[str, Any] = {"instance": instance, "scenes": scenes}
    progress: dict[str, Any] = {"dry_run": request.dry_run, "log": logger.info}
    result, choice = DiscoveredScenes(), request.choice
    if isinstance(choice, PlanetChoice):
        result = find_images(choice, **options, **progress, deliveries=resources["deliveries"])
    elif choice is not None and settings.offline and (choice.tiles or choice.aoi):
        result = find_registered(choice, **options)
    elif choice is not None:
        result = find_and_register(choice, **options, **progress, catalogs=resources["catalogs"])
    if request.items:
        ids = _ids_of(request, instance, scenes, result.notes)
        known = set(result.registered.scene_ids)
        result.registered.scene_ids += [scene for scene in ids if scene not in known]
    return result


def _ids_of(request: AreaRequest, instance: dg.DagsterInstance, scenes: SceneRegistry, notes: list[str]) -> list[str]:
    """The ids of the items of a request, which are registered unless it is a dry run; adds sentences to `notes`."""
    if not request.dry_run:
        return register_any(
            instance,
            scenes,
            list(request.items),
            repeat_acquisitions=request.repeat_acquisitions,
            on_twin=lambda scene, twin: notes.append(twin_note(scene, twin)),
        )
    source = request.family.load_source()
    return [source.parse(item).id for href in request.items for item in source.read(href, scenes.access.options)]


def process(
    request: AreaRequest,
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    home: Path,
    plan: Plan,
    console: Console,
) -> AreaResult:
    """Process planned scenes in worker processes, as a backfill, with a display of the progress.

    Args:
        request: family, number of workers, environment and verbosity.
        defs: the code location.
        instance: Dagster's instance.
        home: its folder.
        plan: scene -> its steps to run.
        console: receives the progress.

    Raises:
        DartsError: if a model cannot be used, or workers cannot be started.
    """
    segments = any("segmentation" in steps for steps in plan.values())
    if segments:  # a model that cannot be used fails all scenes
        models: Models = (defs.resources or {})["models"]
        models.check_suitable()
        models.descriptions  # noqa: B018 - reads the checkpoints
    ended = end_dead_runs(instance, logger)
    for reason in [*ended.ended.values(), *ended.undecided.values()][:_SHOWN]:
        _print(console, f"Interrupted earlier: {reason}")
    machine = capacity(len(plan), request.workers, segments=segments)
    at_once = f"{machine.workers} scene{'s' if machine.workers > 1 else ''} at a time ({machine.reason})"
    devices = f", on GPU {', '.join(machine.gpus)}" if machine.gpus else ""
    _print(console, f"Processing {at_once}{devices}.")
    run = AreaRun(
        instance, defs, (defs.resources or {})["scenes"], request.family, plan,
        title=f"{request.title}: {len(plan)} {request.family.name} scenes",
        environment={**(os.environ if request.environment is None else request.environment), "DAGSTER_HOME": str(home)},
        logs=home / _LOGS,
        log_level="DEBUG" if request.verbosity > 1 else "INFO",
        verbose=request.verbosity > 0,
    )  # fmt: skip
    display = ProgressDisplay(console, len(plan), sum(len(steps) for steps in plan.values()))
    return run.execute(machine, display)


def _export(request: AreaRequest, settings: Settings, ids: list[str], console: Console) -> bool:
    """Export the products of scenes; returns whether a scene could not be exported."""
    from darts_assets.catalog.scene_export import SceneSelection, export_scenes
    from darts_assets.stores.location import StoreLocation

    assert request.export
    target = StoreLocation(request.export, settings.store_endpoint, settings.store_region)
    done = export_scenes(settings.root, target, SceneSelection(ids, request.family.name))
    _print(console, f"{done.scenes} scenes exported to {target}")
    for scene, reason in list(done.failed.items())[:_SHOWN]:
        _print(console, f"  {scene}: {reason}")
    return bool(done.failed)


def _matches(discovered: DiscoveredScenes, ids: list[str], plan: Plan, request: AreaRequest) -> str:
    """How many scenes match, and how many of them are finished."""
    where = f" in part {request.shard}" if request.shard else ""
    count = len(ids)
    new = len(set(discovered.registered.new) & set(ids))
    text = f"{count} scene{'' if count == 1 else 's'} match{'es' if count == 1 else ''}{where}"
    if new:
        text += f", {new} {'would be' if request.dry_run else 'are'} new"
    text += f"; {count - len(plan)} finished, {len(plan)} to process."
    if twins := len(discovered.registered.twins):
        text += f" {twins} of another source are the same acquisitions and are left out (see --repeat-acquisitions)."
    unknown = ", ".join(f"{number} without {name}" for name, number in sorted(discovered.unknown_cover.items()))
    return f"{text} Left out because their cover is unknown: {unknown}." if unknown else text


def _planned(plan: Plan, request: AreaRequest, steps: tuple[str, ...]) -> str:
    """What would be processed, and how, in a few lines."""
    counts = Counter(step for missing in plan.values() for step in missing)
    segments = "segmentation" in counts
    machine = capacity(len(plan), request.workers, segments=segments)
    listed = ", ".join(f"{step} {counts[step]}" for step in steps if counts[step])
    return (
        f"Steps to run: {listed}.\n"
        f"{machine.workers} at a time ({machine.reason}). Nothing was registered or processed (--dry-run)."
    )


def _summarize(result: AreaResult, request: AreaRequest, settings: Settings, results: str, console: Console) -> None:
    """Print what has become of the scenes; reasons of failures come last."""
    objects = sum(figures.get("objects", 0) for figures in result.mapped.values())
    mapped = len(result.mapped)
    parts = [f"{mapped} scene{'' if mapped == 1 else 's'} mapped" + (f" with {objects} detections" if objects else "")]
    parts += [f"{len(result.failed)} failed"] if result.failed else []
    parts += [f"{len(result.elsewhere)} left to other runs"] if result.elsewhere else []
    parts += [f"{len(result.not_tried)} not processed"] if result.not_tried else []
    _print(console, f"\n{', '.join(parts)} in {duration(result.seconds)}.")
    if result.notes:
        _print(console, "Checks that failed (the results are kept):")
    for scene, notes in list(result.notes.items())[:_SHOWN]:
        _print(console, f"  {result.labels[scene]}: {'; '.join(notes)}")
    if (more := len(result.notes) - _SHOWN) > 0:
        _print(console, f"  and {more} more scenes, see the checks in Dagster")
    if result.mapped and request.through == "products":
        _print(console, f"Products: {_products(settings, request)}")
    _print(console, f"Results and timings per scene: {results}")
    _print(console, f"Backfill {result.backfill} in Dagster; logs: {result.logs}")
    if result.ended_by:
        _print(console, f"Ended early: {result.ended_by}. Run the command again: finished work is kept.")
    elif failures := write_failures(result):
        _print(console, f"Run the command again to repeat what failed ({failures} lists the scenes):")
    reasons = Counter(result.failed.values())
    for scene, reason in list(result.failed.items())[:_SHOWN]:
        same = reasons.pop(reason, 0)
        if same:
            others = f" (and {same - 1} more scenes)" if same > 1 else ""
            _print(console, f"  {_name(result.labels.get(scene, scene), scene)}{others}: {reason}")


def _products(settings: Settings, request: AreaRequest) -> str:
    return products_folder(settings.root, request.family.name).child("SCENE", LATEST).url


def _name(label: str, scene: str) -> str:
    return label if scene in label else f"{label} ({scene})"


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
