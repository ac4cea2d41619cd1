"""The group `training`: the keys of its assets, and what these have in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import dagster as dg

from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import OWNER, SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store

if TYPE_CHECKING:
    import xarray as xr

IMAGES = dg.AssetKey(["training", "images"])
PLANET_SAMPLES = dg.AssetKey(["training", "planet_samples"])
MATCHES = dg.AssetKey(["training", "matches"])
SENTINEL2_SAMPLES = dg.AssetKey(["training", "sentinel2_samples"])
DATASET = dg.AssetKey(["training", "dataset"])
MODEL = dg.AssetKey(["training", "model"])
REPORT = dg.AssetKey(["training", "report"])

SHOWN = 100
"""Rows of a table, or names of a list, in the event log."""


class LabelsConfig(dg.Config):
    """Where labels are, and what they are for.

    Attributes:
        labels: folder of a label archive.
        match_prefix: whether outlines whose image id lost its last character are taken for the one image they fit.
        dataset: name of the set.
    """

    labels: str
    match_prefix: bool = False
    dataset: str = "default"


class TrainingArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    op_tags: dict[str, Any]


def of_training(key: dg.AssetKey, needs: str = "") -> TrainingArguments:
    """What the assets of the group have in common, as arguments of `dg.asset`.

    Args:
        key: of the asset.
        needs: the row of `compute.NEEDS`; by default the one with the asset's name.
    """
    return {"key": key, "group_name": key.path[0], "owners": [OWNER], "op_tags": op_tags(needs or key.path[-1])}


def materialized(said: Mapping[str, Any], facts: Mapping[str, Any]) -> dg.MaterializeResult[None]:
    """The end of an asset that has written its output itself: what it says, and `provenance` of it."""
    version = dg.DataVersion(facts["data_version"])
    return dg.MaterializeResult(metadata=as_metadata({**said, "provenance": facts}), data_version=version)


def preprocessed(store: Store, family: SceneFamily, partition: str) -> "tuple[xr.Dataset, str]":
    """A preprocessed tile, lazily, and its version.

    There is no edge in the graph for that: what is selected downstream of a scene (`+`) is its map, not a training set
    that the scene may be part of.

    Raises:
        NotReadableError: if it has not been materialized.
    """
    from darts_assets.stores.tiles import read_tile

    place = store.place("tiles", *family.key("preprocessed_tile").path, f"{partition}.zarr")
    return read_tile(place), str(place.require().metadata["provenance"]["data_version"])
