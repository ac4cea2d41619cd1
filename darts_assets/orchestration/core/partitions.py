"""Partition definitions, and what a family of scenes is. Dynamic partitions are the registry of work."""

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

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
"""The assets whose partitions are the chunks of a layer's cubes, all of them: `10m-r0123-c0456`, `2m-r0615-c2280`."""


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
    """Scenes that go through the chain in the same way; the one argument of the chain's factories.

    Attributes:
        name: first part of the asset keys, and a folder in the store.
        partitions: one partition per scene, its key the scene's id.
        arcticdem_resolution: metres of the ArcticDEM cube that suits the pixels of these scenes.
        source: where scenes come from, as `module:object` (resolved late, so that definitions load fast).
        pool: of the steps that fetch scenes.
        prepare_job: the job that fetches scenes and what lies under them, for messages.
    """

    name: str
    partitions: dg.DynamicPartitionsDefinition
    arcticdem_resolution: int
    source: str
    pool: str
    prepare_job: str

    def key(self, step: str) -> dg.AssetKey:
        """The asset key of a step of the chain."""
        return dg.AssetKey([self.name, step])

    def asset(self, step: str) -> AssetArguments:
        """What the assets of the chain have in common, as arguments of `dg.asset`."""
        return {
            "key": self.key(step),
            "partitions_def": self.partitions,
            "group_name": self.name,
            "owners": [OWNER],
            "op_tags": op_tags(step),
            "tags": {"darts/family": self.name, "darts/step": step},
        }

    def load_source(self) -> "SceneSource":
        """The source of these scenes."""
        return cast("SceneSource", pkgutil.resolve_name(self.source))


SENTINEL2 = SceneFamily(
    name="sentinel2",
    partitions=dg.DynamicPartitionsDefinition(name="sentinel2_scene"),
    arcticdem_resolution=10,
    source="darts_assets.sources:ANY_SCENES",
    pool=SCENE_POOL,
    prepare_job="prepare_data",
)

PLANET = SceneFamily(
    name="planet",
    partitions=dg.DynamicPartitionsDefinition(name="planet_image"),
    arcticdem_resolution=2,
    source="darts_assets.sources.planet:PLANET_SCENES",
    pool="planet",
    prepare_job="prepare_planet_data",
)

FAMILIES = {family.name: family for family in (SENTINEL2, PLANET)}
