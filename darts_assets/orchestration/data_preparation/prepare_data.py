"""Jobs that fetch scenes and fill auxiliary chunks, so that the chains need no network afterwards.

The first step selects and registers, one step per batch fetches scenes or fills chunks, the last step summarizes. With
the Kubernetes executor each batch has its own pod. `prepare_auxiliary` fails at a failed batch; the jobs that prepare
scenes continue, and their last step lists all failures.
"""

from collections.abc import Callable
from functools import partial

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Models, SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.data_preparation.config import (
    DataConfig,
    PrepareDataConfig,
    PreparePlanetConfig,
    find_scenes_for,
)
from darts_assets.orchestration.data_preparation.ops import (
    BATCHES,
    VALUE,
    Outputs,
    choose_chunks_op,
    choose_chunks_under,
    fetch_op,
    fill_op,
    sum_up,
)
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders, find_images
from darts_assets.settings_file import NO_FILE, SettingsFile

_OUTPUTS: dict[str, dg.Out] = {"batches": BATCHES, "plan": VALUE}
_FILL = {layer: fill_op(f"fill_{layer}_chunks", layer, fails=True) for layer in AUXILIARY_LAYERS}
_FILL_UNDER_SCENES = {layer: fill_op(f"fill_{layer}_under_scenes", layer, fails=False) for layer in AUXILIARY_LAYERS}


def _choose_scenes_op(defaults: StepDefaults) -> dg.OpDefinition:
    @dg.op(
        out=_OUTPUTS,
        tags=op_tags("job"),
        description="Finds scenes, registers the new ones, and divides all into batches.",
    )
    @defaults.configure("prepare")
    def choose_scenes(
        context: dg.OpExecutionContext,
        config: PrepareDataConfig,
        scenes: SceneRegistry,
        catalogs: SceneCatalogs,
        models: Models,
    ) -> Outputs:
        """Batches of neighbouring scenes, and the plan."""
        yield from _plan(
            context, SENTINEL2, config, scenes, models, partial(find_scenes_for, config, catalogs=catalogs)
        )

    return choose_scenes


def _choose_images_op(defaults: StepDefaults) -> dg.OpDefinition:
    @dg.op(
        out=_OUTPUTS,
        tags=op_tags("job"),
        description="Finds Planet images, registers the new ones, and divides all into batches.",
    )
    @defaults.configure("prepare")
    def choose_images(
        context: dg.OpExecutionContext,
        config: PreparePlanetConfig,
        scenes: SceneRegistry,
        deliveries: DeliveryFolders,
        models: Models,
    ) -> Outputs:
        """Batches of neighbouring images, and the plan."""
        yield from _plan(context, PLANET, config, scenes, models, partial(find_images, config, deliveries=deliveries))

    return choose_images


def _plan(
    context: dg.OpExecutionContext,
    family: SceneFamily,
    config: DataConfig,
    scenes: SceneRegistry,
    models: Models,
    find: Callable[..., DiscoveredScenes],
) -> Outputs:
    with domain_call(context.log):
        _ = models.bands  # an unusable checkpoint fails the job before any search
        discovered = find(instance=context.instance, scenes=scenes, dry_run=config.dry_run, log=context.log.info)
        context.log.info(discovered.summary)
    ids = [] if config.dry_run else discovered.registered.scene_ids
    size = config.scenes_per_step
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    options = config.model_dump(
        include={"optical", "auxiliary", "bands", "force", "tpi_outer_radius", "chunks_per_step"}
    ) | {"family": family.name}
    for number, part in enumerate(parts, 1):
        batch = {**options, "scenes": part, "number": number, "of": len(parts)}
        yield dg.DynamicOutput(batch, mapping_key=f"scenes_{number:05d}", output_name="batches")
    plan = {**options, "result": discovered.summary, "problems": discovered.problems}
    yield dg.Output(plan, "plan", metadata={**discovered.metadata(), "dry_run": config.dry_run})


def _scenes_job(family: SceneFamily, choose: dg.OpDefinition, description: str) -> dg.JobDefinition:
    fetch = fetch_op(family)

    @dg.job(name=family.prepare_job, description=description)
    def prepare() -> None:
        # All families have the same op name in their run config.
        scene_batches, plan = choose.alias("choose_scenes")()
        fetched = scene_batches.map(fetch).collect()
        arcticdem, tcvis, chunk_plan = choose_chunks_under(plan, fetched)
        sum_up.alias("sum_up_data")(
            chunk_plan,
            arcticdem.map(_FILL_UNDER_SCENES["arcticdem"]).collect(),
            tcvis.map(_FILL_UNDER_SCENES["tcvis"]).collect(),
            scene_plan=plan,
            fetched=fetched,
        )

    return prepare


def build_prepare_jobs(file: SettingsFile = NO_FILE) -> list[dg.JobDefinition]:
    """`prepare_data`, `prepare_planet_data` and `prepare_auxiliary`; parameters in `file` are defaults of their config.

    Raises:
        SettingsError: for unknown parameters and invalid values in the file.
    """
    sentinel2, planet = StepDefaults(SENTINEL2.name, file), StepDefaults(PLANET.name, file)
    choose_chunks = choose_chunks_op(sentinel2)

    @dg.job(description="Registers and fills the auxiliary chunks under an area (AOI), under scenes, or given by key.")
    def prepare_auxiliary() -> None:
        """Prepare auxiliary data."""
        arcticdem, tcvis, plan = choose_chunks()
        sum_up(plan, arcticdem.map(_FILL["arcticdem"]).collect(), tcvis.map(_FILL["tcvis"]).collect())

    return [
        _scenes_job(
            SENTINEL2,
            _choose_scenes_op(sentinel2),
            "Fetches Sentinel-2 scenes and fills the auxiliary chunks under them, so that their chains run offline.",
        ),
        _scenes_job(
            PLANET,
            _choose_images_op(planet),
            "Fetches Planet images and fills the auxiliary chunks under them, so that their chains run offline.",
        ),
        prepare_auxiliary,
    ]
