"""`auxiliary`: makes sure that the chunks under a scene are filled."""

from typing import Any

import dagster as dg

from darts_assets.orchestration.auxiliary.chunk_materializations import fill_and_record
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SceneFamily
from darts_assets.orchestration.core.pod_resources import POOLS
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured

CODE_VERSION = "1"


class AuxiliaryConfig(dg.Config):
    """What the scene's chunks must cover.

    Attributes:
        tpi_outer_radius: metres; the radius that `preprocessed_tile` will use.
    """

    tpi_outer_radius: float = 100.0


def build_auxiliary(family: SceneFamily) -> dg.AssetsDefinition:
    """The auxiliary layers under a scene of a family."""

    @dg.asset(
        **family.asset("auxiliary"),
        kinds={"icechunk"},
        code_version=CODE_VERSION,
        pool=POOLS["arcticdem"],  # a step is in one pool; Earth Engine's client waits where its own quota is exceeded
        # A scene needs a few chunks of thousands and Dagster can map only all of them or none: which ones is decided
        # at run time. The edge to the chunk assets is lineage for people; automation must not follow it.
        deps=[
            family.key("raw_scene"),
            *(dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in CHUNK_KEYS.values()),
        ],
        description="Makes sure that exactly the cube chunks under the scene are filled, and records each of them.",
    )
    @measured
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
            scene = scenes.scene(family, context.partition_key)
            geobox = raw.geobox(family, scene)
            layers = cubes.layers_for(models.bands)
            context.log.info(f"{scene.id}: the models need {', '.join(layers) or 'no auxiliary layer'}")
            for layer in layers:
                cube, keys = cubes.chunks_under(layer, family, scene, geobox, config.tpi_outer_radius)
                if not keys:
                    context.log.warning(f"{cube.spec.name} does not cover {scene.id}: its features will be empty")
                    continue
                choice = {"scenes": [scene.id], "tpi_outer_radius": config.tpi_outer_radius}
                filled = fill_and_record(context, cubes, layer, cube, keys, choice)
                context.log.info(f"{cube.spec.name}: {len(filled)} of {len(keys)} chunks filled, the rest was there")
                used[layer] = {
                    "cube": cube.spec.name, "snapshot": cube.snapshot(), "chunks": keys, "filled": len(filled)
                }  # fmt: skip
        facts = provenance(
            CODE_VERSION, config.model_dump(), **{layer: ",".join(use["chunks"]) for layer, use in used.items()}
        )
        metadata = {**used, "provenance": facts}
        return dg.MaterializeResult(metadata=as_metadata(metadata), data_version=dg.DataVersion(facts["data_version"]))

    return auxiliary
