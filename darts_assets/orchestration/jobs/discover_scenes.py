"""Finding scenes in catalogs: by ids, tiles or an area, with filters. They become partitions of the chain."""

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.found_scenes import find_and_register
from darts_assets.orchestration.id_files import write_ids
from darts_assets.orchestration.metadata import domain_call
from darts_assets.orchestration.resources import SceneRegistry
from darts_assets.orchestration.scene_choice import SceneChoice
from darts_assets.orchestration.source_access import SceneCatalogs


class DiscoverConfig(SceneChoice):
    """Which scenes, and what to do with them."""

    dry_run: bool = Field(default=False, description="Only say what matches; nothing is registered.")
    write_ids: str = Field(
        default="", description="JSON file for the ids of all matches, also of a dry run: a path, or s3://."
    )


@dg.op(out=dg.Out(dg.Nothing), description="Asks catalogs for scenes, keeps their items, and adds their partitions.")
def find_scenes(
    context: dg.OpExecutionContext, config: DiscoverConfig, scenes: SceneRegistry, catalogs: SceneCatalogs
) -> None:
    """Find and register scenes; fails at the end if something was wrong with the choice."""
    with domain_call(context.log):
        found = find_and_register(
            config,
            instance=context.instance,
            scenes=scenes,
            catalogs=catalogs,
            dry_run=config.dry_run,
            log=context.log.info,
        )
        if config.write_ids and found.registered.scene_ids:
            write_ids(config.write_ids, found.registered.scene_ids, scenes.store)
            context.log.info(f"{len(found.registered.scene_ids)} ids written to {config.write_ids}")
        context.log.info(found.sentence)
        metadata = {**found.metadata(), "dry_run": dg.MetadataValue.bool(config.dry_run)}
    for scene_id, reason in list(found.registered.unusable.items())[:20]:
        context.log.warning(f"{scene_id} is left out: {reason}")
    if found.problems:
        raise dg.Failure("; ".join([*found.problems, found.sentence]), metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)


@dg.job(description="Finds scenes by ids, MGRS tiles or an area (AOI), with filters, and registers them.")
def discover_scenes() -> None:
    """Find scenes and register them."""
    find_scenes()
