"""Job that expires the history of the auxiliary cubes."""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from darts_assets.errors import StoreError
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import op_tags


class ExpireConfig(dg.Config):
    """Cubes and snapshots to expire."""

    older_than_days: float = Field(30.0, description="Days since the replacement of expired snapshots; at least 1.")
    cubes: list[str] = Field([], description="Cubes, such as arcticdem_10m. Default: all in the store.")


@dg.op(
    out=dg.Out(dg.Nothing), tags=op_tags("job"), description="Expires old snapshots and removes unreferenced objects."
)
def expire_history(context: dg.OpExecutionContext, config: ExpireConfig, cubes: AuxiliaryCubes) -> None:
    """Expire old snapshots of cubes; the chunks are kept."""
    metadata = {}
    with domain_call(context.log):
        _require_single_run(context)
        chosen = [cubes.cube_named(name) for name in config.cubes] or cubes.existing()
        for cube in chosen:
            removed = cube.expire(timedelta(days=config.older_than_days))
            metadata[cube.spec.name] = {
                "snapshots": removed.snapshots, "objects": removed.objects, "bytes": removed.bytes
            }  # fmt: skip
            context.log.info(
                f"{cube.spec.name}: {removed.snapshots} snapshots expired, {removed.objects} objects "
                f"({removed.bytes / 1e6:.1f} MB) removed"
            )
        if not chosen:
            context.log.info("the store contains no cubes")
    context.add_output_metadata(as_metadata(metadata))


def _require_single_run(context: dg.OpExecutionContext) -> None:
    """Raise StoreError if another run of the job is active: a cube must not be expired by two processes at once."""
    active = dg.RunsFilter(
        job_name=context.job_name, statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    )
    others = [run.run_id for run in context.instance.get_runs(active) if run.run_id != context.run_id]
    if others:
        raise StoreError(f"run {others[0]} is already expiring the history; wait for it, or cancel it if it is dead")


@dg.job(description="Expires old snapshots of the auxiliary cubes and removes objects that no snapshot refers to.")
def expire_cube_history() -> None:
    """Expire the history of the auxiliary cubes."""
    expire_history()
