"""Partition definitions and scene families. The dynamic partitions are the registered scenes and chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.orchestration.core.pod_resources import SCENE_POOL, op_tags

if TYPE_CHECKING:
    from darts_assets.sources import SceneSource

OWNER = "team:darts"

STEPS = ("raw_scene", "auxiliary", "preprocessed_tile", "segmentation", "polygons", "products")
"""Names of the steps of a scene chain, in order."""

CHUNK_PARTITIONS: dict[AuxiliaryLayer, dg.DynamicPartitionsDefinition] = {
    layer: dg.DynamicPartitionsDefinition(name=f"{layer}_chunk") for layer in AUXILIARY_LAYERS
}
CHUNK_KEYS: dict[AuxiliaryLayer, dg.AssetKey] = {
    layer: dg.AssetKey(["aux", f"{layer}_chunk"]) for layer in AUXILIARY_LAYERS
}
"""Layer -> asset with one partition per chunk of its cubes: `10m-r0123-c0456`, `2m-r0615-c2280`."""


class AssetArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    partitions_def: dg.PartitionsDefinition[str]
    group_name: str
    owners: list[str]
    op_tags: dict[str, Any]
    tags: dict[str, str]


@dataclass(frozen=True)
class SceneFamily:
    """Scenes that are processed alike; the argument of the chain's factories.

    Attributes:
        name: first part of the asset keys, and a folder in the store.
        partitions: one partition per scene; the key is the scene's id.
        arcticdem_resolution: resolution of the ArcticDEM cube for these scenes, metres.
        load_source: imports and returns the source of these scenes; definitions load fast without it.
        pool: pool of the steps that fetch scenes.
        prepare_job: the job that fetches scenes and the chunks under them, for messages.
    """

    name: str
    partitions: dg.DynamicPartitionsDefinition
    arcticdem_resolution: int
    load_source: "Callable[[], SceneSource]"
    pool: str
    prepare_job: str

    def key(self, step: str) -> dg.AssetKey:
        """The asset key of a step of the chain."""
        return dg.AssetKey([self.name, step])

    def asset(self, step: str) -> AssetArguments:
        """Arguments of `dg.asset` that the assets of the chain share."""
        return {
            "key": self.key(step),
            "partitions_def": self.partitions,
            "group_name": self.name,
            "owners": [OWNER],
            "op_tags": op_tags(step),
            "tags": {"darts/family": self.name, "darts/step": step},
        }


def _sentinel2_source() -> "SceneSource":
    from darts_assets.sources import ANY_SCENES

    return ANY_SCENES


def _planet_source() -> "SceneSource":
    from darts_assets.sources.planet import PLANET_SCENES

    return PLANET_SCENES


SENTINEL2 = SceneFamily(
    name="sentinel2",
    partitions=dg.DynamicPartitionsDefinition(name="sentinel2_scene"),
    arcticdem_resolution=10,
    load_source=_sentinel2_source,
    pool=SCENE_POOL,
    prepare_job="prepare_data",
)

PLANET = SceneFamily(
    name="planet",
    partitions=dg.DynamicPartitionsDefinition(name="planet_image"),
    arcticdem_resolution=2,
    load_source=_planet_source,
    pool="planet",
    prepare_job="prepare_planet_data",
)

FAMILIES = {family.name: family for family in (SENTINEL2, PLANET)}


def all_scenes(step: str) -> list[dg.AssetDep]:
    """Edges from a step of all chains to an asset that is made from all scenes; they show lineage and trigger nothing.

    Select the assets of a scene by their group (`group:"sentinel2"`): `+` includes what is made from all scenes.
    """
    return [dg.AssetDep(family.key(step), partition_mapping=dg.AllPartitionMapping()) for family in FAMILIES.values()]
