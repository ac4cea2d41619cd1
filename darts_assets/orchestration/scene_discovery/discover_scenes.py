"""Finding scenes in catalogs, and Planet images in folders. They become partitions of their chains."""

from collections.abc import Callable
from functools import partial

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import FoundScenes, find_and_register
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders, PlanetChoice, find_images
from darts_assets.orchestration.scene_discovery.scene_id_file import write_ids
from darts_assets.orchestration.scene_discovery.selection import SceneChoice

_SHOWN = 20  # problems; the metadata have all


class _Outcome(dg.Config):
    """What to do with the scenes that are found."""

    dry_run: bool = Field(default=False, description="Only say what matches; nothing is registered.")
    write_ids: str = Field(
        default="", description="JSON file for the ids of all matches, also of a dry run: a path, or s3://."
    )


class DiscoverConfig(_Outcome, SceneChoice):
    """Which scenes, and what to do with them."""


class DiscoverPlanetConfig(_Outcome, PlanetChoice):
    """Which Planet images, and what to do with them."""


@dg.op(out=dg.Out(dg.Nothing), description="Asks catalogs for scenes, keeps their items, and adds their partitions.")
def find_scenes(
    context: dg.OpExecutionContext, config: DiscoverConfig, scenes: SceneRegistry, catalogs: SceneCatalogs
) -> None:
    """Find and register scenes; fails at the end if something was wrong with the choice."""
    _find(context, config, scenes, partial(find_and_register, config, catalogs=catalogs))


@dg.op(out=dg.Out(dg.Nothing), description="Looks for Planet images in folders, and adds their items and partitions.")
def find_planet_images(
    context: dg.OpExecutionContext, config: DiscoverPlanetConfig, scenes: SceneRegistry, deliveries: DeliveryFolders
) -> None:
    """Find and register images; fails at the end if a folder is not as it must be."""
    _find(context, config, scenes, partial(find_images, config, deliveries=deliveries))


def _find(
    context: dg.OpExecutionContext, config: _Outcome, scenes: SceneRegistry, find: Callable[..., FoundScenes]
) -> None:
    with domain_call(context.log):
        found = find(instance=context.instance, scenes=scenes, dry_run=config.dry_run, log=context.log.info)
        if config.write_ids and found.registered.scene_ids:
            write_ids(config.write_ids, found.registered.scene_ids, scenes.store)
            context.log.info(f"{len(found.registered.scene_ids)} ids written to {config.write_ids}")
        context.log.info(found.sentence)
        metadata = {**found.metadata(), "dry_run": dg.MetadataValue.bool(config.dry_run)}
    for scene_id, reason in list(found.registered.unusable.items())[:_SHOWN]:
        context.log.warning(f"{scene_id} is left out: {reason}")
    if problems := found.problems:
        said = problems[:_SHOWN] + ([f"and {len(problems) - _SHOWN} more problems"] if len(problems) > _SHOWN else [])
        raise dg.Failure("; ".join([*said, found.sentence]), metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)


@dg.job(description="Finds scenes by ids, MGRS tiles or an area (AOI), with filters, and registers them.")
def discover_scenes() -> None:
    """Find scenes and register them."""
    find_scenes()


@dg.job(description="Finds Planet images in folders or buckets, by ids, area (AOI) and days, and registers them.")
def discover_planet_images() -> None:
    """Find Planet images and register them."""
    find_planet_images()
