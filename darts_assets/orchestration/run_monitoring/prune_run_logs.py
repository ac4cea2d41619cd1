"""Job that deletes the logs of old successful runs; materializations and the status of partitions are kept."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.dagster_compat import delete_run_logs
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import op_tags

_RUNS_PER_PAGE = 100


class PruneConfig(dg.Config):
    """Runs whose logs are deleted."""

    older_than_days: float = Field(
        default=30.0, ge=1, description="Days since the end of the runs; logs of failed and canceled runs are kept."
    )


def prune_logs(instance: dg.DagsterInstance, ended_before: dt.datetime, progress: Callable[[str], None]) -> int:
    """Delete the logs of the successful runs that ended before a moment.

    The runs, their materializations and checks stay. Their events of steps, messages and captured output are deleted.

    Args:
        instance: the instance.
        ended_before: with time zone.
        progress: called with a line after each hundred runs.

    Returns:
        The number of freed bytes (SQLite) or deleted events (PostgreSQL).
    """
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=ended_before)
    deleted, done, cursor = 0, 0, None
    while page := instance.get_run_records(filters, limit=_RUNS_PER_PAGE, cursor=cursor):
        cursor = page[-1].dagster_run.run_id
        deleted += delete_run_logs(instance, [record.dagster_run.run_id for record in page])
        done += len(page)
        progress(f"{done} runs examined")
    return deleted


@dg.op(out=dg.Out(dg.Nothing), tags=op_tags("job"), description="Deletes the logs of old successful runs.")
def delete_old_logs(context: dg.OpExecutionContext, config: PruneConfig) -> None:
    """Delete the logs of the runs that ended long enough ago."""
    with domain_call(context.log):
        moment = dt.datetime.now(dt.UTC) - dt.timedelta(days=config.older_than_days)
        deleted = prune_logs(context.instance, moment, context.log.info)
    context.add_output_metadata(as_metadata({"deleted": deleted}))


@dg.job(
    description="Deletes the logs of successful runs that ended more than `older_than_days` ago (30). "
    "Materializations, checks and the status of partitions are kept."
)
def prune_run_logs() -> None:
    """Delete the logs of old runs."""
    delete_old_logs()
