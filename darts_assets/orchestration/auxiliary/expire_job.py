"""Shortening the history of the auxiliary cubes."""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from darts_assets.errors import StoreError
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata


class ExpireConfig(dg.Config):
    """Which history."""

    older_than_days: float = Field(
        default=30.0, description="Snapshots that were replaced longer ago than this go; at least 1."
    )
    cubes: list[str] = Field(default=[], description="Names such as arcticdem_10m. Default: all that are in the store.")


@dg.op(out=dg.Out(dg.Nothing), description="Expires old snapshots and removes what nothing refers to any more.")
def expire_history(context: dg.OpExecutionContext, config: ExpireConfig, cubes: AuxiliaryCubes) -> None:
    """Shorten the history of cubes; the chunks stay."""
    said = {}
    with domain_call(context.log):
        _refuse_company(context)
        chosen = [cubes.cube_named(name) for name in config.cubes] or cubes.existing()
        for cube in chosen:
            gone = cube.expire(timedelta(days=config.older_than_days))
            said[cube.spec.name] = {"snapshots": gone.snapshots, "objects": gone.objects, "bytes": gone.bytes}
            context.log.info(
                f"{cube.spec.name}: {gone.snapshots} snapshots expired, {gone.objects} objects "
                f"({gone.bytes / 1e6:.1f} MB) removed"
            )
        if not chosen:
            context.log.info("there are no cubes in the store")
    context.add_output_metadata(as_metadata(said))


def _refuse_company(context: dg.OpExecutionContext) -> None:
    """Two processes must not shorten the history of one cube at once; raises StoreError."""
    working = dg.RunsFilter(
        job_name=context.job_name, statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    )
    others = [run.run_id for run in context.instance.get_runs(working) if run.run_id != context.run_id]
    if others:
        raise StoreError(f"run {others[0]} is shortening the history already; wait for it, or cancel it if it is dead")


@dg.job(description="Shortens the history of the auxiliary cubes: old snapshots, and what no snapshot refers to, go.")
def expire_cube_history() -> None:
    """Shorten the history of the auxiliary cubes."""
    expire_history()
