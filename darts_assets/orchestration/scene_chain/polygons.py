"""`polygons`: the outlines of thaw slumps and of the area that was looked at."""

from typing import Any, Literal

import dagster as dg
import xarray as xr

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain import column_schemas

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
        metadata=column_schemas.COLUMNS,
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
