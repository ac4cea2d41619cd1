"""Ops of the jobs that prepare data: fetch scenes, select chunks, fill them, summarize."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import MissingChunksError
from darts_assets.orchestration.auxiliary.chunk_materializations import (
    coverage_map,
    fill_and_record,
    register_chunks,
    unrecorded,
)
from darts_assets.orchestration.auxiliary.chunk_selection import (
    CubeChunks,
    PrepareAuxiliaryConfig,
    batches,
    chunks_under_scenes,
    select_chunks,
)
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.dagster_compat import data_version_tags
from darts_assets.orchestration.core.dynamic_partitions import materialized
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.io_managers import forget_values
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.multi_partition import Failures, recorded_by
from darts_assets.orchestration.core.partitions import FAMILIES, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.pod_resources import POOLS, op_tags
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.core.step_metrics import Meter, with_costs
from darts_assets.orchestration.scene_chain.raw_scene import CODE_VERSION, RawSceneConfig, keep_raw_scene

Value = dict[str, Any]
Outputs = Iterator[dg.DynamicOutput[Value] | dg.Output[Value]]

VALUE = dg.Out(dict, io_manager_key="step_values")
BATCHES = dg.DynamicOut(dict, io_manager_key="step_values")
_CHUNK_BATCHES: dict[str, dg.Out] = dict.fromkeys(AUXILIARY_LAYERS, BATCHES)


def fetch_op(family: SceneFamily) -> dg.OpDefinition:
    """The op that fetches a batch of scenes of a family."""

    @dg.op(
        name="fetch_scenes" if family is SENTINEL2 else f"fetch_{family.name}_scenes",
        pool=family.pool,
        out=VALUE,
        description="Fetches a batch of scenes and records each of them.",
    )
    def fetch(
        context: dg.OpExecutionContext, batch: Value, scenes: SceneRegistry, raw: RawScenes, models: Models
    ) -> Value:
        """Ids of the available scenes, the number of fetched ones, and the failures by id."""
        available: list[str] = []
        fetched = 0
        asset = family.key("raw_scene")
        recorded = materialized(context.instance, asset, batch["scenes"])
        failures = Failures(context)
        context.log.info(f"{len(batch['scenes'])} scenes, batch {batch['number']} of {batch['of']}")
        for scene_id in batch["scenes"]:
            with failures.of(scene_id):
                if batch["optical"]:
                    # A retry of this step does not repeat the forced fetches of its first attempt.
                    force = batch["force"] and recorded_by(context.instance, asset, scene_id) != context.run_id
                    config = RawSceneConfig(bands=batch["bands"], force=force)
                    fetched += _fetch_and_record(
                        context, family, scene_id, config,
                        scenes=scenes, raw=raw, needed=models.bands, recorded=recorded,
                    )  # fmt: skip
                available.append(scene_id)
        failures.retry_transient()
        return _reported(context, {"scenes": available, "fetched": fetched, "failed": failures.messages})

    return fetch


def _fetch_and_record(
    context: dg.OpExecutionContext,
    family: SceneFamily,
    scene_id: str,
    config: RawSceneConfig,
    *,
    scenes: SceneRegistry,
    raw: RawScenes,
    needed: Collection[str],
    recorded: Collection[str],
) -> bool:
    """Fetch the missing bands of a registered scene and record its materialization, as its own run would.

    Args:
        context: the op's context.
        family: the scene's family.
        scene_id: the scene's id.
        config: as of the asset `raw_scene`.
        scenes: the registry of scenes.
        raw: the store of raw scenes.
        needed: canonical names of the bands that the models need.
        recorded: materialized scenes; they are recorded again only if bands were fetched.

    Returns:
        Whether any band was fetched.

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: from the scene's source.
    """
    meter = Meter()
    scene = scenes.scene(family, scene_id)
    kept = keep_raw_scene(family, scene, config, raw=raw, needed=needed, log=context.log.info)
    if kept.fetched or (raw.enabled and scene_id not in recorded):
        tags = data_version_tags(kept.data_version, CODE_VERSION)
        facts = with_costs(as_metadata(kept.metadata), meter, config)
        context.log_event(
            dg.AssetMaterialization(family.key("raw_scene"), partition=scene_id, metadata=facts, tags=tags)
        )
    return bool(kept.fetched)


def choose_chunks_op(defaults: StepDefaults) -> dg.OpDefinition:
    """The op that selects chunks; `defaults` are those of its config."""

    @dg.op(
        out={**_CHUNK_BATCHES, "plan": VALUE},
        tags=op_tags("job"),
        description="Selects the chunks, registers them, and divides the missing ones into batches.",
    )
    @defaults.configure("prepare")
    def choose_chunks(
        context: dg.OpExecutionContext,
        config: PrepareAuxiliaryConfig,
        cubes: AuxiliaryCubes,
        models: Models,
        scenes: SceneRegistry,
        raw: RawScenes,
    ) -> Outputs:
        """Batches of chunks to fill by layer, and the number of needed, filled and missing chunks by cube."""
        with domain_call(context.log):
            selected = select_chunks(config, cubes=cubes, models=models, scenes=scenes, raw=raw)
            plan = _counts(context, selected)
            missing = next((chunks for chunks in selected if chunks.missing), None)
            if missing and cubes.offline and not config.dry_run:
                raise MissingChunksError(missing.cube.spec.name, missing.missing, "Nothing is fetched (DARTS_OFFLINE).")
            work = [] if config.dry_run else _chunk_batches(context, selected, config.chunks_per_step)
        yield from work
        metadata: dict[str, Any] = {"chunks": _table(plan), "dry_run": config.dry_run}
        yield dg.Output({"cubes": plan, "failed": {}}, "plan", metadata=metadata)

    return choose_chunks


@dg.op(
    out={**_CHUNK_BATCHES, "chunk_plan": VALUE},
    tags=op_tags("job"),
    description="Selects the chunks under the scenes, registers them, and divides the missing ones into batches.",
)
def choose_chunks_under(
    context: dg.OpExecutionContext,
    plan: Value,
    fetched: list[Value],
    cubes: AuxiliaryCubes,
    models: Models,
    scenes: SceneRegistry,
    raw: RawScenes,
) -> Outputs:
    """Batches of chunks to fill by layer, the number of chunks by cube, and the failures by scene id."""
    failures = Failures(context)
    with domain_call(context.log):
        layers = cubes.layers_for(models.bands) if plan["auxiliary"] else ()
    if not layers:
        context.log.info("no chunks to fill: auxiliary is off, or the models need none of the configured layers")
    selected = chunks_under_scenes(
        (scene_id for batch in fetched for scene_id in batch["scenes"] if layers),
        layers, plan["tpi_outer_radius"], cubes=cubes, scenes=scenes, raw=raw,
        family=FAMILIES[plan["family"]], guard=failures.of,
    )  # fmt: skip
    with domain_call(context.log):
        selected = [chunks for chunks in selected if chunks.keys]
        counts = _counts(context, selected)
        work = _chunk_batches(context, selected, plan["chunks_per_step"])
    yield from work
    yield dg.Output({"cubes": counts, "failed": failures.messages}, "chunk_plan")


def _counts(context: dg.OpExecutionContext, selected: Sequence[CubeChunks]) -> Value:
    counts: Value = {}
    for chunks in selected:
        name, needed, missing = chunks.cube.spec.name, len(chunks.keys), len(chunks.missing)
        counts[name] = {"layer": chunks.layer, "needed": needed, "filled": needed - missing, "missing": missing}
        context.log.info(f"{name}: {needed} chunks needed, {needed - missing} filled, {missing} missing")
    return counts


def _chunk_batches(
    context: dg.OpExecutionContext, selected: Sequence[CubeChunks], size: int
) -> list[dg.DynamicOutput[Value]]:
    """Register chunks, and divide those that are missing or unrecorded into batches for the fill ops."""
    work: list[tuple[CubeChunks, list[str]]] = []
    for chunks in selected:
        register_chunks(context.instance, chunks.layer, chunks.keys)
        keys = sorted({*chunks.missing, *unrecorded(context.instance, chunks.layer, chunks.keys)})
        work += [(chunks, batch) for batch in batches(chunks.cube.spec.grid, keys, size)]
    return [
        dg.DynamicOutput(
            {"cube": chunks.cube.spec.name, "keys": keys, "number": number, "of": len(work)},
            mapping_key=f"{chunks.cube.spec.name}_{number:04d}",
            output_name=chunks.layer,
        )
        for number, (chunks, keys) in enumerate(work, 1)
    ]


def fill_op(name: str, layer: AuxiliaryLayer, *, fails: bool) -> dg.OpDefinition:
    """The op that fills a batch of chunks; if not `fails`, it returns failures for the summary instead."""

    @dg.op(
        name=name,
        pool=POOLS[layer],
        out=VALUE,
        description="Fills a batch of neighbouring chunks and records each of them.",
    )
    def fill(context: dg.OpExecutionContext, batch: Value, cubes: AuxiliaryCubes) -> Value:
        result: Value = {"cube": batch["cube"], "filled": 0, "bytes": 0, "seconds": 0.0}
        failures = Failures(context)
        context.log.info(f"{batch['cube']}: {len(batch['keys'])} chunks, batch {batch['number']} of {batch['of']}")
        with failures.of(f"chunks of {batch['cube']}"):
            filled = fill_and_record(context, cubes, layer, cubes.cube_named(batch["cube"]), batch["keys"])
            result |= {"filled": len(filled), "bytes": sum(chunk.bytes for chunk in filled)}
            result["seconds"] = round(sum(chunk.seconds for chunk in filled), 2)
        if fails:
            failures.end()
        failures.retry_transient()
        return _reported(context, {**result, "failed": failures.messages})

    return fill


@dg.op(
    ins={"scene_plan": dg.In(dict, default_value={}), "fetched": dg.In(list, default_value=[])},
    out=dg.Out(dg.Nothing),
    tags=op_tags("job"),
    description="Reports totals and a coverage map of each cube; fails if a scene or chunk is not available.",
)
def sum_up(
    context: dg.OpExecutionContext,
    chunk_plan: Value,
    arcticdem: list[Value],
    tcvis: list[Value],
    scene_plan: Value,
    fetched: list[Value],
    cubes: AuxiliaryCubes,
    store: Store,
) -> None:
    """Totals by cube, and of the scenes if the job prepares scenes."""
    filled = [*arcticdem, *tcvis]
    metadata: Value = {}
    failed: dict[str, str] = {}
    if scene_plan:
        ready, new = sum(len(batch["scenes"]) for batch in fetched), sum(batch["fetched"] for batch in fetched)
        metadata |= {"scenes": scene_plan["result"], "ready": ready, "fetched": new}
        context.log.info(f"{ready} scenes are available, {new} of them fetched by this run")
    with domain_call(context.log):
        for name, counts in chunk_plan["cubes"].items():
            batches_of_cube = [batch for batch in filled if batch["cube"] == name]
            for unit in ("filled", "bytes", "seconds"):
                counts[f"{unit}_now"] = round(sum(batch[unit] for batch in batches_of_cube), 2)
            context.log.info(
                f"{name}: {counts['filled_now']} of {counts['missing']} missing chunks filled, "
                f"{counts['bytes_now'] / 1e6:.1f} MB"
            )
            metadata[f"coverage_{name}"] = coverage_map(context.instance, counts["layer"], cubes.cube_named(name))
        if chunk_plan["cubes"]:
            metadata["chunks"] = _table(chunk_plan["cubes"])
        # The values of failed runs that this run re-executes are not needed any more either.
        for run_id in {context.run_id, context.run.parent_run_id, context.run.root_run_id} - {None}:
            forget_values(store, str(run_id))
    for result in (*fetched, chunk_plan, *filled):
        for name, reason in result["failed"].items():
            failed[name] = f"{failed[name]}; {reason}" if name in failed else reason
    problems = [*scene_plan.get("problems", []), *(f"{name}: {reason}" for name, reason in failed.items())]
    if problems:
        advice = "All other data are available; run the same command again to fetch what is missing."
        metadata["failed"] = failed
        raise dg.Failure(f"{'; '.join(problems)}. {advice}", metadata=as_metadata(metadata), allow_retries=False)
    context.add_output_metadata(as_metadata(metadata))


def _reported(context: dg.OpExecutionContext, result: Value) -> Value:
    context.add_output_metadata(as_metadata(result))
    return result


def _table(counts: Value) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord({"cube": name, **facts}) for name, facts in counts.items()])
