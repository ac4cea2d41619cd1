"""Runs whose process was killed: Dagster goes on to show them as running, with the slots of pools that they claim."""

import logging
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import claims, free_slots, is_on_this_host
from darts_assets.orchestration.core.run_owner import (
    HOST,
    PID,
    in_container,
    owner_is_alive,
    process_age,
    process_start,
)

COMMAND = "darts-assets end-dead-runs"

_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCK = 2.0
"""Seconds by which the start of a process may be off, computed from the time since boot."""


@dataclass(frozen=True)
class EndedRuns:
    """What `end_dead_runs` has done, or what `dead_runs` would end and free.

    Attributes:
        ended: id of a run -> reason, in one sentence.
        freed: id of a run that has ended or was deleted -> pools of the slots that it claimed.
        undecided: id of a run that may be dead -> why that cannot be decided here, and what to do.
    """

    ended: dict[str, str] = field(default_factory=dict)
    freed: dict[str, list[str]] = field(default_factory=dict)
    undecided: dict[str, str] = field(default_factory=dict)


def dead_runs(instance: dg.DagsterInstance, lost: Collection[str] = ()) -> EndedRuns:
    """Runs without a process, and runs that have ended or were deleted and still claim slots; changes nothing.

    Args:
        instance: the Dagster instance.
        lost: ids of runs of which the caller knows that their process is gone, such as those of a lost host.
    """
    dead = EndedRuns()
    for record in instance.get_run_records(dg.RunsFilter(statuses=_RUNNING)):
        run = record.dagster_run
        launched = record.start_time or record.create_timestamp.timestamp()
        if verdict := _verdict(instance, run, launched, run.run_id in lost):
            is_dead, reason = verdict
            (dead.ended if is_dead else dead.undecided)[run.run_id] = reason
    for run_id, pools in claims(instance).items():
        claimant = instance.get_run_by_id(run_id)
        if claimant is None or claimant.is_finished or run_id in dead.ended:
            dead.freed[run_id] = sorted(pools)
    return dead


def end_dead_runs(instance: dg.DagsterInstance, log: logging.Logger, lost: Collection[str] = ()) -> EndedRuns:
    """Report runs without a process as failed (canceled, if they were being canceled), and free their slots.

    A run is left alone if its process exists, or if that cannot be decided here.

    Args:
        instance: the Dagster instance.
        log: receives a line for each run that is ended, freed or not decided.
        lost: ids of runs of which the caller knows that their process is gone.
    """
    dead = dead_runs(instance, lost)
    for run_id, reason in list(dead.ended.items()):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:  # since a moment ago
            del dead.ended[run_id]
        elif run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, reason)
            log.warning(f"run {run_id} was canceled: {reason}")
        else:
            instance.report_run_failed(run, reason)
            log.warning(f"run {run_id} failed: {reason}")
    for run_id, pools in dead.freed.items():
        free_slots(instance, run_id)
        log.warning(f"freed slots of the pools {', '.join(pools)}, claimed by run {run_id}, which has ended")
    for run_id, reason in dead.undecided.items():
        log.info(f"run {run_id}: {reason}")
    return dead


def _verdict(instance: dg.DagsterInstance, run: dg.DagsterRun, launched: float, lost: bool) -> tuple[bool, str] | None:
    """Whether a run is dead (or may be) and why; None if the process exists, or if Dagster itself watches it."""
    since = f"since {datetime.fromtimestamp(launched, UTC):%Y-%m-%d %H:%M} UTC"
    if lost:
        return True, f"the process of this run, active {since}, was reported as lost"
    alive = owner_is_alive(run.tags)
    if alive is None and PID in run.tags:
        host = run.tags.get(HOST, "").partition(" ")[0]
        return False, _advice(run, f"executed {since} by process {run.tags[PID]} of the host {host}", host)
    if alive is None and not is_on_this_host(instance):
        if instance.run_launcher.supports_check_run_worker_health:  # Dagster's run monitoring ends it
            return None
        return False, _advice(run, f"executed {since} by a process without a record of its host")
    if alive is None and in_container():
        return False, _advice(run, f"executed {since}, perhaps in another container")
    processes = _processes(instance, run)
    if alive or any(_exists(*process) for process in processes.items()):  # a step may outlive the process of its run
        return None
    if processes or alive is False:
        pid = run.tags.get(PID) or ", ".join(map(str, processes))
        return True, f"the process of this run ({pid}) was killed or its host crashed; finished steps are kept"
    if datetime.now(UTC).timestamp() - launched > instance.run_monitoring_start_timeout_seconds:
        return True, f"no process has executed this run {since}"
    return None


def _processes(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[int, float]:
    """Processes that have logged events of a run, each with the time of its last one."""
    events = instance.all_logs(run.run_id)
    return {
        event.dagster_event.pid: event.timestamp for event in events if event.dagster_event and event.dagster_event.pid
    }


def _exists(pid: int, logged: float) -> bool:
    """Whether a process exists and is the one that has logged an event at that time, not a later one of the same id."""
    if process_start(pid) is None:
        return False
    age = process_age(pid)
    return age is None or datetime.now(UTC).timestamp() - age < logged + _CLOCK


def _advice(run: dg.DagsterRun, what: str, host: str = "") -> str:
    there = f"run `{COMMAND}` on {host}, or, " if host else ""
    return f"{what}; {there}if that process is gone, run `{COMMAND} --run {shlex.quote(run.run_id)}`"
