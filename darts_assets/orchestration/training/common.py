"""Asset keys and shared functions of the group `training`."""

from typing import TYPE_CHECKING, Any, TypedDict

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig
from darts_assets.orchestration.core.partitions import OWNER, SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

IMAGES = dg.AssetKey(["training", "images"])
PLANET_SAMPLES = dg.AssetKey(["training", "planet_samples"])
MATCHES = dg.AssetKey(["training", "matches"])
SENTINEL2_SAMPLES = dg.AssetKey(["training", "sentinel2_samples"])
SCENES = dg.AssetKey(["training", "scenes"])
POLYGON_SAMPLES = dg.AssetKey(["training", "polygon_samples"])
REVIEWED_SAMPLES = dg.AssetKey(["training", "reviewed_samples"])
DATASET = dg.AssetKey(["training", "dataset"])
MODEL = dg.AssetKey(["training", "model"])
FOLDS = dg.AssetKey(["training", "folds"])
CROSS_VALIDATION = dg.AssetKey(["training", "cross_validation"])
TUNING = dg.AssetKey(["training", "tuning"])
REPORT = dg.AssetKey(["training", "report"])

MAX_ROWS = 100
"""Maximum number of rows or names in metadata."""


class LabelsConfig(StepConfig):
    """Label archive and name of the dataset."""

    labels: str = Field(description="Folder of a label archive: a path, or `s3://bucket/prefix`.")
    match_prefix: bool = Field(
        False, description="Assign outlines whose image id lacks its last character to the only image that it fits."
    )
    dataset: str = Field("default", description="Name of the dataset.")


class TrainingArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    op_tags: dict[str, Any]


def training_asset(key: dg.AssetKey, needs: str = "") -> TrainingArguments:
    """Shared arguments of `dg.asset`.

    Args:
        key: asset key.
        needs: row of `pod_resources.NEEDS`; default: the last part of the key.
    """
    return {"key": key, "group_name": key.path[0], "owners": [OWNER], "op_tags": op_tags(needs or key.path[-1])}


def expert_table(pairs: "pd.DataFrame") -> dg.MetadataValue[Any]:
    """The agreement of pairs of experts as a table, see `Agreement.pairs`; at most `MAX_ROWS`."""
    rows = pairs.head(MAX_ROWS).to_dict("records")
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "expert": str(row["expert"]),
                    "other": str(row["other"]),
                    "iou": "undefined" if row["either"] == 0 else round(float(row["iou"]), 3),
                }
            )
            for row in rows
        ]
    )


def read_preprocessed(store: Store, family: SceneFamily, partition: str) -> "tuple[xr.Dataset, str]":
    """Preprocessed tile as a lazy dataset, and its data version.

    Raises:
        NotReadableError: if the tile has not been materialized, or was released.
    """
    from darts_assets.stores.tile_retention import require_tile
    from darts_assets.stores.tiles import read_tile

    place = store.place("tiles", *family.key("preprocessed_tile").path, partition)
    manifest = require_tile(store.root, place, family.name, "preprocessed_tile", partition)
    return read_tile(place, manifest=manifest), str(manifest.metadata["provenance"]["data_version"])
