"""Preparing data for a selection of scenes, optical and auxiliary, so that their chains need no network any more.

One step finds the scenes and registers those that are new, one for each batch of scenes fetches them, one finds the
chunks under them, one for each batch of chunks fills, one sums up: with the Kubernetes executor each batch is a pod of
its own. A scene or a chunk that cannot be had does not keep the others from being fetched; the last step names it.
"""

from collections.abc import Callable, Iterator
from functools import partial

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.resources import Models, SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.data_preparation.config import (
    DataConfig,
    PrepareDataConfig,
    PreparePlanetConfig,
    find_scenes_for,
)
from darts_assets.orchestration.data_preparation.ops import (
    FILL,
    VALUES,
    Value,
    choose_chunks_under,
    fetching,
    sum_up_data,
)
from darts_assets.orchestration.scene_discovery.discovery import FoundScenes
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders, find_images

_Plan = Iterator[dg.DynamicOutput[Value] | dg.Output[Value]]

_OUTPUTS: dict[str, dg.Out] = {
    "batches": dg.DynamicOut(dict, io_manager_key=VALUES),
    "plan": dg.Out(dict, io_manager_key=VALUES),
}


@dg.op(out=_OUTPUTS, description="Finds the scenes, registers those that are new, and divides them into batches.")
def choose_scenes(
    context: dg.OpExecutionContext,
    config: PrepareDataConfig,
    scenes: SceneRegistry,
    catalogs: SceneCatalogs,
    models: Models,
) -> _Plan:
    """The plan, and batches of neighbouring scenes."""
    yield from _plan(context, SENTINEL2, config, scenes, models, partial(find_scenes_for, config, catalogs=catalogs))


@dg.op(out=_OUTPUTS, description="Finds the images, registers those that are new, and divides them into batches.")
def choose_images(
    context: dg.OpExecutionContext,
    config: PreparePlanetConfig,
    scenes: SceneRegistry,
    deliveries: DeliveryFolders,
    models: Models,
) -> _Plan:
    """The plan, and batches of neighbouring images."""
    yield from _plan(context, PLANET, config, scenes, models, partial(find_images, config, deliveries=deliveries))


def _plan(
    context: dg.OpExecutionContext,
    family: SceneFamily,
    config: DataConfig,
    scenes: SceneRegistry,
    models: Models,
    find: Callable[..., FoundScenes],
) -> _Plan:
    with domain_call(context.log):
        _ = models.bands  # a checkpoint that cannot be used is refused before any scene is looked for
        found = find(instance=context.instance, scenes=scenes, dry_run=config.dry_run, log=context.log.info)
        context.log.info(found.sentence)
    ids = [] if config.dry_run else found.registered.scene_ids
    size = config.scenes_per_step
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    wanted = config.model_dump(
        include={"optical", "auxiliary", "bands", "force", "tpi_outer_radius", "chunks_per_step"}
    ) | {"family": family.name}
    for number, part in enumerate(parts, 1):
        batch = {**wanted, "scenes": part, "number": number, "of": len(parts)}
        yield dg.DynamicOutput(batch, mapping_key=f"scenes_{number:05d}", output_name="batches")
    plan = {**wanted, "result": found.sentence, "problems": found.problems}
    yield dg.Output(plan, "plan", metadata={**found.metadata(), "dry_run": config.dry_run})


def _job(family: SceneFamily, choose: dg.OpDefinition, description: str) -> dg.JobDefinition:
    fetch = fetching(family)

    @dg.job(name=family.prepare_job, description=description)
    def prepare() -> None:
        # One name in the config of all families.
        scene_batches, plan = choose.alias("choose_scenes")()
        fetched = scene_batches.map(fetch).collect()
        arcticdem, tcvis, chunk_plan = choose_chunks_under(plan, fetched)
        sum_up_data(
            plan,
            fetched,
            chunk_plan,
            arcticdem.map(FILL["arcticdem"]).collect(),
            tcvis.map(FILL["tcvis"]).collect(),
        )

    return prepare


prepare_data = _job(
    SENTINEL2, choose_scenes, "Fetches optical and auxiliary data of scenes, so that their chains run offline."
)
prepare_planet_data = _job(
    PLANET, choose_images, "Fetches Planet images and auxiliary data under them, so that their chains run offline."
)
