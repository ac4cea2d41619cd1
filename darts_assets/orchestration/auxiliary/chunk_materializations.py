"""Filling of chunks and their materializations: each chunk has its own partition status, however it was filled."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import AuxiliaryLayer
from darts_assets.errors import ChunksFailedError, CubeError, MissingChunksError
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.dynamic_partitions import materialized, register, registered_containing
from darts_assets.orchestration.core.metadata import as_metadata, image_link, provenance
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, CHUNK_PARTITIONS
from darts_assets.orchestration.core.step_metrics import Meter, versions

if TYPE_CHECKING:
    from darts_assets.cubes import Cube, FilledChunk

CODE_VERSION = "1"

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def fill_and_record(
    context: Context,
    cubes: AuxiliaryCubes,
    layer: AuxiliaryLayer,
    cube: "Cube",
    keys: Sequence[str],
    choice: Mapping[str, Any] | None = None,
    *,
    always: bool = False,
) -> "list[FilledChunk]":
    """Fill the missing chunks and record each as materialized.

    Filled chunks without a record, of an interrupted run, are recorded as well. If chunks fail, the others are recorded
    before the error is raised.

    Args:
        context: the step's context.
        cubes: the resource that fills chunks.
        layer: the cube's layer.
        cube: the cube.
        keys: partition keys of chunks.
        choice: see `AuxiliaryCubes.fill`.
        always: also record chunks that were filled and recorded before.

    Returns:
        The chunks that this call filled.

    Raises:
        MissingChunksError, ChunksFailedError: see `AuxiliaryCubes.fill`.
    """
    meter = Meter()
    try:
        filled = cubes.fill(layer, cube, keys, context.run_id, choice)
    except (MissingChunksError, ChunksFailedError) as error:
        _record(context, layer, cube, keys, getattr(error, "filled", ()), meter, always)
        raise
    _record(context, layer, cube, keys, filled, meter, always)
    return filled


def unrecorded(instance: dg.DagsterInstance, layer: AuxiliaryLayer, keys: Sequence[str]) -> list[str]:
    """The keys without a materialization."""
    recorded = materialized(instance, CHUNK_KEYS[layer], keys)
    return [key for key in keys if key not in recorded]


def register_chunks(instance: dg.DagsterInstance, layer: AuxiliaryLayer, keys: Sequence[str]) -> None:
    """Add partitions; existing ones stay as they are."""
    register(instance, CHUNK_PARTITIONS[layer], keys)


def coverage_map(instance: dg.DagsterInstance, layer: AuxiliaryLayer, cube: "Cube") -> dg.MetadataValue[Any]:
    """A map of the filled, empty and missing (registered but not filled) chunks of a cube, with a legend."""
    import numpy as np

    from darts_assets import plots

    coverage = cube.coverage()
    known = {(int(row), int(col)) for row, col in np.concatenate([coverage.data, coverage.empty])}
    missing = np.array(sorted(_registered(instance, layer, cube) - known), dtype=np.int64).reshape(-1, 2)
    states = {"filled": coverage.data, "empty": coverage.empty, "missing": missing}
    image = image_link(plots.coverage_map(cube.spec.grid.shape, states), "webp", lossless=True)
    legend = f"green: {len(coverage.data)} filled, blue: {len(coverage.empty)} empty, red: {len(missing)} missing"
    return dg.MetadataValue.md(f"{image}\n\n{legend}")


def _registered(instance: dg.DagsterInstance, layer: AuxiliaryLayer, cube: "Cube") -> set[tuple[int, int]]:
    indices = set()
    prefix = f"{cube.spec.grid.prefix}-"
    for key in registered_containing(instance, CHUNK_PARTITIONS[layer], [prefix]):
        try:
            indices.add(cube.spec.grid.parse(key))
        except CubeError:
            continue  # a chunk of another cube, or a malformed partition that was added by hand
    return indices


def _record(
    context: Context,
    layer: AuxiliaryLayer,
    cube: "Cube",
    keys: Sequence[str],
    filled: "Sequence[FilledChunk]",
    meter: Meter,
    always: bool,
) -> None:
    # Chunks are filled together; costs other than time and size are known only for all of them.
    together = {"versions": versions(), "together": {"chunks": len(filled), **meter.costs()}}
    facts = {chunk.key: _facts(cube, chunk) | together for chunk in filled}
    to_record = {*facts, *(keys if always else unrecorded(context.instance, layer, keys))} & cube.filled(keys)
    ordered = [key for key in keys if key in to_record]
    if not ordered:
        return
    register_chunks(context.instance, layer, ordered)
    coverage = coverage_map(context.instance, layer, cube)
    snapshot = cube.snapshot()
    for key in ordered:
        chunk_facts = facts.get(key, {"already_filled": True, "snapshot": snapshot})
        # One map is enough: it shows the whole cube.
        coverage_facts = {"coverage": coverage} if key == ordered[-1] else {}
        metadata = as_metadata({"cube": cube.spec.name, **chunk_facts, **coverage_facts})
        context.log_event(dg.AssetMaterialization(asset_key=CHUNK_KEYS[layer], partition=key, metadata=metadata))


def _facts(cube: "Cube", chunk: "FilledChunk") -> dict[str, Any]:
    from PIL import Image

    return {
        "sources": list(chunk.sources),
        "fill_fraction": chunk.fill_fraction,
        "bytes": chunk.bytes,
        "seconds": round(chunk.seconds, 2),
        "snapshot": chunk.snapshot,
        # Small, because the event log keeps one for each of many thousand chunks.
        "Picture": dg.MetadataValue.md(image_link(Image.fromarray(chunk.picture), "webp", quality=60)),
        "provenance": provenance(CODE_VERSION, {"cube": cube.spec.name}, sources=",".join(chunk.sources)),
    }
