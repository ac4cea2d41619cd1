"""Chunk assets of the auxiliary cubes: one partition per chunk; a run fills one, a range, or a backfill's batch."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.orchestration.auxiliary.chunk_materializations import CODE_VERSION, fill_and_record
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.multi_partition import (
    Failures,
    beta_policies,
    partitions_of_run,
    partitions_per_run,
)
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, CHUNK_PARTITIONS, OWNER
from darts_assets.orchestration.core.pod_resources import CHUNKS_PER_RUN, POOLS, op_tags

_DESCRIPTIONS: dict[AuxiliaryLayer, str] = {
    "arcticdem": "Chunk of an ArcticDEM cube, such as `10m-r0123-c0456`: elevation and data mask, EPSG:3413.",
    "tcvis": "Chunk of a TCVIS cube, such as `2024-r0123-c0456`: tasselled cap trends, EPSG:4326.",
}


def build_chunks() -> list[dg.AssetsDefinition]:
    """The chunk assets, one per layer."""
    return [_build(layer) for layer in AUXILIARY_LAYERS]


@beta_policies()
def _build(layer: AuxiliaryLayer) -> dg.AssetsDefinition:
    @dg.asset(
        key=CHUNK_KEYS[layer],
        partitions_def=CHUNK_PARTITIONS[layer],
        group_name="auxiliary_chunks",
        kinds={"icechunk"},
        owners=[OWNER],
        code_version=CODE_VERSION,
        pool=POOLS[layer],
        op_tags=op_tags("chunk"),
        # A run per chunk would mostly wait for its start. `dagster asset materialize` accepts ranges only for assets
        # whose backfill is a single run, which is too long for large areas.
        backfill_policy=partitions_per_run(CHUNKS_PER_RUN),
        output_required=False,
        description=_DESCRIPTIONS[layer],
    )
    def chunk(context: dg.AssetExecutionContext, cubes: AuxiliaryCubes) -> Iterator[Any]:
        yield from ()  # there is no output: each chunk is recorded on its own, so that one may fail without the others
        _materialize(context, cubes, layer)

    return chunk


def _materialize(context: dg.AssetExecutionContext, cubes: AuxiliaryCubes, layer: AuxiliaryLayer) -> None:
    """Fill and record the partitions of the run; fails at the end if any of them failed."""
    by_cube: dict[str, list[str]] = {}
    failures = Failures(context)
    keys, deleted = partitions_of_run(context, context.asset_key, CHUNK_PARTITIONS[layer])
    failures.deleted(deleted)
    for key in keys:
        with failures.of(key):
            by_cube.setdefault(cubes.cube_of_chunk(layer, key).spec.name, []).append(key)
    for name, keys in by_cube.items():
        with failures.of(name):
            # A retry must not record the chunks of its first attempt as already filled.
            always = context.retry_number == 0
            filled = fill_and_record(context, cubes, layer, cubes.cube_named(name), keys, always=always)
            context.log.info(f"{name}: {len(filled)} of {len(keys)} chunks filled, the others existed")
    failures.end()
