"""Assets `training/planet_samples` and `training/dataset`: patches of a labelled image, and datasets of patches."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import SceneCatalogs, Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import (
    DATASET,
    IMAGES,
    PLANET_SAMPLES,
    POLYGON_SAMPLES,
    REVIEWED_SAMPLES,
    SENTINEL2_SAMPLES,
    LabelsConfig,
    expert_table,
    read_preprocessed,
    training_asset,
)
from darts_assets.training.sample_parameters import PatchParameters

if TYPE_CHECKING:
    from darts_assets.training.sample_store import Flavour
    from darts_assets.training.set_builder import SetBuilder

CODE_VERSION = "1"


class SamplesConfig(LabelsConfig, PatchParameters):
    """How images are cut."""

    regions: str | None = Field(
        None,
        description="Administrative regions: a vector file with `shapeName`, its URL, or `geoboundaries`, which are "
        "fetched once; null: one region for all.",
    )


class DatasetConfig(dg.Config):
    """The samples of a set."""

    dataset: str = Field("default", description="Name of the set.")
    samples: list[str] = Field([], description="Image ids; empty: all samples.")


def build_training_data() -> list[dg.AssetsDefinition]:
    """The assets that build training datasets."""
    return [_planet_samples, _dataset]


@dg.asset(
    **training_asset(PLANET_SAMPLES, "samples"),
    deps=[IMAGES, PLANET.key("preprocessed_tile")],
    partitions_def=PLANET.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of the preprocessed tile of a labelled Planet image. Materialize the tile first.",
)
@measured
def _planet_samples(
    context: dg.AssetExecutionContext, config: SamplesConfig, store: Store, catalogs: SceneCatalogs
) -> dg.MaterializeResult[None]:
    image = context.partition_key
    with domain_call(context.log):
        from darts_assets.training.labelled_images import flavour_of

        flavour = flavour_of(store.root.child("training", config.dataset), image)
        builder = set_builder(store, config, [image], flavour, context.log.warning, offline=catalogs.offline)
        builder.archive.footprint(image)  # raises if the archive does not contain the image
        tile, version = read_preprocessed(store, PLANET, image)
        record = builder.add(image, tile, inputs=version)
    facts = provenance(CODE_VERSION, config.model_dump(), preprocessed_tile=version, sample=record.fingerprint)
    metadata = {
        "path": dg.MetadataValue.path(builder.store.sample(image).location.url),
        "flavour": flavour,
        "region": str(builder.regions.get(image, "none")),
        "outlines": len(builder.archive.of_image(image)),
        "patches": record.patches,
        "dropped": record.dropped,
        "left_out": list(builder.archive.problems),
    }
    return materialize_result(metadata, facts)


@dg.asset(
    **training_asset(DATASET),
    deps=[PLANET_SAMPLES, SENTINEL2_SAMPLES, POLYGON_SAMPLES, REVIEWED_SAMPLES],
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of many images as one array of inputs and one of labels.",
)
@measured
def _dataset(context: dg.AssetExecutionContext, config: DatasetConfig, store: Store) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.fit.training_set import TrainingSet
        from darts_assets.training.set_store import TrainingSetStore

        training_sets = TrainingSetStore(store.root.child("training", config.dataset))
        summary = training_sets.assemble(config.samples or None)
        table = TrainingSet.open(summary.location).samples
    facts = provenance(CODE_VERSION, config.model_dump(), patches=summary.data_hash)
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(summary.location.url),
        "patches": summary.patches,
        "with_slumps": summary.positive,
        "samples": len(summary.samples),
        "dropped": summary.dropped,
        "regions": dg.MetadataValue.table(_by_region(table)),
        "data_hash": summary.data_hash,
    }
    if len(summary.experts):
        metadata |= {
            "mean_iou_of_experts": float(summary.experts["iou"].mean()),
            "expert_pairs": expert_table(summary.experts),
        }
    return materialize_result(metadata, facts)


def set_builder(
    store: Store,
    config: SamplesConfig,
    images: Sequence[str],
    flavour: "Flavour",
    warn: Callable[[str], None],
    *,
    offline: bool,
) -> "SetBuilder":
    """Builder of the samples of `images`; calls `warn` for each unusable label. Regions are not fetched `offline`."""
    import pandas as pd

    from darts_assets.training.label_cache import archive_of
    from darts_assets.training.region_download import regions_from
    from darts_assets.training.regions import regions_of
    from darts_assets.training.set_builder import SetBuilder
    from darts_assets.training.set_store import TrainingSetStore

    cache = store.root.child("training", config.dataset, "labels")
    archive = archive_of(images, config.labels, cache, match_prefix=config.match_prefix)
    for problem in archive.problems:
        warn(problem)
    regions = pd.Series(dtype=str)
    footprints = archive.footprints.set_index("image_id")
    if config.regions and len(footprints):
        folder = store.root.child("training", "regions")
        around = regions_from(config.regions, footprints, folder, offline=offline)
        regions = regions if around is None else regions_of(footprints, around)
    training_set = TrainingSetStore(store.root.child("training", config.dataset))
    return SetBuilder(archive, regions, training_set, config, flavour)


def _by_region(table: Any) -> Sequence[dg.TableRecord]:
    grouped = table.groupby("region")
    return [
        dg.TableRecord(
            {
                "region": str(name),
                "images": int(rows["sample_id"].nunique()),
                "patches": len(rows),
                "with_slumps": int((~rows["empty"]).sum()),
            }
        )
        for name, rows in grouped
    ]
