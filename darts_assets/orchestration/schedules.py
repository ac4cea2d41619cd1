"""Nightly schedules, stopped by default."""

import dagster as dg


def build_schedules() -> list[dg.ScheduleDefinition]:
    """The schedules."""
    return [
        _nightly("release_tiles", 2, "Releases the tiles of finished scenes (DARTS_KEEP_TILES)"),
        _nightly("publish_catalog", 3, "Updates the published catalog (group `catalog`)"),
        _nightly("collect_replaced_versions", 5, "Removes replaced versions that are old enough"),
        _nightly("prune_run_logs", 6, "Deletes the logs of successful runs that ended more than 30 days ago"),
        update_inventory_nightly,
    ]


def _nightly(job: str, hour: int, effect: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{job}_nightly",
        job_name=job,
        cron_schedule=f"0 {hour} * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"{effect} at {hour:02}:00 UTC.",
    )


@dg.schedule(job_name="update_inventory", cron_schedule="0 4 * * *", default_status=dg.DefaultScheduleStatus.STOPPED)
def update_inventory_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Updates the inventory of the current year (group `inventory`) at 04:00 UTC."""
    day = f"{context.scheduled_execution_time:%Y-%m-%d}"
    return dg.RunRequest(run_key=day, partition_key=day[:4])
