"""`polygons`: the outlines of thaw slumps and of the area that was looked at."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import dagster as dg
import xarray as xr

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain.check_evaluation import Verdict, check_spec, evaluate

CODE_VERSION = "1"


class PolygonsConfig(dg.Config):
    """How probabilities become objects.

    Attributes:
        quality_level: lowest quality of pixels that count.
        mask_erosion_size: pixels by which the valid area shrinks (0 = not).
        edge_erosion_size: pixels removed along the tile's border; None = `mask_erosion_size`.
        threshold: probability above which a pixel is a slump.
        min_object_size: pixels; smaller objects (8-connected) vanish.
        drop_edge_objects: drop objects that the border of the valid area cuts, instead of flagging them.
    """

    quality_level: Literal["none", "low", "high"] = "low"
    mask_erosion_size: int = 10
    edge_erosion_size: int | None = None
    threshold: float = 0.5
    min_object_size: int = 32
    drop_edge_objects: bool = False


def build_polygons(family: SceneFamily) -> dg.AssetsDefinition:
    """The polygons of a family."""

    @dg.asset(
        **family.asset("polygons"),
        kinds={"parquet", "geopandas"},
        code_version=CODE_VERSION,
        io_manager_key="vectors",
        metadata=COLUMNS,
        ins={
            "probabilities": dg.AssetIn(family.key("segmentation"), input_manager_key="tiles"),
            "tile": dg.AssetIn(family.key("preprocessed_tile"), input_manager_key="tiles"),
        },
        description="Detected thaw slumps and the valid area of the scene, as GeoParquet.",
    )
    @measured
    def polygons(
        context: dg.AssetExecutionContext, config: PolygonsConfig, probabilities: xr.Dataset, tile: xr.Dataset
    ) -> dg.MaterializeResult[dict[str, Any]]:
        from darts_assets.detection import PostprocessParameters, extent_polygons, postprocess, segments

        with domain_call(context.log):
            detections = postprocess(
                probabilities, tile["quality_data_mask"], PostprocessParameters(**config.model_dump())
            )
            models = [str(name).partition("-")[2] for name in probabilities.data_vars if "-" in str(name)]
            tables = {
                "segments": segments(detections),
                "extent": extent_polygons(detections),
                **{f"segments-{model}": segments(detections, model) for model in models},
            }
        objects, extent = tables["segments"], tables["extent"]
        context.log.info(f"{context.partition_key}: {len(objects)} objects in {extent.area.sum() / 1e6:.1f} km2")
        facts = provenance(
            CODE_VERSION, config.model_dump(), segmentation=probabilities.attrs["provenance"]["data_version"]
        )
        summary = {
            "objects": len(objects),
            "objects_at_edge": int(objects["touches_edge"].sum()),
            "area_ha": round(float(objects.area.sum()) / 1e4, 3),
            "extent_km2": round(float(extent.area.sum()) / 1e6, 3),
            "extent_fraction": round(int(extent["npixel"].sum()) / detections["extent"].size, 6),
        }
        metadata = {**summary, "dagster/row_count": len(objects), "summary": summary, "provenance": facts}
        return dg.MaterializeResult(
            value=tables, metadata=as_metadata(metadata), data_version=dg.DataVersion(facts["data_version"])
        )

    return polygons


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
    columns = names(SEGMENTS)
    faults = [f"extent: {fault}" for fault in geometry_faults(
        tables["extent"], geobox, names(EXTENT)
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


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, dtype, description) for name, dtype, description in columns])


_OUTLINE = "Outline of the pixels, in the CRS of the scene: a Polygon, or a MultiPolygon whose parts meet at corners."

SEGMENTS = _schema(
    ("Region_ID", "int64", "1 to n, in row-major order of the objects' first pixels."),
    ("touches_edge", "bool", "A pixel has a neighbour outside of the valid area: there may be more of the slump."),
    ("min", "float64", "Lowest probability of the object's pixels, 0 to 1."),
    ("max", "float64", "Highest probability."),
    ("mean", "float64", "Mean probability."),
    ("median", "float64", "Median of the probabilities."),
    ("std", "float64", "Standard deviation of the probabilities, of the population."),
    ("npixel", "int64", "Pixels of the object."),
    ("geometry", "geometry", _OUTLINE),
)
"""Of detected thaw slumps, a row for each."""

EXTENT = _schema(
    ("npixel", "int64", "Pixels of the area."),
    ("area_m2", "float64", "Its area in square metres."),
    ("geometry", "geometry", _OUTLINE),
)
"""Of the valid area, a row for each 8-connected part."""

COLUMNS = as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(SEGMENTS),
                       "extent_columns": dg.MetadataValue.table_schema(EXTENT)})  # fmt: skip
"""Metadata of the assets that hold both tables."""


def names(schema: dg.TableSchema) -> list[str]:
    """The names of its columns."""
    return [column.name for column in schema.columns]
