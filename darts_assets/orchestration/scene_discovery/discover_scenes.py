"""Jobs that search catalogs for scenes, and folders for Planet images, and register them as partitions."""

from collections.abc import Callable
from functools import partial

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, find_and_register
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders, PlanetChoice, find_images
from darts_assets.orchestration.scene_discovery.selection import SceneChoice, write_ids
from darts_assets.redaction import shown

_SHOWN = 20  # problems in the failure message; the metadata contain all


class _OutputConfig(dg.Config):
    """Options for the scenes that match."""

    dry_run: bool = Field(False, description="Report what matches; register nothing.")
    write_ids: str = Field("", description="JSON file for the ids of all matches, also in a dry run: a path, or s3://.")


class DiscoverConfig(_OutputConfig, SceneChoice):
    """Sentinel-2 scenes to search for."""


class DiscoverPlanetConfig(_OutputConfig, PlanetChoice):
    """Planet images to search for."""


@dg.op(
    out=dg.Out(dg.Nothing),
    tags=op_tags("job"),
    description="Searches catalogs for scenes, stores their items, adds their partitions.",
)
def find_scenes(
    context: dg.OpExecutionContext, config: DiscoverConfig, scenes: SceneRegistry, catalogs: SceneCatalogs
) -> None:
    """Find and register scenes; invalid ids and tiles fail the op at the end."""
    _find(context, config, scenes, partial(find_and_register, config, catalogs=catalogs))


@dg.op(
    out=dg.Out(dg.Nothing),
    tags=op_tags("job"),
    description="Searches folders for Planet images, stores items, adds partitions.",
)
def find_planet_images(
    context: dg.OpExecutionContext, config: DiscoverPlanetConfig, scenes: SceneRegistry, deliveries: DeliveryFolders
) -> None:
    """Find and register images; invalid ids and folders fail the op at the end."""
    _find(context, config, scenes, partial(find_images, config, deliveries=deliveries))


def _find(
    context: dg.OpExecutionContext, config: _OutputConfig, scenes: SceneRegistry, find: Callable[..., DiscoveredScenes]
) -> None:
    with domain_call(context.log):
        result = find(instance=context.instance, scenes=scenes, dry_run=config.dry_run, log=context.log.info)
        ids = result.registered.scene_ids
        if config.write_ids and ids:
            write_ids(config.write_ids, ids, scenes.store)
            context.log.info(f"{len(ids)} ids written to {shown(config.write_ids)}")
        context.log.info(result.summary)
        metadata = {**result.metadata(), "dry_run": dg.MetadataValue.bool(config.dry_run)}
    for scene_id, reason in list(result.registered.unusable.items())[:_SHOWN]:
        context.log.warning(f"{scene_id} is not registered: {reason}")
    if problems := result.problems:
        more = [f"and {len(problems) - _SHOWN} more problems"] if len(problems) > _SHOWN else []
        message = "; ".join([*problems[:_SHOWN], *more, result.summary])
        raise dg.Failure(message, metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)


@dg.job(description="Finds Sentinel-2 scenes by ids, MGRS tiles or area (AOI), filters them, and registers them.")
def discover_scenes() -> None:
    """Find scenes and register them."""
    find_scenes()


@dg.job(description="Finds Planet images in folders or buckets, by ids, area (AOI) and time, and registers them.")
def discover_planet_images() -> None:
    """Find Planet images and register them."""
    find_planet_images()
