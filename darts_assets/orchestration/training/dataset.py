"""`training/planet_samples` and `training/dataset`: patches of one labelled image, and sets of the patches of many."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import FEATURES
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import provenance
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import (
    DATASET,
    IMAGES,
    PLANET_SAMPLES,
    SENTINEL2_SAMPLES,
    LabelsConfig,
    materialized,
    of_training,
    preprocessed,
)

if TYPE_CHECKING:
    from darts_assets.training.sample_store import Flavour
    from darts_assets.training.set_builder import SetBuilder

CODE_VERSION = "1"


class SamplesConfig(LabelsConfig):
    """How images are cut.

    Attributes:
        regions: vector file of administrative regions (geoBoundaries ADM2); None: one region for all.
        bands: of the patches, in this order.
        patch_size: pixels of a patch's side.
        overlap: pixels that neighbouring patches share.
        min_visible: share of a patch that must not be ignored.
        exclude_nan: drop patches in which a band lacks a value somewhere.
        exclude_nopositive: drop patches without a slump.
    """

    regions: str | None = None
    bands: list[str] = list(FEATURES)  # noqa: RUF012 - pydantic copies defaults
    patch_size: int = 1024
    overlap: int = 16
    min_visible: float = 0.1
    exclude_nan: bool = True
    exclude_nopositive: bool = False


class DatasetConfig(dg.Config):
    """Which samples make a set.

    Attributes:
        dataset: name of the set.
        samples: image ids; none: all that have been made.
    """

    dataset: str = "default"
    samples: list[str] = []  # noqa: RUF012


def build_training_data() -> list[dg.AssetsDefinition]:
    """The assets that make training sets."""
    return [_planet_samples, _dataset]


@dg.asset(
    **of_training(PLANET_SAMPLES, "samples"),
    deps=[IMAGES],
    partitions_def=PLANET.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of a labelled Planet image, of its preprocessed tile (materialize that first).",
)
@measured
def _planet_samples(
    context: dg.AssetExecutionContext, config: SamplesConfig, store: Store
) -> dg.MaterializeResult[None]:
    image = context.partition_key
    with domain_call(context.log):
        from darts_assets.training.labelled_images import flavour_of

        flavour = flavour_of(store.root.child("training", config.dataset), image)
        builder = set_builder(store, config, [image], flavour, context.log.warning)
        builder.archive.footprint(image)  # else nothing is known of it
        tile, version = preprocessed(store, PLANET, image)
        record = builder.add(image, tile, inputs=version)
    facts = provenance(CODE_VERSION, config.model_dump(), preprocessed_tile=version, sample=record.fingerprint)
    said = {
        "path": dg.MetadataValue.path(builder.store.sample(image).location.url),
        "flavour": flavour,
        "region": str(builder.regions.get(image, "none")),
        "outlines": len(builder.archive.of_image(image)),
        "patches": record.patches,
        "dropped": record.dropped,
        "left_out": list(builder.archive.problems),
    }
    return materialized(said, facts)


@dg.asset(
    **of_training(DATASET),
    deps=[PLANET_SAMPLES, SENTINEL2_SAMPLES],
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="A set of the patches of many images, one array of inputs and one of labels.",
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
    said: dict[str, Any] = {
        "path": dg.MetadataValue.path(summary.location.url),
        "patches": summary.patches,
        "with_slumps": summary.positive,
        "samples": len(summary.samples),
        "dropped": summary.dropped,
        "regions": dg.MetadataValue.table(_by_region(table)),
        "data_hash": summary.data_hash,
    }
    return materialized(said, facts)


def set_builder(
    store: Store, config: SamplesConfig, images: Sequence[str], flavour: "Flavour", warn: Callable[[str], None]
) -> "SetBuilder":
    """What makes the samples of some images; warns of labels that cannot be used."""
    import pandas as pd

    from darts_assets.training.label_cache import archive_of
    from darts_assets.training.patches import PatchParameters
    from darts_assets.training.regions import read_regions, regions_of
    from darts_assets.training.set_builder import SetBuilder
    from darts_assets.training.set_store import TrainingSetStore

    kept = store.root.child("training", config.dataset, "labels")
    archive = archive_of(images, config.labels, kept, match_prefix=config.match_prefix)
    for problem in archive.problems:
        warn(problem)
    regions = pd.Series(dtype=str)
    footprints = archive.footprints.set_index("image_id")
    if config.regions and len(footprints):
        regions = regions_of(footprints, read_regions(config.regions, footprints))
    cut = {"patch_size", "overlap", "min_visible", "exclude_nan", "exclude_nopositive"}
    parameters = PatchParameters(bands=tuple(config.bands), **config.model_dump(include=cut))
    training_set = TrainingSetStore(store.root.child("training", config.dataset))
    return SetBuilder(archive, regions, training_set, parameters, flavour)


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
