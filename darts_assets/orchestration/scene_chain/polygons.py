"""`polygons`: the outlines of thaw slumps and of the valid area of a scene.

A scene's own run evaluates the checks in a step of their own. A run of several scenes has no downstream steps: there,
`polygons` evaluates them for each scene, and does not record a scene whose polygons are invalid.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from darts_assets.detection import PostprocessParameters
from darts_assets.orchestration.core.error_handling import StepConfig
from darts_assets.orchestration.core.io_managers import TileIOManager, publish_vectors
from darts_assets.orchestration.core.metadata import as_metadata, materialize_result, provenance
from darts_assets.orchestration.core.multi_partition import (
    beta_policies,
    has_one_partition,
    materialize_each,
    partitions_per_run,
)
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.scene_chain.check_evaluation import (
    Outcome,
    Outcomes,
    check_spec,
    evaluate,
    limits_of_run,
    require_passed,
    step_checks,
)
from darts_assets.settings_file import NO_FILE, SettingsFile

CODE_VERSION = "5"


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, dtype, description) for name, dtype, description in columns])


_OUTLINE = "Outline along pixel edges, in the CRS of the scene; a MultiPolygon if parts meet only at corners."

SEGMENTS = _schema(
    ("Region_ID", "int64", "1 to n, in row-major order of the objects' first pixels."),
    ("touches_edge", "bool", "Whether a pixel borders the outside of the valid area: the slump may continue there."),
    ("clear_fraction", "float64", "Fraction of the object's pixels that are clear: no cloud, shadow or snow."),
    ("min", "float64", "Minimum of the object's probabilities, 0 to 1."),
    ("max", "float64", "Maximum of the probabilities."),
    ("mean", "float64", "Mean of the probabilities."),
    ("median", "float64", "Median of the probabilities."),
    ("std", "float64", "Population standard deviation of the probabilities."),
    (
        "model_spread",
        "float64",
        "Mean over the object's pixels of the standard deviation of the probabilities between the models; null with "
        "one model, or if segmentation stored neither the spread nor the models.",
    ),
    ("npixel", "int64", "Number of pixels."),
    ("geometry", "geometry", _OUTLINE),
)
"""Columns of the detected thaw slumps, one row each."""

EXTENT = _schema(
    ("npixel", "int64", "Number of pixels."),
    ("area_m2", "float64", "Geodesic area on the WGS 84 ellipsoid, square metres."),
    ("clear_fraction", "float64", "Fraction of the pixels that are clear: no cloud, shadow or snow."),
    ("geometry", "geometry", _OUTLINE),
)
"""Columns of the valid area, one row for each 8-connected part."""


def column_metadata(segments: dg.TableSchema, extent: dg.TableSchema) -> dict[str, dg.MetadataValue[Any]]:
    """Metadata of an asset that contains both tables."""
    schemas = {"dagster/column_schema": segments, "extent_columns": extent}
    return as_metadata({name: dg.MetadataValue.table_schema(schema) for name, schema in schemas.items()})


_LISTED = 10


class PolygonsConfig(StepConfig, PostprocessParameters):
    """How probabilities become objects."""


@beta_policies()
def build_polygons(family: SceneFamily, scenes_per_run: int = 1, file: SettingsFile = NO_FILE) -> dg.AssetsDefinition:
    """The asset `polygons` of a family; a run of a backfill takes up to `scenes_per_run`."""

    @dg.asset(
        **family.asset("polygons"),
        kinds={"parquet", "geopandas"},
        code_version=CODE_VERSION,
        io_manager_key="vectors",
        metadata=column_metadata(SEGMENTS, EXTENT),
        backfill_policy=partitions_per_run(scenes_per_run),
        output_required=False,
        deps=[family.key("segmentation"), family.key("preprocessed_tile")],
        description="Detected thaw slumps and the valid area of the scene, as GeoParquet.",
    )
    @StepDefaults(family.name, file).configure("polygons")
    def polygons(context: dg.AssetExecutionContext, config: PolygonsConfig, store: Store) -> Iterator[Any]:
        tiles = TileIOManager(store=store)

        def outline(scene: str) -> dg.MaterializeResult[None]:
            from darts_assets.detection.export import summary
            from darts_assets.detection.postprocess import pixel_area
            from darts_assets.detection.vectorize import detection_tables
            from darts_assets.tiles import geobox_of

            probabilities, tile = (
                tiles.read(tuple(family.key(step).path), scene) for step in ("segmentation", "preprocessed_tile")
            )
            tables = detection_tables(probabilities, tile["quality_data_mask"], config)
            objects, extent = tables["segments"], tables["extent"]
            figures = summary(objects, extent)
            context.log.info(f"{scene}: {len(objects)} objects in {figures['extent_km2']:.1f} km2")
            facts = provenance(
                CODE_VERSION,
                config.in_force(pixel_area(geobox_of(probabilities))),
                segmentation=probabilities.attrs["provenance"]["data_version"],
            )
            figures |= {
                "objects_at_edge": int(objects["touches_edge"].sum()),
                "extent_fraction": round(int(extent["npixel"].sum()) / tile["quality_data_mask"].size, 6),
            }
            published = publish_vectors(
                store, context.asset_key, scene, tables, {"provenance": facts, "summary": figures}
            )
            if not has_one_partition(context):
                require_valid(context, family, store, scene)
            metadata = {**figures, "dagster/row_count": len(objects), "summary": figures}
            return materialize_result({**metadata, "config": config.model_dump(), **published}, facts)

        yield from materialize_each(context, outline)

    return polygons


class PolygonChecksConfig(dg.Config):
    """Limits of the checks of polygons."""

    least_clear: float = Field(
        0.5, description="The check `detections_are_clear` fails if less than this fraction of a detection is clear."
    )

    largest_removed_m2: float = Field(
        1000.0,
        description="The check `small_slumps_are_kept` fails if objects of this area in square metres are removed.",
    )

    least_extent: float = Field(
        0.0,
        description="The check `scene_was_seen` fails if the valid, clear area is this fraction of the scene or less.",
    )


def build_polygon_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's polygons."""
    specs = _specs(family)

    @step_checks(family, specs)
    def polygons_checks(
        context: dg.AssetCheckExecutionContext, config: PolygonChecksConfig, store: Store
    ) -> Iterator[Any]:
        yield from evaluate(context, family, specs, lambda scene: _outcomes(family, store, scene, config))

    return polygons_checks


