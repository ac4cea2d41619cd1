"""Registering scenes by their STAC items."""

import dagster as dg

from darts_assets.orchestration.metadata import as_metadata, domain_call
from darts_assets.orchestration.partitions import SENTINEL2
from darts_assets.orchestration.registration import register_items
from darts_assets.orchestration.resources import SceneRegistry


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
