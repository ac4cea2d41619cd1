"""Auxiliary layers: the chunk assets, and `auxiliary`, which makes sure that the chunks under a scene are filled."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import AuxiliaryLayer
from darts_assets.orchestration.compute import ARCTICDEM_POOL
from darts_assets.orchestration.metadata import as_metadata, domain_call, provenance
from darts_assets.orchestration.partitions import OWNER, SceneFamily, arcticdem_chunks, tcvis_chunks
from darts_assets.orchestration.resources import AuxiliaryCubes, Models, RawScenes, SceneRegistry

if TYPE_CHECKING:
    from darts_assets.cubes import FilledChunk

CODE_VERSION = "1"
CHUNK_KEYS: dict[AuxiliaryLayer, dg.AssetKey] = {
    "arcticdem": dg.AssetKey(["aux", "arcticdem_chunk"]),
    "tcvis": dg.AssetKey(["aux", "tcvis_chunk"]),
}
_PARTITIONS = {"arcticdem": arcticdem_chunks, "tcvis": tcvis_chunks}


class AuxiliaryConfig(dg.Config):
    """What the scene's chunks must cover.

    Attributes:
        tpi_outer_radius: metres; the radius that `preprocessed_tile` will use.
    """

    tpi_outer_radius: float = 100.0


def _chunk_facts(filled: "FilledChunk") -> dict[str, Any]:
    return {
        "sources": list(filled.sources),
        "fill_fraction": filled.fill_fraction,
        "bytes": filled.bytes,
        "seconds": round(filled.seconds, 2),
    }


def _materialize_chunk(
    context: dg.AssetExecutionContext, cubes: AuxiliaryCubes, layer: AuxiliaryLayer
) -> dg.MaterializeResult[None]:
    key = context.partition_key
    with domain_call(context.log):
        cube = cubes.cube_of_chunk(layer, key)
        filled = cubes.fill(layer, cube, [key], context.run_id)
        if not filled:
            context.log.info(f"{cube.spec.name}: chunk {key} is filled already")
    facts = _chunk_facts(filled[0]) if filled else {"already_filled": True}
    return dg.MaterializeResult(metadata=as_metadata({"cube": cube.spec.name, "snapshot": cube.snapshot(), **facts}))


@dg.asset(
    key=CHUNK_KEYS["arcticdem"],
    partitions_def=arcticdem_chunks,
    group_name="auxiliary_chunks",
    kinds={"icechunk"},
    owners=[OWNER],
    code_version=CODE_VERSION,
    pool=ARCTICDEM_POOL,
    description="One chunk of an ArcticDEM cube, such as `10m-r0123-c0456`: elevation and data mask, EPSG:3413.",
)
def arcticdem_chunk(context: dg.AssetExecutionContext, cubes: AuxiliaryCubes) -> dg.MaterializeResult[None]:
    """One chunk of an ArcticDEM cube."""
    return _materialize_chunk(context, cubes, "arcticdem")


@dg.asset(
    key=CHUNK_KEYS["tcvis"],
    partitions_def=tcvis_chunks,
    group_name="auxiliary_chunks",
    kinds={"icechunk"},
    owners=[OWNER],
    code_version=CODE_VERSION,
    description="One chunk of a TCVIS cube, such as `2024-r0123-c0456`: tasselled cap trends, EPSG:4326.",
)
def tcvis_chunk(context: dg.AssetExecutionContext, cubes: AuxiliaryCubes) -> dg.MaterializeResult[None]:
    """One chunk of a TCVIS cube."""
    return _materialize_chunk(context, cubes, "tcvis")


def _record(
    context: dg.AssetExecutionContext, layer: AuxiliaryLayer, keys: Sequence[str], filled: "Sequence[FilledChunk]"
) -> None:
    """Make the chunks' own partition status true: those filled now, and those that an interrupted run left unsaid."""
    asset, partitions = CHUNK_KEYS[layer], _PARTITIONS[layer]
    facts = {chunk.key: _chunk_facts(chunk) for chunk in filled}
    recorded = context.instance.get_materialized_partitions(asset)
    unsaid = [key for key in keys if key in facts or key not in recorded]
    if not unsaid:
        return
    context.instance.add_dynamic_partitions(str(partitions.name), unsaid)
    for key in unsaid:
        metadata = as_metadata(facts.get(key, {"already_filled": True}))
        context.log_event(dg.AssetMaterialization(asset_key=asset, partition=key, metadata=metadata))


def build_auxiliary(family: SceneFamily) -> dg.AssetsDefinition:
    """The auxiliary layers under a scene of a family."""

    @dg.asset(
        **family.asset("auxiliary"),
        kinds={"icechunk"},
        code_version=CODE_VERSION,
        pool=ARCTICDEM_POOL,
        # A scene needs a few chunks of thousands and Dagster can map only all of them or none: which ones is decided
        # at run time. The edge to the chunk assets is lineage for people; automation must not follow it.
        deps=[
            family.key("raw_scene"),
            *(dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in CHUNK_KEYS.values()),
        ],
        description="Makes sure that exactly the cube chunks under the scene are filled, and records each of them.",
    )
    def auxiliary(
        context: dg.AssetExecutionContext,
        config: AuxiliaryConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> dg.MaterializeResult[None]:
        started = time.perf_counter()
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
                filled = cubes.fill(layer, cube, keys, context.run_id)
                _record(context, layer, keys, filled)
                context.log.info(f"{cube.spec.name}: {len(filled)} of {len(keys)} chunks filled, the rest was there")
                used[layer] = {
                    "cube": cube.spec.name, "snapshot": cube.snapshot(), "chunks": keys, "filled": len(filled)
                }  # fmt: skip
        facts = provenance(
            CODE_VERSION, config.model_dump(), **{layer: ",".join(use["chunks"]) for layer, use in used.items()}
        )
        metadata = {**used, "seconds": round(time.perf_counter() - started, 2), "provenance": facts}
        return dg.MaterializeResult(metadata=as_metadata(metadata), data_version=dg.DataVersion(facts["data_version"]))

    return auxiliary
