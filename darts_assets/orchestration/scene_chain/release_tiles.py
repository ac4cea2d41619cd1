"""Job that releases the tiles of finished scenes, to save space."""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.dagster_compat import planned_partitions
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import FAMILIES, STEPS
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store

PARTITION_TAG = "dagster/partition"
_LISTED = 10
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


class ReleaseConfig(dg.Config):
    """The tiles to release."""

    keep: str = Field(default="", description="As DARTS_KEEP_TILES, which is the default.")


@dg.op(out=dg.Out(dg.Nothing), tags=op_tags("job"), description="Releases the tiles of finished scenes.")
def release_old_tiles(context: dg.OpExecutionContext, config: ReleaseConfig, store: Store) -> None:
    """Release tiles by the retention of each step, and record an observation of each."""
    from darts_assets.stores.tile_retention import command, parse_retention, release_tiles

    with domain_call(context.log):
        try:
            days = parse_retention(config.keep or store.keep_tiles)
        except ValueError as error:
            raise SettingsError(f"keep: {error}") from None
        if not days:
            context.log.info("DARTS_KEEP_TILES is `all`: no tile is released")
            return
        done = release_tiles(
            store.root, FAMILIES, days, timedelta(hours=store.keep_replaced_hours),
            busy=_busy_scenes(context), progress=context.log.info,
        )  # fmt: skip
    for family, step, scene in done.tiles:
        metadata = as_metadata({"released": True, "made again by": command(family, [step], scene)})
        context.log_event(dg.AssetObservation(FAMILIES[family].key(step), partition=scene, metadata=metadata))
    context.log.info(f"{done.scenes} scenes, {len(done.tiles)} tiles released, {done.removed} removed")
    context.add_output_metadata(
        as_metadata({"scenes": done.scenes, "released": len(done.tiles), "removed": done.removed})
    )
    if done.problems:
        shown = "; ".join(f"{scene}: {why}" for scene, why in list(done.problems.items())[:_LISTED])
        raise dg.Failure(f"tiles of {len(done.problems)} scenes could not be released: {shown}", allow_retries=False)


def _busy_scenes(context: dg.OpExecutionContext) -> set[str]:
    """The scenes of runs that have not ended."""
    busy: set[str] = set()
    for run in context.instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if partition := run.tags.get(PARTITION_TAG):
            busy.add(partition)
        elif run.run_id != context.run_id:
            for family in FAMILIES.values():
                for step in STEPS:
                    busy |= planned_partitions(context.instance, run, family.key(step))
    return busy


@dg.job(
    description="Frees the space of tiles whose products are made, by DARTS_KEEP_TILES. Their partitions stay "
    "materialized, with provenance; the error of a step that needs a released tile has the command that makes it again."
)
def release_tiles() -> None:
    """Release tiles of finished scenes."""
    release_old_tiles()
