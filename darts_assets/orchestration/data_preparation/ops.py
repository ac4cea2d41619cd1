"""The steps that prepare data have in common, whatever family the scenes are of: fetching, chunks, summing up."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.orchestration.auxiliary.chunk_materializations import (
    coverage_map,
    fill_and_record,
    register_chunks,
    unrecorded,
)
from darts_assets.orchestration.auxiliary.chunk_selection import ChosenChunks, batches, dynamic_outputs
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.dynamic_partitions import materialized
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.io_managers import forget_values
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.multi_partition import Failures, recorded_by
from darts_assets.orchestration.core.partitions import FAMILIES, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.pod_resources import POOLS
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.data_preparation.record_raw_scene import fetch_and_record
from darts_assets.orchestration.scene_chain.raw_scene import RawSceneConfig

VALUES = "step_values"
Value = dict[str, Any]

_CHUNK_OUTPUTS: dict[str, dg.Out] = {
    **{layer: dg.DynamicOut(dict, io_manager_key=VALUES) for layer in AUXILIARY_LAYERS},
    "chunk_plan": dg.Out(dict, io_manager_key=VALUES),
}


def fetching(family: SceneFamily) -> dg.OpDefinition:
    """The step that fetches a batch of scenes of a family."""

    @dg.op(
        name="fetch_scenes" if family is SENTINEL2 else f"fetch_{family.name}_scenes",
        pool=family.pool,
        out=dg.Out(dict, io_manager_key=VALUES),
        description="Fetches a batch of scenes and records each of them.",
    )
    def fetch(
        context: dg.OpExecutionContext, batch: Value, scenes: SceneRegistry, raw: RawScenes, models: Models
    ) -> Value:
        """The scenes that are ready for their chunks, and what failed."""
        said: Value = {"scenes": [], "fetched": 0, "failed": {}}
        recorded = materialized(context.instance, family.key("raw_scene"), batch["scenes"])
        failures = Failures(context)
        context.log.info(f"{len(batch['scenes'])} scenes, batch {batch['number']} of {batch['of']}")
        for scene_id in batch["scenes"]:
            with failures.of(scene_id):
                if batch["optical"]:
                    # What an earlier attempt at this step has fetched is not fetched again.
                    last = recorded_by(context.instance, family.key("raw_scene"), scene_id) if batch["force"] else None
                    force = batch["force"] and last != context.run_id
                    config = RawSceneConfig(bands=batch["bands"], force=force)
                    fetched = fetch_and_record(
                        context, family, scene_id, config,
                        scenes=scenes, raw=raw, needed=models.bands, recorded=recorded,
                    )  # fmt: skip
                    said["fetched"] += bool(fetched)
                said["scenes"].append(scene_id)
        failures.retry_transient()
        said["failed"] = failures.messages
        context.add_output_metadata(as_metadata(said))
        return said

    return fetch


@dg.op(
    out=_CHUNK_OUTPUTS,
    description="Finds the chunks under the scenes, registers them, and divides what is missing into batches.",
)
def choose_chunks_under(
    context: dg.OpExecutionContext,
    plan: Value,
    fetched: list[Value],
    cubes: AuxiliaryCubes,
    models: Models,
    scenes: SceneRegistry,
    raw: RawScenes,
) -> Iterator[dg.DynamicOutput[Value] | dg.Output[Value]]:
    """Batches of chunks to fill by layer, and how many are needed and missing by cube."""
    failures = Failures(context)
    facts: Value = {"cubes": {}, "failed": failures.messages}
    work: list[tuple[ChosenChunks, list[str]]] = []
    ids = [scene_id for batch in fetched for scene_id in batch["scenes"]]
    with domain_call(context.log):
        layers = cubes.layers_for(models.bands) if plan["auxiliary"] else ()
    if not layers:
        context.log.info("no auxiliary layer is asked for, or the models need none that is in use")
    family = FAMILIES[plan["family"]]
    by_cube: dict[str, ChosenChunks] = {}
    for scene_id in ids if layers else []:
        with failures.of(scene_id):
            scene = scenes.scene(family, scene_id)
            grid = raw.grid(family, scene)
            for layer in layers:
                cube, keys = cubes.chunks_under(layer, family, scene, grid, plan["tpi_outer_radius"])
                if not keys:
                    context.log.warning(f"{cube.spec.name} does not cover {scene_id}: its features will be empty")
                    continue
                known = by_cube.setdefault(cube.spec.name, ChosenChunks(layer, cube, []))
                known.keys.extend(set(keys) - set(known.keys))
    with domain_call(context.log):
        for name, chosen in by_cube.items():
            missing = chosen.cube.missing(chosen.keys)
            facts["cubes"][name] = {"layer": chosen.layer, "needed": len(chosen.keys), "missing": len(missing)}
            context.log.info(f"{name}: {len(chosen.keys)} chunks are needed, {len(missing)} are missing")
            register_chunks(context.instance, chosen.layer, chosen.keys)
            todo = sorted({*missing, *unrecorded(context.instance, chosen.layer, chosen.keys)})
            work += [(chosen, part) for part in batches(chosen.cube.spec.grid, todo, plan["chunks_per_step"])]
    yield from dynamic_outputs(work)
    yield dg.Output(facts, "chunk_plan")


def _filling(layer: AuxiliaryLayer) -> dg.OpDefinition:
    @dg.op(
        name=f"fill_{layer}_under_scenes",
        pool=POOLS[layer],
        out=dg.Out(dict, io_manager_key=VALUES),
        description="Fills a batch of neighbouring chunks and records each of them.",
    )
    def fill(context: dg.OpExecutionContext, batch: Value, cubes: AuxiliaryCubes) -> Value:
        said: Value = {"cube": batch["cube"], "filled": 0, "bytes": 0, "failed": {}}
        failures = Failures(context)
        context.log.info(f"{batch['cube']}: {len(batch['keys'])} chunks, batch {batch['number']} of {batch['of']}")
        with failures.of(f"chunks of {batch['cube']}"):
            filled = fill_and_record(context, cubes, layer, cubes.cube_named(batch["cube"]), batch["keys"])
            said |= {"filled": len(filled), "bytes": sum(chunk.bytes for chunk in filled)}
        failures.retry_transient()
        said["failed"] = failures.messages
        context.add_output_metadata(as_metadata(said))
        return said

    return fill


@dg.op(out=dg.Out(dg.Nothing), description="Sums up, with maps of the cubes; names what could not be had.")
def sum_up_data(
    context: dg.OpExecutionContext,
    plan: Value,
    fetched: list[Value],
    chunk_plan: Value,
    arcticdem: list[Value],
    tcvis: list[Value],
    cubes: AuxiliaryCubes,
    store: Store,
) -> None:
    """Totals; fails if something failed."""
    filled = [*arcticdem, *tcvis]
    metadata: Value = {
        "scenes": plan["result"],
        "ready": sum(len(batch["scenes"]) for batch in fetched),
        "fetched": sum(batch["fetched"] for batch in fetched),
    }
    with domain_call(context.log):
        for name, facts in chunk_plan["cubes"].items():
            now = sum(batch["filled"] for batch in filled if batch["cube"] == name)
            metadata[name] = {**facts, "filled_now": now}
            metadata[f"coverage_{name}"] = coverage_map(context.instance, facts["layer"], cubes.cube_named(name))
        for run_id in {context.run_id, context.run.parent_run_id, context.run.root_run_id} - {None}:
            forget_values(store, str(run_id))
    failed: dict[str, str] = {}
    outcomes: list[Value] = [*fetched, chunk_plan, *filled]
    for batch in outcomes:
        for name, sentence in batch["failed"].items():
            failed[name] = f"{failed[name]}; {sentence}" if name in failed else sentence
    context.log.info(f"{metadata['ready']} scenes are ready, {metadata['fetched']} of them were fetched now")
    if failed or plan["problems"]:
        said = [*plan["problems"], *(f"{name}: {sentence}" for name, sentence in failed.items())]
        advice = "Everything else is there; the same command fetches what is missing."
        metadata["failed"] = failed
        raise dg.Failure("; ".join(said) + f". {advice}", metadata=as_metadata(metadata), allow_retries=False)
    context.add_output_metadata(as_metadata(metadata))


FILL = {layer: _filling(layer) for layer in AUXILIARY_LAYERS}
