"""Registering scenes by their STAC items, Planet images by their folders."""

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registration import register_places


class RegisterConfig(dg.Config):
    """Which scenes.

    Attributes:
        items: paths or URLs (`https://`, `s3://`) of STAC items; folders of Planet images (`s3://` with a slash at its
            end).
    """

    items: list[str]


@dg.op(description="Reads STAC items, keeps them, and adds a partition for each scene.")
def register(context: dg.OpExecutionContext, config: RegisterConfig, scenes: SceneRegistry) -> list[str]:
    """Register the scenes of `config.items`; all of a family, or none."""
    with domain_call(context.log):
        registered = register_places(context.instance, scenes, config.items)
    ids = [scene_id for of_family in registered.values() for scene_id in of_family]
    context.add_output_metadata(as_metadata({"scenes": ids}))
    return ids


@dg.job(description="Adds scenes, by their STAC items (of Planet: by their folders), to the partitions of their chain.")
def register_scenes() -> None:
    """Register scenes by their items."""
    register()
