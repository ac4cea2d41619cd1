"""Preparing auxiliary data: chunks under an area or scenes are registered and filled, before scenes need them.

One step chooses, one step for each batch of neighbouring chunks fills, one sums up: with the Kubernetes executor each
batch is a pod of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import MissingChunksError, SettingsError
from darts_assets.orchestration.auxiliary.chunk_materializations import (
    coverage_map,
    fill_and_record,
    register_chunks,
    unrecorded,
)
from darts_assets.orchestration.auxiliary.chunk_selection import (
    ChosenChunks,
    ChunkChoice,
    batches,
    choose,
    dynamic_outputs,
)
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.io_managers import forget_values
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import CHUNKS_PER_RUN, POOLS
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry

_VALUES = "step_values"
_OUTPUTS: dict[str, dg.Out] = {
    **{layer: dg.DynamicOut(dict, io_manager_key=_VALUES) for layer in AUXILIARY_LAYERS},
    "plan": dg.Out(dict, io_manager_key=_VALUES),
}


class PrepareConfig(ChunkChoice):
    """Which chunks, and how."""

    dry_run: bool = Field(
        default=False, description="Only say how many chunks are needed, filled and missing; nothing is fetched."
    )
    chunks_per_step: int = Field(default=CHUNKS_PER_RUN, description="Chunks that one step fills.")

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SettingsError: naming the fields.
        """
        super().check()
        if self.chunks_per_step < 1:
            raise SettingsError(f"chunks_per_step: {self.chunks_per_step}; expected at least 1")


@dg.op(
    out=_OUTPUTS,
    description="Finds the chunks, registers their partitions, and divides what is missing into batches.",
)
def choose_chunks(
    context: dg.OpExecutionContext,
    config: PrepareConfig,
    cubes: AuxiliaryCubes,
    models: Models,
    scenes: SceneRegistry,
    raw: RawScenes,
) -> Iterator[dg.DynamicOutput[dict[str, Any]] | dg.Output[dict[str, Any]]]:
    """The plan (what is needed and what is there), and batches of chunks to fill by layer."""
    plan: dict[str, Any] = {}
    work: list[tuple[ChosenChunks, list[str]]] = []
    with domain_call(context.log):
        for chosen in choose(config, cubes=cubes, models=models, scenes=scenes, raw=raw):
            name = chosen.cube.spec.name
            missing = chosen.cube.missing(chosen.keys)
            needed, filled = len(chosen.keys), len(chosen.keys) - len(missing)
            plan[name] = {"layer": chosen.layer, "needed": needed, "filled": filled, "missing": len(missing)}
            context.log.info(f"{name}: {needed} chunks are needed, {filled} are filled, {len(missing)} are missing")
            if config.dry_run:
                continue
            if cubes.offline and missing:
                raise MissingChunksError(name, missing, "Offline (DARTS_OFFLINE), nothing is fetched.")
            register_chunks(context.instance, chosen.layer, chosen.keys)
            unsaid = {*missing, *unrecorded(context.instance, chosen.layer, chosen.keys)}
            todo = [key for key in chosen.keys if key in unsaid]
            work += [(chosen, batch) for batch in batches(chosen.cube.spec.grid, todo, config.chunks_per_step)]
    yield from dynamic_outputs(work)
    yield dg.Output(plan, "plan", metadata={"chunks": _table(plan), "dry_run": config.dry_run})


def _filling(layer: AuxiliaryLayer) -> dg.OpDefinition:
    @dg.op(
        name=f"fill_{layer}_chunks",
        pool=POOLS[layer],
        out=dg.Out(dict, io_manager_key=_VALUES),
        description="Fills a batch of neighbouring chunks and records each of them.",
    )
    def fill(context: dg.OpExecutionContext, batch: dict[str, Any], cubes: AuxiliaryCubes) -> dict[str, Any]:
        context.log.info(f"{batch['cube']}: {len(batch['keys'])} chunks, batch {batch['number']} of {batch['of']}")
        with domain_call(context.log):
            filled = fill_and_record(context, cubes, layer, cubes.cube_named(batch["cube"]), batch["keys"])
        said = {
            "cube": batch["cube"],
            "filled": len(filled),
            "bytes": sum(chunk.bytes for chunk in filled),
            "seconds": round(sum(chunk.seconds for chunk in filled), 2),
        }
        context.add_output_metadata(as_metadata(said))
        return said

    return fill


@dg.op(out=dg.Out(dg.Nothing), description="Sums up, with a map of what each cube holds now.")
def sum_up(
    context: dg.OpExecutionContext,
    plan: dict[str, Any],
    arcticdem: list[dict[str, Any]],
    tcvis: list[dict[str, Any]],
    cubes: AuxiliaryCubes,
    store: Store,
) -> None:
    """Totals by cube."""
    metadata: dict[str, Any] = {}
    with domain_call(context.log):
        for name, planned in plan.items():
            own = [batch for batch in (*arcticdem, *tcvis) if batch["cube"] == name]
            now = {what: round(sum(batch[what] for batch in own), 2) for what in ("filled", "bytes", "seconds")}
            planned |= {f"{what}_now": value for what, value in now.items()}
            context.log.info(
                f"{name}: {now['filled']} of {planned['missing']} missing chunks filled, {now['bytes'] / 1e6:.1f} MB"
            )
            metadata[f"coverage_{name}"] = coverage_map(context.instance, planned["layer"], cubes.cube_named(name))
        for run_id in {context.run_id, context.run.parent_run_id, context.run.root_run_id} - {None}:
            forget_values(store, str(run_id))  # also of the failed runs that this one goes on with
    context.add_output_metadata({"chunks": _table(plan), **metadata})


def _table(plan: Mapping[str, Mapping[str, Any]]) -> dg.TableMetadataValue:
    """A row for each cube."""
    return dg.MetadataValue.table([dg.TableRecord({"cube": name, **facts}) for name, facts in plan.items()])


_FILL = {layer: _filling(layer) for layer in AUXILIARY_LAYERS}


@dg.job(description="Registers and fills the auxiliary chunks under an area (AOI), under scenes, or by their keys.")
def prepare_auxiliary() -> None:
    """Prepare auxiliary data."""
    arcticdem, tcvis, plan = choose_chunks()
    sum_up(
        plan,
        arcticdem.map(_FILL["arcticdem"]).collect(),
        tcvis.map(_FILL["tcvis"]).collect(),
    )