def require_valid(context: dg.AssetExecutionContext, family: SceneFamily, store: Store, scene: str) -> None:
    """Evaluate and record the checks of a scene in the step that has written it.

    Raises:
        DartsError: if the polygons are invalid.
    """
    specs = _specs(family)
    limits = limits_of_run(context, specs, PolygonChecksConfig)
    require_passed(context, specs, scene, _outcomes(family, store, scene, limits))


def _specs(family: SceneFamily) -> list[dg.AssetCheckSpec]:
    return [
        check_spec(
            family, "polygons", "geometries_valid",
            "Polygons are valid, within the scene and in its CRS, with all columns, unique ids and the minimum size.",
            blocking=True,
        ),
        check_spec(
            family, "polygons", "scene_was_seen",
            "The scene has a clear valid area; an empty result is explained by clouds or missing data.",
        ),
        check_spec(
            family, "polygons", "detections_are_clear",
            "No detection lies on clouds, shadow or snow.",
        ),
        check_spec(
            family, "polygons", "small_slumps_are_kept",
            "The smallest object is not so large that many known slumps are smaller.",
        ),
    ]  # fmt: skip


def _outcomes(family: SceneFamily, store: Store, scene: str, config: PolygonChecksConfig) -> Outcomes:
    from darts_assets.stores.tiles import read_geobox
    from darts_assets.stores.vectors import read_vectors

    tile = store.place("tiles", *family.key("preprocessed_tile").path, scene)
    vectors = store.place("vectors", *family.key("polygons").path, scene)
    published, features = vectors.require(), tile.require()
    facts, coverage = published.metadata, features.metadata["coverage"]
    tables = read_vectors(vectors, published)
    seen = {
        "with_data": coverage["red"],
        "usable": coverage["quality_data_mask"],
        "extent": facts["summary"]["extent_fraction"],
        "clear": facts["summary"]["extent_fraction"] * _clear_fraction(tables["extent"]),
        "objects": facts["summary"]["objects"],
    }
    return {
        "geometries_valid": _validity(
            tables, read_geobox(tile, features), facts["provenance"]["parameters"]["min_object_size"]
        ),
        "small_slumps_are_kept": _mapping_unit(
            facts["provenance"]["parameters"], read_geobox(tile, features), config.largest_removed_m2
        ),
        "detections_are_clear": _clearness(tables["segments"], config.least_clear),
        "scene_was_seen": Outcome(
            [_why_not_seen(seen)] if seen["clear"] <= config.least_extent else [],
            f"{seen['objects']} objects in {100 * seen['extent']:.1f} % of the scene; "
            f"{100 * seen['clear']:.1f} % is clear",
            seen,
        ),
    }


