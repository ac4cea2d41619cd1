"""Asset `training/polygon_samples`: patches of a Sentinel-2 scene with the outlines of one or several experts."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SceneCatalogs, Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import (
    POLYGON_SAMPLES,
    SCENES,
    expert_table,
    read_preprocessed,
    training_asset,
)
from darts_assets.training.clip_parameters import ClipParameters

if TYPE_CHECKING:
    import geopandas as gpd

CODE_VERSION = "1"


class PolygonSamplesConfig(StepConfig, ClipParameters):
    """The outlines of a scene, and how it is cut."""

    labels: str = Field(
        description="Vector file with outlines of slumps, in any CRS, or a folder with a file for each expert. Columns "
        "that are used if they exist: `label` (0 background, 1 slump, 2 ignored), `expert`, `scene_id`."
    )
    area: str | None = Field(
        None, description="Vector file of the area in which all slumps are outlined; null: the whole scene."
    )
    regions: str | None = Field(
        None,
        description="Administrative regions: a vector file with `shapeName`, its URL, or `geoboundaries`, which are "
        "fetched once; null: one region for all.",
    )
    dataset: str = Field("default", description="Name of the set.")


def build_polygon_samples() -> list[dg.AssetsDefinition]:
    """The asset that cuts scenes with outlines."""
    return [_polygon_samples]


@dg.asset(
    **training_asset(POLYGON_SAMPLES, "samples"),
    deps=[SCENES, SENTINEL2.key("preprocessed_tile")],
    partitions_def=SENTINEL2.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of the preprocessed tile of a Sentinel-2 scene with outlines that you have drawn on it; of "
    "several experts, the share of those who see a slump. Materialize the tile first.",
)
@measured
def _polygon_samples(
    context: dg.AssetExecutionContext, config: PolygonSamplesConfig, store: Store, catalogs: SceneCatalogs
) -> dg.MaterializeResult[None]:
    scene = context.partition_key
    with domain_call(context.log):
        import geopandas as gpd

        from darts_assets.errors import TrainingError
        from darts_assets.tiles import geobox_of
        from darts_assets.training.clip_choice import suit
        from darts_assets.training.expert_outlines import read_area, read_outlines
        from darts_assets.training.sample_store import Origin, write_sample
        from darts_assets.training.set_store import TrainingSetStore

        read = read_outlines(config.labels)
        experts = read.experts if len(read.experts) > 1 else ()
        tile, version = read_preprocessed(store, SENTINEL2, scene)
        grid = geobox_of(tile)
        extent = gpd.GeoSeries([grid.extent.geom], crs=str(grid.crs), index=[scene])
        outlines = read.of_scene(scene)
        outlines = outlines[outlines.intersects(extent.to_crs(outlines.crs).union_all())]
        area = None if config.area is None else read_area(config.area)
        if area is not None and not area.to_crs(extent.crs).intersects(extent.iloc[0]).any():
            raise TrainingError(f"{config.area}: the labelled area does not intersect the scene {scene}")
        training_set = TrainingSetStore(store.root.child("training", config.dataset))
        parameters, choices = suit(tile, config, training_set, scene)
        for choice in choices:
            context.log.info(choice)
        region = _region(config, extent, store, catalogs.offline)
        origin = Origin(scene, region, scene, version)
        place = training_set.sample(scene)
        record = write_sample(place, tile, outlines, area, origin, parameters, "sentinel2", experts=experts)
    if not len(outlines):
        context.log.warning(f"{scene}: no outline lies on the scene; all of the labelled area is background")
    if not record.patches:
        reasons = ", ".join(f"{count} {reason}" for reason, count in record.dropped.items())
        context.log.warning(f"{scene}: no patches remain ({reasons})")
    facts = provenance(CODE_VERSION, config.model_dump(), preprocessed_tile=version, sample=record.fingerprint)
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(place.location.url),
        "region": region,
        "outlines": len(outlines),
        "patches": record.patches,
        "dropped": record.dropped,
        "choices": choices,
        "patch_size": parameters.patch_size,
        "bands": list(parameters.bands),
    }
    if record.agreement is not None:
        metadata |= {"experts": list(record.experts), "expert_pairs": expert_table(record.agreement.pairs())}
    return materialize_result(metadata, facts)


def _region(config: PolygonSamplesConfig, extent: "gpd.GeoSeries", store: Store, offline: bool) -> str:
    import geopandas as gpd

    from darts_assets.training.region_download import regions_from
    from darts_assets.training.regions import NO_REGION, regions_of

    if not config.regions:
        return NO_REGION
    footprint = gpd.GeoDataFrame(geometry=extent).to_crs("EPSG:4326")
    folder = store.root.child("training", "regions")
    around = regions_from(config.regions, footprint, folder, offline=offline)
    return NO_REGION if around is None else str(regions_of(footprint, around).iloc[0])
