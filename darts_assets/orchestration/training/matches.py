"""Assets `training/matches` and `training/sentinel2_samples`: labels of Planet images transferred to Sentinel-2 scenes.

`matches` selects a scene for each labelled image. The scenes are registered and preprocessed like any other; then
`sentinel2_samples` cuts the patches of all images that a scene is matched to.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2
from darts_assets.orchestration.core.resources import Provider, SceneCatalogs, Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_discovery.selection import write_ids
from darts_assets.orchestration.training.common import (
    MATCHES,
    MAX_ROWS,
    SENTINEL2_SAMPLES,
    LabelsConfig,
    read_preprocessed,
    training_asset,
)
from darts_assets.orchestration.training.dataset import SamplesConfig, set_builder
from darts_assets.training.sample_parameters import MatchParameters

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from darts_assets.stores.location import StoreLocation

CODE_VERSION = "1"


class MatchesConfig(LabelsConfig, MatchParameters):
    """Which scenes may stand for images."""

    source: str | None = Field(
        None, description="`cdse` or `earth_search`; null: the default catalog of `discover_scenes`."
    )
    refresh: bool = Field(False, description="Query the catalog again instead of using its cached answers.")
    write_ids: str = Field(
        "", description="JSON file for the scene ids, for `ids_file` of `discover_scenes`: a path, or `s3://`."
    )


class MatchedSamplesConfig(SamplesConfig):
    """How patches are cut from scenes that stand for images."""

    align: bool = Field(True, description="Move labels by the measured shift between image and scene.")


def build_training_matched() -> list[dg.AssetsDefinition]:
    """The assets that transfer labels to Sentinel-2 scenes."""
    return [_matches, _sentinel2_samples]


@dg.asset(
    **training_asset(MATCHES),
    kinds={"parquet"},
    code_version=CODE_VERSION,
    description="Best matching Sentinel-2 scene of each labelled image, and the scores of all candidates.",
)
@measured
def _matches(
    context: dg.AssetExecutionContext, config: MatchesConfig, store: Store, catalogs: SceneCatalogs
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.labels import read_archive
        from darts_assets.training.matching import best_matches, match, unmatched

        footprints = read_archive(config.labels, match_prefix=config.match_prefix).footprints
        provider = _provider(config.source, catalogs)
        scores = match(
            footprints, catalogs.open(provider, ""), _cache(store, config.dataset), config,
            catalog_name=provider, refresh=config.refresh,
            progress=lambda done, total: context.log.info(f"{done} of {total} footprints matched"),
        )  # fmt: skip
        best, unmatched_images = best_matches(scores), unmatched(footprints, scores)
        scene_ids = sorted(set(best.values()))
        if config.write_ids and scene_ids:
            write_ids(config.write_ids, scene_ids, store)
    facts = provenance(CODE_VERSION, config.model_dump(exclude={"refresh", "write_ids"}), matches=_version(best))
    metadata = {
        "images": len(footprints),
        "matched": len(best),
        "unmatched": unmatched_images[:MAX_ROWS],
        "scenes": scene_ids[:MAX_ROWS],
        **({"best": dg.MetadataValue.table(_rows(scores))} if best else {}),
    }
    return materialize_result(metadata, facts)


@dg.asset(
    **training_asset(SENTINEL2_SAMPLES, "samples"),
    deps=[MATCHES, SENTINEL2.key("preprocessed_tile")],
    partitions_def=SENTINEL2.partitions,
    kinds={"zarr"},
    code_version=CODE_VERSION,
    description="Patches of the preprocessed tile of a Sentinel-2 scene, with the labels of all images matched to it.",
)
@measured
def _sentinel2_samples(
    context: dg.AssetExecutionContext, config: MatchedSamplesConfig, store: Store, catalogs: SceneCatalogs
) -> dg.MaterializeResult[None]:
    scene = context.partition_key
    with domain_call(context.log):
        from dataclasses import replace

        from darts_assets.training.matching import read_scores

        scores = read_scores(_cache(store, config.dataset))
        matched = scores[scores["best"].astype(bool) & (scores["scene_id"] == scene)]
        images = [str(name) for name in matched["image_id"]]
        builder = set_builder(store, config, images, "sentinel2", context.log.warning, offline=catalogs.offline)
        builder = builder if config.align else replace(builder, alignment=None)
        tile, version = read_preprocessed(store, SENTINEL2, scene)
        records = {}
        for image, row in zip(images, matched.to_dict("records"), strict=True):
            image_band, image_version = _image_band(store, image, builder.alignment.band if builder.alignment else None)
            match = {name: float(row[name]) for name in ("score", "days", "cloud_cover", "overlap")}
            inputs = f"{version} {image_version}"
            records[image] = builder.add_matched(image, scene, tile, image_band, inputs, match)
    facts = provenance(
        CODE_VERSION, config.model_dump(), preprocessed_tile=version,
        **{image: record.fingerprint for image, record in records.items()},
    )  # fmt: skip
    metadata: dict[str, Any] = {
        "images": images,
        "patches": {image: record.patches for image, record in records.items()},
        "dropped": {image: record.dropped for image, record in records.items()},
    }
    if not images:
        context.log.warning(f"{scene} is not matched to any image of dataset {config.dataset}")
    return materialize_result(metadata, facts)


def _cache(store: Store, dataset: str) -> "StoreLocation":
    return store.root.child("training", dataset, "matches")


def _provider(source: str | None, catalogs: SceneCatalogs) -> Provider:
    from darts_assets.errors import SettingsError

    if source is None:
        return catalogs.default()[0]
    if source == "cdse":
        return "cdse"
    if source == "earth_search":
        return "earth_search"
    raise SettingsError(f"source is {source!r}: expected cdse or earth_search")


def _image_band(store: Store, image: str, band: str | None) -> "tuple[xr.DataArray | None, str]":
    """Band of a preprocessed Planet image for alignment, with its version; (None, "") if it is not preprocessed."""
    if band is None or store.place("tiles", *PLANET.key("preprocessed_tile").path, image).manifest() is None:
        return None, ""
    tile, version = read_preprocessed(store, PLANET, image)
    return tile[band], version


def _version(best: dict[str, str]) -> str:
    return " ".join(f"{image}={scene}" for image, scene in sorted(best.items()))


def _rows(scores: "pd.DataFrame") -> Sequence[dg.TableRecord]:
    best = scores[scores["best"].astype(bool)].head(MAX_ROWS)
    columns = ["image_id", "scene_id", "cloud_cover", "overlap", "days", "score"]
    return [
        dg.TableRecord({name: row[name] if isinstance(row[name], str) else float(row[name]) for name in columns})
        for row in best.to_dict("records")
    ]
