"""What Dagster knows of chunks: each has a partition status of its own, true however it came to be filled."""

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
    """Fill those of `keys` that are missing, and record them as materialized, each for itself.

    Chunks that an interrupted run has filled without saying so are recorded too. What fails does not keep the others
    from being recorded.

    Args:
        context: of the step.
        cubes: where chunks come from.
        layer: of the cube.
        cube: which.
        keys: partition keys of chunks.
        choice: see `AuxiliaryCubes.fill`.
        always: also record chunks that were filled and recorded before.

    Returns:
        What this call has filled.

    Raises:
        MissingChunksError: see `AuxiliaryCubes.fill`.
        ChunksFailedError: see `AuxiliaryCubes.fill`.
    """
    meter = Meter()
    try:
        filled = cubes.fill(layer, cube, keys, context.run_id, choice)
    except MissingChunksError:
        _record(context, layer, cube, keys, [], meter, always)
        raise
    except ChunksFailedError as error:
        _record(context, layer, cube, keys, error.filled, meter, always)
        raise
    _record(context, layer, cube, keys, filled, meter, always)
    return filled


def unrecorded(instance: dg.DagsterInstance, layer: AuxiliaryLayer, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that Dagster does not know to be materialized."""
    recorded = materialized(instance, CHUNK_KEYS[layer], keys)
    return [key for key in keys if key not in recorded]


def register_chunks(instance: dg.DagsterInstance, layer: AuxiliaryLayer, keys: Sequence[str]) -> None:
    """Add partitions; those that are there stay."""
    register(instance, CHUNK_PARTITIONS[layer], keys)


def coverage_map(instance: dg.DagsterInstance, layer: AuxiliaryLayer, cube: "Cube") -> dg.MetadataValue[Any]:
    """A picture of which chunks of a cube are filled, empty or missing (registered, not filled), with its legend."""
    import numpy as np
    from PIL import Image

    from darts_assets.cubes.picture import coverage_picture

    coverage = cube.coverage()
    known = {(int(row), int(col)) for row, col in np.concatenate([coverage.data, coverage.empty])}
    missing = np.array(sorted(_registered(instance, layer, cube) - known), dtype=np.int64).reshape(-1, 2)
    picture = coverage_picture(cube.spec.grid, coverage.data, coverage.empty, missing)
    legend = (
        f"green: {len(coverage.data)} filled, blue: {len(coverage.empty)} empty, red: {len(missing)} missing, "
        "light: never asked for"
    )
    image = image_link(Image.fromarray(picture), "webp", lossless=True, quality=100)
    return dg.MetadataValue.md(f"{image}\n\n{legend}")


def _registered(instance: dg.DagsterInstance, layer: AuxiliaryLayer, cube: "Cube") -> set[tuple[int, int]]:
    found = set()
    prefix = f"{cube.spec.grid.prefix}-"
    for key in registered_containing(instance, CHUNK_PARTITIONS[layer], [prefix]):
        try:
            found.add(cube.spec.grid.parse(key))
        except CubeError:
            continue  # of another cube, or a partition that somebody has added by hand
    return found


def _record(
    context: Context,
    layer: AuxiliaryLayer,
    cube: "Cube",
    keys: Sequence[str],
    filled: "Sequence[FilledChunk]",
    meter: Meter,
    always: bool,
) -> None:
    # Chunks are filled together: only time and size are a chunk's own.
    together = {"versions": versions(), "together": {"chunks": len(filled), **meter.costs()}}
    facts = {chunk.key: _facts(cube, chunk) | together for chunk in filled}
    there = cube.filled(keys)
    unsaid = {*facts, *(keys if always else unrecorded(context.instance, layer, keys))} & there
    ordered = [key for key in keys if key in unsaid]
    if not ordered:
        return
    register_chunks(context.instance, layer, ordered)
    coverage = coverage_map(context.instance, layer, cube)
    snapshot = cube.snapshot()
    for key in ordered:
        said = facts.get(key, {"already_filled": True, "snapshot": snapshot})
        # The map is the cube's, not the chunk's: once is enough.
        metadata = as_metadata(
            {"cube": cube.spec.name, **said, **({"coverage": coverage} if key == ordered[-1] else {})}
        )
        context.log_event(dg.AssetMaterialization(asset_key=CHUNK_KEYS[layer], partition=key, metadata=metadata))


def _facts(cube: "Cube", chunk: "FilledChunk") -> dict[str, Any]:
    from PIL import Image

    return {
        "sources": list(chunk.sources),
        "fill_fraction": chunk.fill_fraction,
        "bytes": chunk.bytes,
        "seconds": round(chunk.seconds, 2),
        "snapshot": chunk.snapshot,
        # Small: the event log keeps one for each of many thousand chunks.
        "picture": dg.MetadataValue.md(image_link(Image.fromarray(chunk.picture), "webp", quality=60)),
        "provenance": provenance(CODE_VERSION, {"cube": cube.spec.name}, sources=",".join(chunk.sources)),
    }
