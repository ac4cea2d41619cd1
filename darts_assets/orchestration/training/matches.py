"""`training/matches` and `training/sentinel2_samples`: labels drawn on Planet images, on Sentinel-2 scenes.

Which scene stands for which image is found first; its scenes are registered and preprocessed as any other; then each
gives the patches of all images that it stands for.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.source_resources import Provider, SceneCatalogs
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_discovery.selection import write_ids
from darts_assets.orchestration.training.common import (
    MATCHES,
    SENTINEL2_SAMPLES,
    SHOWN,
    LabelsConfig,
    materialized,
    of_training,
    preprocessed,
)
from darts_assets.orchestration.training.dataset import SamplesConfig, set_builder

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from darts_assets.stores.location import StoreLocation

CODE_VERSION = "1"


class MatchesConfig(LabelsConfig):
    """Which scenes may stand for images.

    Attributes:
        source: `cdse` or `earth_search`; none: the one that `discover_scenes` would ask.
        days: between image and scene, at most.
        max_cloud_cover: percent.
        min_overlap: share of the footprint that the scene covers.
        refresh: ask the catalog again for what it has answered before.
        write_ids: JSON file for the ids of the scenes, for `ids_file` of `discover_scenes`: a path, or `s3://`.
    """

    source: str | None = None
    days: float = 7.0
    max_cloud_cover: float = 10.0
    min_overlap: float = 0.7
    refresh: bool = False
    write_ids: str = ""


class MatchedSamplesConfig(SamplesConfig):
    """How patches are cut from scenes that stand for images.

    Attributes:
        align: whether labels are moved by the shift between image and scene, where that can be measured.
    """

    align: bool = True


def build_training_matched() -> list[dg.AssetsDefinition]:
    """The assets that bring labels to Sentinel-2."""
    return [_matches, _sentinel2_samples]


@dg.asset(
    **of_training(MATCHES),
    kinds={"parquet"},
    code_version=CODE_VERSION,
    description="For each labelled image the Sentinel-2 scene that shows the same ground best; all scores are kept.",
)
@measured
def _matches(
    context: dg.AssetExecutionContext, config: MatchesConfig, store: Store, catalogs: SceneCatalogs
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.labels import read_archive
        from darts_assets.training.matching import MatchParameters, best_matches, match, unmatched

        footprints = read_archive(config.labels, match_prefix=config.match_prefix).footprints
        provider = _provider(config.source, catalogs)
        limits = MatchParameters(config.days, config.max_cloud_cover, config.min_overlap)
        scores = match(
            footprints, catalogs.open(provider, ""), _cache(store, config.dataset), limits,
            catalog_name=provider, refresh=config.refresh,
            progress=lambda done, total: context.log.info(f"{done} of {total} footprints matched"),
        )  # fmt: skip
        best, without = best_matches(scores), unmatched(footprints, scores)
        scene_ids = sorted(set(best.values()))
        if config.write_ids and scene_ids:
            write_ids(config.write_ids, scene_ids, store)
    facts = provenance(CODE_VERSION, config.model_dump(exclude={"refresh", "write_ids"}), matches=_version(best))
    said = {
        "images": len(footprints),
        "matched": len(best),
        "unmatched": without[:SHOWN],
        "scenes": scene_ids[:SHOWN],
        **({"best": dg.MetadataValue.table(_rows(scores))} if best else {}),
    }
    return materialized(said, facts)


@dg.asset(
    **of_training(SENTINEL2_SAMPLES, "samples"),
    deps=[MATCHES],
    partitions_def=SENTINEL2.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of all images that a Sentinel-2 scene stands for, of its preprocessed tile.",
)
@measured
def _sentinel2_samples(
    context: dg.AssetExecutionContext, config: MatchedSamplesConfig, store: Store
) -> dg.MaterializeResult[None]:
    scene = context.partition_key
    with domain_call(context.log):
        from dataclasses import replace

        from darts_assets.training.matching import read_scores

        scores = read_scores(_cache(store, config.dataset))
        mine = scores[scores["best"].astype(bool) & (scores["scene_id"] == scene)]
        images = [str(name) for name in mine["image_id"]]
        builder = set_builder(store, config, images, "sentinel2", context.log.warning)
        builder = builder if config.align else replace(builder, alignment=None)
        tile, version = preprocessed(store, SENTINEL2, scene)
        records = {}
        for image, row in zip(images, mine.to_dict("records"), strict=True):
            drawn_on, drawn_version = _drawn_on(store, image, builder.alignment.band if builder.alignment else None)
            match = {name: float(row[name]) for name in ("score", "days", "cloud_cover", "overlap")}
            inputs = f"{version} {drawn_version}"
            records[image] = builder.add_matched(image, scene, tile, drawn_on, inputs, match)
    facts = provenance(
        CODE_VERSION, config.model_dump(), preprocessed_tile=version,
        **{image: record.fingerprint for image, record in records.items()},
    )  # fmt: skip
    said: dict[str, Any] = {
        "images": images,
        "patches": {image: record.patches for image, record in records.items()},
        "dropped": {image: record.dropped for image, record in records.items()},
    }
    if not images:
        context.log.warning(f"{scene} stands for no image of the set {config.dataset}")
    return materialized(said, facts)


def _cache(store: Store, dataset: str) -> "StoreLocation":
    return store.root.child("training", dataset, "matches")


def _provider(named: str | None, catalogs: SceneCatalogs) -> Provider:
    from darts_assets.errors import SettingsError

    if named is None:
        return catalogs.default()[0]
    if named == "cdse":
        return "cdse"
    if named == "earth_search":
        return "earth_search"
    raise SettingsError(f"source is {named!r}, expected cdse or earth_search")


def _drawn_on(store: Store, image: str, band: str | None) -> "tuple[xr.DataArray | None, str]":
    """The band of a Planet image that labels are aligned by, if the image has been preprocessed, and its version."""
    if band is None or store.place("tiles", *PLANET.key("preprocessed_tile").path, f"{image}.zarr").manifest() is None:
        return None, ""
    tile, version = preprocessed(store, PLANET, image)
    return tile[band], version


def _version(best: dict[str, str]) -> str:
    return " ".join(f"{image}={scene}" for image, scene in sorted(best.items()))


def _rows(scores: "pd.DataFrame") -> Sequence[dg.TableRecord]:
    best = scores[scores["best"].astype(bool)].head(SHOWN)
    columns = ["image_id", "scene_id", "cloud_cover", "overlap", "days", "score"]
    return [
        dg.TableRecord({name: row[name] if isinstance(row[name], str) else float(row[name]) for name in columns})
        for row in best.to_dict("records")
    ]
