"""Runs as table rows: one row for each step of each scene, read from Dagster's event log page by page."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import DagsterEventType as Kind

from darts_assets.orchestration.core.error_handling import failed_partitions, failure_message, root_message

BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RUNS_PER_PAGE = 100
_EVENTS_PER_PAGE = 500
_KINDS = {
    Kind.ASSET_MATERIALIZATION_PLANNED, Kind.ASSET_MATERIALIZATION, Kind.STEP_START, Kind.STEP_UP_FOR_RETRY,
    Kind.STEP_SUCCESS, Kind.STEP_FAILURE, Kind.ASSET_CHECK_EVALUATION, Kind.RUN_FAILURE, Kind.RUN_CANCELED,
}  # fmt: skip
_FIGURES = (
    "seconds", "cpu_seconds", "peak_memory", "peak_gpu_memory", "bytes", "bytes_read", "bytes_written"
)  # fmt: skip
_FACTS = ("parameters", "inputs")


@dataclass(frozen=True)
class RunSelection:
    """Filters of runs; a filter that is not set selects all runs.

    Attributes:
        ids: run ids.
        backfill: id of the backfill that launched the runs.
        since: earliest time of creation.
        until: latest time of creation.
    """

    ids: tuple[str, ...] = ()
    backfill: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass
class _Step:
    started: float | None = None
    ended: float | None = None
    attempts: int = 1
    succeeded: bool = False
    error: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    failed_checks: list[str] = field(default_factory=list)  # blocking ones


def finished_runs(instance: dg.DagsterInstance, selection: RunSelection, limit: int) -> Iterator[dg.DagsterRun]:
    """Yield up to `limit` finished runs, newest first."""
    filters = dg.RunsFilter(
        run_ids=list(selection.ids) or None,
        tags={BACKFILL_TAG: selection.backfill} if selection.backfill else None,
        created_after=selection.since,
        created_before=selection.until,
        statuses=_FINISHED,
    )
    cursor = None
    while limit > 0:
        page = instance.get_run_records(filters, limit=min(_RUNS_PER_PAGE, limit), cursor=cursor)
        yield from (record.dagster_run for record in page)
        if len(page) < min(_RUNS_PER_PAGE, limit):
            return
        limit -= len(page)
        cursor = page[-1].dagster_run.run_id


def step_rows(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dict[str, Any]]:
    """Rows of a run for `timings.steps_table`: one per materialized or planned (asset, partition).

    A failed step that belongs to no asset has a row under its own name, or one for each scene that failed in it.
    """
    steps: dict[str, _Step] = {}
    planned: dict[tuple[str, str | None], str] = {}  # (asset, partition) -> step
    made: dict[tuple[str, str | None], dict[str, Any]] = {}
    ended = ""
    for event in _events(instance, run.run_id):
        details = event.dagster_event
        if details is None:
            continue
        kind = details.event_type
        if kind in (Kind.RUN_FAILURE, Kind.RUN_CANCELED):
            error = getattr(details.event_specific_data, "error", None)
            ended = root_message(error) if error else (details.message or "the run was canceled")
        elif kind is Kind.ASSET_MATERIALIZATION_PLANNED:
            planned[_asset(details), details.partition] = details.step_key or ""
        elif kind is Kind.ASSET_MATERIALIZATION:
            made[_asset(details), details.partition] = _figures(details) | {
                "step": details.step_key,
                "time": event.timestamp,
            }
        else:
            _update(steps.setdefault(details.step_key or "", _Step()), details, event.timestamp)
    of_step = {step: asset for (asset, _), step in planned.items()}
    rows = [
        _made_row(key, facts, steps.get(facts["step"] or "", _Step()), of_step.get(facts["step"] or ""), made)
        for key, facts in made.items()
    ]
    rows += [_missing_row(key, steps.get(step), ended, bool(steps)) for key, step in planned.items() if key not in made]
    rows += [
        row for key, step in steps.items() if step.error and key not in of_step for row in _failed_rows(key, step, run)
    ]
    common = {"run_id": run.run_id, "job": run.job_name, "backfill": run.tags.get(BACKFILL_TAG)}
    return [common | row for row in rows]


def _events(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.EventLogEntry]:
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(run_id, cursor, of_type=_KINDS, limit=_EVENTS_PER_PAGE)
        yield from (record.event_log_entry for record in page.records)
        cursor, more = page.cursor, page.has_more


def _asset(event: dg.DagsterEvent) -> str:
    return event.asset_key.to_user_string() if event.asset_key else ""


def _update(step: _Step, event: dg.DagsterEvent, time: float) -> None:
    if event.event_type is Kind.STEP_START:
        step.started = time
    elif event.event_type is Kind.STEP_UP_FOR_RETRY:
        step.attempts += 1
    elif event.event_type is Kind.STEP_SUCCESS:
        step.ended, step.succeeded = time, True
    elif event.event_type is Kind.STEP_FAILURE:
        data = event.step_failure_data
        # Dagster's own message is that a blocking check failed, not which one and why.
        error = "; ".join(step.failed_checks) or failure_message(data)
        step.ended, step.error, step.failed = time, error, failed_partitions(data)
    elif event.event_type is Kind.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        if not check.passed and check.blocking and check.severity is dg.AssetCheckSeverity.ERROR:
            step.failed_checks.append(f"{check.check_name}: {check.description or 'failed'}")


def _figures(event: dg.DagsterEvent) -> dict[str, Any]:
    """The metadata of a materialization that become columns of the table."""
    metadata: dict[str, Any] = {
        name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
    }
    facts = metadata.get("provenance") or {}
    path = metadata.get("path")
    return {
        **({"output_path": path} if isinstance(path, str) else {}),
        **{name: metadata[name] for name in _FIGURES if isinstance(metadata.get(name), int | float)},
        **{name: facts.get(name) for name in ("code_version", "data_version")},
        **{name: json.dumps(facts[name], sort_keys=True) for name in _FACTS if name in facts},
        **{name: json.dumps(metadata[name], sort_keys=True) for name in ("config", "versions") if name in metadata},
    }


def _times(step: _Step) -> dict[str, Any]:
    seconds = step.ended - step.started if step.started and step.ended else None
    return {"started": step.started, "seconds": seconds, "attempts": step.attempts}


def _failed_rows(key: str, step: _Step, run: dg.DagsterRun) -> list[dict[str, Any]]:
    row = {"asset": key, "scene": run.tags.get(PARTITION_TAG), "result": "failed"}
    if step.failed:
        return [row | {"scene": scene, "error": why, "started": step.started} for scene, why in step.failed.items()]
    return [row | {"error": step.error, **_times(step)}]


def _made_row(
    key: tuple[str, str | None],
    facts: dict[str, Any],
    step: _Step,
    asset_of_step: str | None,
    made: dict[tuple[str, str | None], dict[str, Any]],
) -> dict[str, Any]:
    """Row of a materialization; without figures of its own it has the time of its step, if it is the only one in it."""
    alone = sum(other["step"] == facts["step"] for other in made.values()) == 1
    times = _times(step) if alone else {"attempts": step.attempts}
    started = facts["time"] - facts["seconds"] if "seconds" in facts else facts["time"]
    within = asset_of_step if asset_of_step != key[0] else None
    figures = {name: value for name, value in facts.items() if name not in ("step", "time")}
    return {"asset": key[0], "scene": key[1], "result": "ok", "within": within} | times | {"started": started} | figures


def _missing_row(key: tuple[str, str | None], step: _Step | None, ended: str, run_started: bool) -> dict[str, Any]:
    """Row of a planned materialization that is missing: it failed, or it was skipped after another failure."""
    row: dict[str, Any] = {"asset": key[0], "scene": key[1], "started": None}
    if step is None:
        return row | ({"result": "skipped"} if run_started else {"result": "failed", "error": ended})
    if step.failed:  # several partitions in one step: their times are not known one by one
        why = step.failed.get(key[1] or "")
        return row | {"result": "failed" if why else "skipped", "error": why, "started": step.started}
    if step.succeeded:
        return row | {"result": "skipped", **_times(step)}
    return row | {"result": "failed", "error": step.error or ended, **_times(step)}
