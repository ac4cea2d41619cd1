"""`auxiliary`: fills the chunks of the auxiliary cubes under a scene."""

from typing import Any

import dagster as dg

from darts_assets.features import AuxiliaryParameters
from darts_assets.orchestration.auxiliary.chunk_materializations import fill_and_record
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SceneFamily
from darts_assets.orchestration.core.pod_resources import POOLS
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain.model_guard import check_models
from darts_assets.settings_file import NO_FILE, SettingsFile

CODE_VERSION = "1"


class AuxiliaryConfig(StepConfig, AuxiliaryParameters):
    """The extent of the auxiliary data around the scene."""


def build_auxiliary(family: SceneFamily, file: SettingsFile = NO_FILE) -> dg.AssetsDefinition:
    """The asset `auxiliary` of a family."""

    @dg.asset(
        **family.asset("auxiliary"),
        kinds={"icechunk"},
        code_version=CODE_VERSION,
        pool=POOLS["arcticdem"],  # a step has one pool; the Earth Engine client waits when its own quota is exceeded
        # The chunks under a scene are determined at run time; Dagster can only map all of them or none. The edge to
        # the chunk assets shows lineage; automation must not follow it.
        deps=[
            family.key("raw_scene"),
            *(dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in CHUNK_KEYS.values()),
        ],
        description="Fills the cube chunks under the scene and records each of them.",
    )
    @measured
    @StepDefaults(family.name, file).configure("auxiliary")
    def auxiliary(
        context: dg.AssetExecutionContext,
        config: AuxiliaryConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> dg.MaterializeResult[None]:
        used: dict[str, Any] = {}
        with domain_call(context.log):
            check_models(context, family, models)
            scene = scenes.scene(family, context.partition_key)
            geobox = raw.geobox(family, scene)
            layers = cubes.layers_for(models.bands)
            context.log.info(f"{scene.id}: the models need {', '.join(layers) or 'no auxiliary layer'}")
            for layer in layers:
                cube, keys = cubes.chunks_under(layer, family, scene, geobox, config.tpi_outer_radius)
                if not keys:
                    context.log.warning(f"{cube.spec.name} does not cover {scene.id}: its features will be empty")
                    continue
                selection = {"scenes": [scene.id], "tpi_outer_radius": config.tpi_outer_radius}
                filled = fill_and_record(context, cubes, layer, cube, keys, selection)
                context.log.info(f"{cube.spec.name}: {len(keys)} chunks, {len(filled)} of them filled by this run")
                used[layer] = {
                    "cube": cube.spec.name, "snapshot": cube.snapshot(), "chunks": keys, "filled": len(filled)
                }  # fmt: skip
        facts = provenance(
            CODE_VERSION, config.model_dump(), **{layer: ",".join(use["chunks"]) for layer, use in used.items()}
        )
        return materialize_result(used, facts)

    return auxiliary
