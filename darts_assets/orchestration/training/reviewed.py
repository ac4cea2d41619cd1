"""Asset `training/reviewed_samples`: patches of scenes with labels from the verdicts of reviewers."""

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP, SLUMPS
from darts_assets.orchestration.training.common import REVIEWED_SAMPLES, read_preprocessed, training_asset
from darts_assets.training.sample_parameters import PatchParameters

CODE_VERSION = "1"

REVIEWERS = "reviewers"
"""Their verdicts are one opinion, as those of an expert."""


class ReviewedSamplesConfig(StepConfig, PatchParameters):
    """How scenes are cut around judged sites."""

    dataset: str = Field("reviewed", description="Name of the set.")
    margin: float = Field(
        100.0, gt=0, le=2000, description="Metres around judged sites that are labelled, as background."
    )
    agreement: bool = Field(
        False, description="Write labels as shares, to assemble them with samples that several experts labelled."
    )
    min_visible: float = Field(
        1e-6, ge=0, le=1, description="Smallest fraction of pixels of a patch that is labelled; judged sites are small."
    )


def build_training_reviewed() -> list[dg.AssetsDefinition]:
    """The asset that makes samples of judged sites."""
    return [_reviewed_samples]


@dg.asset(
    **training_asset(REVIEWED_SAMPLES, "samples"),
    deps=[SLUMPS, SENTINEL2.key("preprocessed_tile")],
    partitions_def=SENTINEL2.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of the preprocessed tile of a Sentinel-2 scene around sites that reviewers have judged: "
    "slumps, and hard negatives. Everything else is ignored.",
)
@measured
def _reviewed_samples(
    context: dg.AssetExecutionContext, config: ReviewedSamplesConfig, store: Store, scenes: SceneRegistry
) -> dg.MaterializeResult[None]:
    scene = context.partition_key
    with domain_call(context.log):
        import geopandas as gpd

        from darts_assets.errors import TrainingError
        from darts_assets.geo.grid_zones import region_of
        from darts_assets.stores.vectors import read_table
        from darts_assets.tiles import geobox_of
        from darts_assets.training.reviewed_labels import lacks_verdicts, reviewed_labels
        from darts_assets.training.sample_store import Origin, write_sample
        from darts_assets.training.set_store import TrainingSetStore

        slumps = store.place(GROUP, "slumps")
        sites = read_table(slumps, slumps.require(), "rts_sites")
        if lacks_verdicts(sites):
            raise TrainingError(f"{slumps.location} has no verdicts: materialize inventory/slumps again")
        tile, version = read_preprocessed(store, SENTINEL2, scene)
        grid = geobox_of(tile)
        extent = gpd.GeoSeries([grid.extent.geom], crs=str(grid.crs))
        reviewed = reviewed_labels(sites, scenes.scene(SENTINEL2, scene).datetime.year, extent, config.margin)
        lon, lat = (float(values[0]) for values in grid.geographic_extent.geom.centroid.xy)
        origin = Origin(scene, region_of(None, lon, lat), scene, version)
        place = TrainingSetStore(store.root.child("training", config.dataset)).sample(scene)
        labels = reviewed.labels.assign(expert=REVIEWERS) if config.agreement else reviewed.labels
        experts = (REVIEWERS,) if config.agreement else ()
        record = write_sample(place, tile, labels, reviewed.area, origin, config, "sentinel2", experts=experts)
    if not reviewed.count("yes") + reviewed.count("no"):
        context.log.warning(f"{scene}: reviewers have judged no site of its year here for certain")
    facts = provenance(CODE_VERSION, config.model_dump(), preprocessed_tile=version, sample=record.fingerprint)
    metadata = {
        "path": dg.MetadataValue.path(place.location.url),
        "region": origin.region,
        "slumps": reviewed.count("yes"),
        "hard_negatives": reviewed.count("no"),
        "ignored": len(reviewed.labels) - reviewed.count("yes") - reviewed.count("no"),
        "patches": record.patches,
        "dropped": record.dropped,
    }
    return materialize_result(metadata, facts)