def _clear_fraction(extent: Any) -> float:
    """The clear fraction of a valid area; 1 if a version without `clear_fraction` made it."""
    if "clear_fraction" not in extent:
        return 1.0
    pixels = int(extent["npixel"].sum())
    return float((extent["npixel"] * extent["clear_fraction"]).sum() / pixels) if pixels else 0.0


def _clearness(segments: Any, least: float) -> Outcome:
    if "clear_fraction" not in segments:
        return Outcome([], "unknown: the polygons were made by a version without clear_fraction")
    clouded = segments.loc[segments["clear_fraction"] < least, "Region_ID"].tolist()
    problem = (
        f"{len(clouded)} of {len(segments)} detections lie on clouds, shadow or snow (less than {100 * least:g} % of "
        f"their pixels are clear), Region_ID {', '.join(map(str, clouded[:_LISTED]))}"
    )
    more = f" and {len(clouded) - _LISTED} more" if len(clouded) > _LISTED else ""
    advice = ". The inventory leaves them out; quality_level `high` does not detect there"
    return Outcome(
        [problem + more + advice] if clouded else [], f"{len(segments)} detections, all on clear ground",
        {"clouded": len(clouded)},
    )  # fmt: skip


def _mapping_unit(parameters: Mapping[str, Any], geobox: Any, largest_removed: float) -> Outcome:
    from darts_assets.detection.footprint_sizes import OUTLINES, share_below
    from darts_assets.detection.postprocess import pixel_area

    pixels = int(parameters["min_object_size"])
    area = pixels * pixel_area(geobox)
    share = share_below(area)
    size, hidden = f"{pixels} pixels ({area:,.0f} m2)", f"{100 * share:.0f} % of {OUTLINES:,} known slumps are smaller"
    problem = f"objects of less than {size} are removed: {hidden}; min_object_area_m2 of `polygons` sets another limit"
    return Outcome(
        [problem] if area > largest_removed else [], f"objects from {size} on are kept; {hidden}",
        {"smallest_m2": area, "share_hidden": round(share, 4)},
    )  # fmt: skip


def _validity(tables: Mapping[str, Any], geobox: Any, min_object_size: int) -> Outcome:
    from darts_assets.detection.vectorize import geometry_faults, segment_faults

    # Polygons of earlier versions lack these.
    optional = {"clear_fraction", "model_spread"}
    columns, extent_columns = (
        [column.name for column in schema.columns if column.name not in optional] for schema in (SEGMENTS, EXTENT)
    )
    problems = [f"extent: {problem}" for problem in geometry_faults(tables["extent"], geobox, extent_columns)]
    if "clear" in tables:
        problems += [f"clear: {problem}" for problem in geometry_faults(tables["clear"], geobox, ())]
    for name, table in tables.items():
        if name.startswith("segments"):
            problems += [f"{name}: {fault}" for fault in segment_faults(table, geobox, columns, min_object_size)]
    rows = {name: len(table) for name, table in tables.items()}
    return Outcome(problems, f"{rows['segments']} objects, all valid", {"rows": rows})


def _why_not_seen(seen: Mapping[str, Any]) -> str:
    """Why nothing, or little, of a scene is valid and clear."""
    if seen["with_data"] == 0:
        return "no pixel of the scene has data: the result is empty"
    if seen["extent"] == 0:
        return (
            f"the valid area is empty: {100 * seen['with_data']:.1f} % of the scene has data, but clouds, shadow or "
            "snow cover it, or it lies too near to the border"
        )
    if seen["clear"] == 0:
        return f"clouds, shadow or snow cover all of the valid area ({100 * seen['extent']:.1f} % of the scene)"
    return f"only {100 * seen['clear']:.1f} % of the scene is valid and clear: clouds, shadow or snow cover the rest"
