"""Jobs: the chain for a scene, and registering scenes by their STAC items."""

from typing import TYPE_CHECKING

import dagster as dg

from darts_assets.orchestration.metadata import as_metadata, domain_call
from darts_assets.orchestration.partitions import SENTINEL2, SceneFamily
from darts_assets.orchestration.resources import SceneRegistry

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

STEPS = ("raw_scene", "auxiliary", "preprocessed_tile", "segmentation", "polygons", "products")


def build_jobs(family: SceneFamily) -> "list[dg.JobDefinition | UnresolvedAssetJobDefinition]":
    """The jobs of a family."""
    chain = dg.define_asset_job(
        f"{family.name}_chain",
        selection=dg.AssetSelection.assets(*(family.key(step) for step in STEPS)),
        partitions_def=family.partitions,
        description="One scene from its item to its products.",
    )
    return [chain, register_scenes]


class RegisterConfig(dg.Config):
    """Which scenes.

    Attributes:
        items: paths or URLs (`https://`, `s3://`) of STAC items.
    """

    items: list[str]


@dg.op(description="Reads STAC items, keeps them, and adds a partition for each scene.")
def register(context: dg.OpExecutionContext, config: RegisterConfig, scenes: SceneRegistry) -> list[str]:
    """Register the scenes of `config.items`; all or none."""
    with domain_call(context.log):
        ids = register_items(context.instance, scenes, SENTINEL2, config.items)
    context.add_output_metadata(as_metadata({"scenes": ids}))
    return ids


@dg.job(description="Adds scenes, by their STAC items, to the partitions of the Sentinel-2 chain.")
def register_scenes() -> None:
    """Register scenes by their items."""
    register()


def register_items(
    instance: dg.DagsterInstance, scenes: SceneRegistry, family: SceneFamily, hrefs: list[str]
) -> list[str]:
    """Read and keep items, then add their partitions; returns scene ids in the order of the items.

    Raises:
        SceneError: naming each item that cannot be used; then nothing is registered.
    """
    registered = scenes.register(family, hrefs)
    ids = [scene.id for scene in registered]
    # Backfills batch partitions in the order of registration: neighbours in space and time belong together.
    ordered = sorted(registered, key=lambda scene: (scene.tile or "", scene.datetime))
    instance.add_dynamic_partitions(str(family.partitions.name), [scene.id for scene in ordered])
    return ids
