"""Schedules, off at first: what is brought up to date every night, for who wants it."""

import dagster as dg


def build_schedules() -> list[dg.ScheduleDefinition]:
    """The schedules."""
    return [
        dg.ScheduleDefinition(
            name="publish_catalog_nightly",
            job_name="publish_catalog",
            cron_schedule="0 3 * * *",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Publishes the results of the day: the assets of the group `catalog`, at three o'clock (UTC).",
        ),
        update_inventory_nightly,
    ]


@dg.schedule(job_name="update_inventory", cron_schedule="0 4 * * *", default_status=dg.DefaultScheduleStatus.STOPPED)
def update_inventory_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Updates the inventory of the present year: the assets of the group `inventory`, at four o'clock (UTC)."""
    day = f"{context.scheduled_execution_time:%Y-%m-%d}"
    return dg.RunRequest(run_key=day, partition_key=day[:4])
