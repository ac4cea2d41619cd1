"""Checks of `polygons`: whether the geometries are sound, and whether the scene was seen at all."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.scene_chain import column_schemas
from darts_assets.orchestration.scene_chain.checks.evaluation import Verdict, check_spec, evaluate


class PolygonChecksConfig(dg.Config):
    """What polygons must be like.

    Attributes:
        least_extent: fraction of the scene that should have been looked at.
    """

    least_extent: float = 0.0


def build_polygon_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's polygons."""
    specs = [
        check_spec(
            family, "polygons", "geometries_valid",
            "Polygons are valid, within the scene and in its CRS, with all columns, unique ids and the least size.",
            blocking=True,
        ),
        check_spec(
            family, "polygons", "scene_was_seen",
            "The scene was seen; an empty result is explained by clouds or missing data.",
        ),
    ]  # fmt: skip

    @dg.multi_asset_check(
        name=f"{family.name}__polygons_checks", specs=specs, can_subset=True, op_tags=op_tags("check")
    )
    def polygons_checks(
        context: dg.AssetCheckExecutionContext, config: PolygonChecksConfig, store: Store
    ) -> Iterator[Any]:
        def judge(scene: str) -> Mapping[str, Verdict]:
            tile = store.place("tiles", *family.key("preprocessed_tile").path, f"{scene}.zarr")
            vectors = store.place("vectors", *family.key("polygons").path, scene)
            facts = vectors.require().metadata
            coverage = tile.require().metadata["coverage"]
            seen = {
                "with_data": coverage["red"],
                "usable": coverage["quality_data_mask"],
                "extent": facts["summary"]["extent_fraction"],
                "objects": facts["summary"]["objects"],
            }
            return {
                "geometries_valid": _sound(vectors, tile, facts["provenance"]["parameters"]["min_object_size"]),
                "scene_was_seen": Verdict(
                    [_why_not(seen)] if seen["extent"] <= config.least_extent else [],
                    f"{seen['objects']} objects in {100 * seen['extent']:.1f} % of the scene",
                    seen,
                ),
            }

        yield from evaluate(context, family, specs, judge)

    return polygons_checks


def _sound(vectors: Any, tile: Any, min_object_size: int) -> Verdict:
    from darts_assets.detection.vectorize import geometry_faults, segment_faults
    from darts_assets.stores.tiles import read_geobox
    from darts_assets.stores.vectors import read_vectors

    geobox, tables = read_geobox(tile), read_vectors(vectors)
    columns = column_schemas.names(column_schemas.SEGMENTS)
    faults = [f"extent: {fault}" for fault in geometry_faults(
        tables["extent"], geobox, column_schemas.names(column_schemas.EXTENT)
    )]  # fmt: skip
    for name, table in tables.items():
        if name != "extent":
            faults += [f"{name}: {fault}" for fault in segment_faults(table, geobox, columns, min_object_size)]
    rows = {name: len(table) for name, table in tables.items()}
    return Verdict(faults, f"{rows['segments']} objects, all sound", {"rows": rows})


def _why_not(seen: Mapping[str, Any]) -> str:
    """Why nothing (or little) of a scene was looked at."""
    if seen["with_data"] == 0:
        return "no pixel of the scene holds data: nothing could be found"
    if seen["extent"] == 0:
        return (
            f"no pixel is left to look at: {100 * seen['with_data']:.1f} % of the scene holds data, but clouds, shadow "
            "or snow cover it or it lies too near to the border: nothing could be found"
        )
    return f"only {100 * seen['extent']:.1f} % of the scene could be looked at: clouds, shadow or snow cover the rest"
