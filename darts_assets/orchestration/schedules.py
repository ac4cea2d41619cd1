"""Nightly schedules, stopped by default."""

import dagster as dg


def build_schedules() -> list[dg.ScheduleDefinition]:
    """The schedules."""
    return [
        dg.ScheduleDefinition(
            name="release_tiles_nightly",
            job_name="release_tiles",
            cron_schedule="0 2 * * *",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Releases the tiles of finished scenes (DARTS_KEEP_TILES) at 02:00 UTC.",
        ),
        dg.ScheduleDefinition(
            name="publish_catalog_nightly",
            job_name="publish_catalog",
            cron_schedule="0 3 * * *",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Updates the published catalog (group `catalog`) at 03:00 UTC.",
        ),
        dg.ScheduleDefinition(
            name="collect_replaced_versions_nightly",
            job_name="collect_replaced_versions",
            cron_schedule="0 5 * * *",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Removes replaced versions that are old enough at 05:00 UTC.",
        ),
        dg.ScheduleDefinition(
            name="prune_run_logs_nightly",
            job_name="prune_run_logs",
            cron_schedule="0 6 * * *",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Deletes the logs of successful runs that ended more than 30 days ago at 06:00 UTC.",
        ),
        update_inventory_nightly,
    ]


@dg.schedule(job_name="update_inventory", cron_schedule="0 4 * * *", default_status=dg.DefaultScheduleStatus.STOPPED)
def update_inventory_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Updates the inventory of the current year (group `inventory`) at 04:00 UTC."""
    day = f"{context.scheduled_execution_time:%Y-%m-%d}"
    return dg.RunRequest(run_key=day, partition_key=day[:4])
