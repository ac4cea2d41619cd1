"""The processing of planned scenes: a backfill in Dagster, workers that execute its runs, and its end."""

import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import dagster as dg

from darts_assets.area_mapping.missing_steps import Plan
from darts_assets.area_mapping.progress_display import ProgressDisplay, duration
from darts_assets.area_mapping.scene_worker import Message, Task
from darts_assets.area_mapping.worker_pool import Capacity, Report, WorkerPool, worker_pool
from darts_assets.errors import DartsError, SceneError
from darts_assets.host_resources import processors
from darts_assets.orchestration.core.dagster_compat import (
    Partitions,
    add_backfill,
    cancel_is_requested,
    update_backfill,
)
from darts_assets.orchestration.core.dynamic_partitions import PARTITION_TAG
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.run_monitoring.dead_runs import end_dead_runs

logger = logging.getLogger(__name__)

_TICK = 0.3  # seconds between looks at the clock
_RECORD_SECONDS = 10.0  # between updates of the backfill, longer for many scenes
_SCENES_PER_SECOND = 100  # that an update of the backfill may cost
_OUTAGE_SECONDS = 60.0  # before a scene is tried again whose services could not be reached
_SCENE_ATTEMPTS = 4  # at a scene whose services could not be reached, or whose worker was killed
_LOSSES = 10  # of workers, without a scene that one of them has ended
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


class WorkersFailedError(DartsError):
    """Workers could not be started; the message has the reason."""


@dataclass
class AreaResult:
    """What has become of the scenes.

    Attributes:
        backfill: id of the backfill in Dagster.
        logs: folder of the log files, one per scene.
        run_ids: ids of all runs.
        mapped: scene -> summary of its polygons; empty if the last step is an earlier one.
        failed: scene -> reason, one sentence.
        elsewhere: scenes that other runs are processing.
        notes: scene -> descriptions of failed checks.
        not_tried: scenes that were left when the work was ended.
        labels: scene -> label.
        seconds: duration.
        ended_by: why the work was ended early: an interrupt, or services that cannot be reached; None otherwise.
    """

    backfill: str
    logs: Path
    run_ids: list[str] = field(default_factory=list)
    mapped: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    not_tried: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ended_by: str | None = None


@dataclass
class _SceneRun:
    """A scene that a worker is processing, or that waits to be tried again."""

    scene: str
    steps: tuple[str, ...]
    attempt: int = 1
    run_id: str = ""
    ended_steps: list[str] = field(default_factory=list)
    began: float = 0.0
    not_before: float = 0.0


class AreaRun:
    """Processes planned scenes.

    Args:
        instance: Dagster's instance; the workers use the one of DAGSTER_HOME in their environment.
        defs: the code location.
        scenes: the registry.
        family: family of the scenes.
        plan: scene -> its steps to run.
        title: of the backfill.
        environment: environment of the workers.
        logs: folder for log files.
        log_level: lowest level of Dagster's messages in the log files, and on the console if `verbose`.
        verbose: whether the log files are also shown.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        defs: dg.Definitions,
        scenes: SceneRegistry,
        family: SceneFamily,
        plan: Plan,
        *,
        title: str,
        environment: Mapping[str, str],
        logs: Path,
        log_level: str = "INFO",
        verbose: bool = False,
    ) -> None:
        self._instance = instance
        self._defs = defs
        self._scenes = scenes
        self._family = family
        self._plan = plan
        self._title = title
        self._environment = environment
        self._log_level = log_level
        self._verbose = verbose
        backfill = uuid.uuid4().hex[:8]
        self._result = AreaResult(backfill, logs / backfill)
        self._waiting = deque(_SceneRun(scene, steps) for scene, steps in plan.items())
        self._running: dict[int, _SceneRun] = {}
        self._idle: set[int] = set()
        self._materialized: dict[dg.AssetKey, set[str]] = {}
        self._target: dict[dg.AssetKey, list[str]] = {}
        for scene, steps in plan.items():
            for step in steps:
                self._target.setdefault(family.key(step), []).append(scene)
        self._next_tick = self._next_record = 0.0
        self._losses = 0  # of workers, one after the other
        self._shown: dict[int, int] = {}

    def execute(self, machine: Capacity, display: ProgressDisplay) -> AreaResult:
        """Process all scenes; a scene that fails does not stop the others.

        An interrupt (KeyboardInterrupt), or a cancellation in Dagster's UI, ends the work within seconds.

        Raises:
            WorkersFailedError: if the workers cannot be started.
        """
        result = self._result
        result.logs.mkdir(parents=True)
        began = time.monotonic()
        add_backfill(
            self._instance, self._defs, result.backfill, self._family.partitions, self._target,
            title=self._title, description="Executed by `darts-assets map`.",
        )  # fmt: skip
        share = max(1, processors() // machine.workers)
        try:
            with worker_pool(self._environment, machine.gpus, share) as pool, display.shown():
                for worker in range(machine.workers):
                    pool.start(worker, self._worker_log(worker))
                self._loop(pool, machine.workers, display)
        except KeyboardInterrupt:
            result.ended_by = "interrupted"
        finally:
            result.not_tried = [run.scene for run in [*self._running.values(), *self._waiting]]
            self._end_runs()
            is_complete = not (result.failed or result.not_tried or result.ended_by)
            ended = "CANCELED" if result.ended_by else "COMPLETED_SUCCESS" if is_complete else "COMPLETED_FAILED"
            self._record(ended)
            result.seconds = time.monotonic() - began
        return result

    def _loop(self, pool: WorkerPool, workers: int, display: ProgressDisplay) -> None:
        active = set(range(workers))
        while active:
            with suppress(Empty):
                self._take(pool.reports.get(timeout=_TICK), pool, active, display)
            self._tick(display)
            for worker in sorted(self._idle):
                run = self._next(display)
                if run:
                    self._idle.remove(worker)
                    self._begin(worker, run, pool, display)
                elif not self._waiting and not self._running:
                    self._idle.remove(worker)
                    active.remove(worker)
                    pool.retire(worker)
            if self._result.ended_by:
                return

    def _take(self, report: Report, pool: WorkerPool, active: set[int], display: ProgressDisplay) -> None:
        worker, message = report.worker, report.message
        if worker not in active:  # its process has ended as it should
            return
        if message is None:
            self._lost(worker, report.status, pool, active, display)
        elif message.kind == "ready":
            self._idle.add(worker)
        elif message.kind == "done":
            self._losses = 0
            self._show_log(worker, display)
            self._end(worker, message, display)
        elif worker in self._running:
            if message.kind == "step":
                display.begin_step(worker, message.text)
            elif message.kind == "finished":
                run = self._running[worker]
                run.ended_steps.append(message.text)
                self._materialized.setdefault(self._family.key(message.text), set()).add(run.scene)
                display.end_step(worker)
            else:
                display.message(worker, message.text)

    def _next(self, display: ProgressDisplay) -> _SceneRun | None:
        """The next scene that may be processed now; scenes that other runs are processing are left to them."""
        for _ in range(len(self._waiting)):
            run = self._waiting.popleft()
            if run.not_before > time.monotonic():
                self._waiting.append(run)
                continue
            tags = dg.RunsFilter(tags={PARTITION_TAG: run.scene}, statuses=_ACTIVE)
            if run.attempt > 1 or not (others := self._instance.get_run_ids(tags, limit=1)):
                return run
            self._result.elsewhere.append(run.scene)
            text = f"{self._label(run.scene)}: left to another run that is processing it ({others[0][:8]})"
            display.end_scene(-1, text, skipped_steps=len(run.steps))
        return None

    def _begin(self, worker: int, run: _SceneRun, pool: WorkerPool, display: ProgressDisplay) -> None:
        run.run_id, run.began = str(uuid.uuid4()), time.monotonic()
        self._running[worker] = run
        self._result.run_ids.append(run.run_id)
        log = self._log(run)
        self._shown[worker] = log.stat().st_size if log.exists() else 0
        display.begin_scene(worker, self._label(run.scene), len(run.steps))
        pool.submit(
            worker,
            Task(self._family.name, run.scene, run.steps, run.run_id, self._result.backfill, str(log), self._log_level),
        )

    def _end(self, worker: int, message: Message, display: ProgressDisplay) -> None:
        run, result = self._running.pop(worker), self._result
        label = self._label(run.scene)
        left = len(run.steps) - len(run.ended_steps)
        if message.succeeded:
            result.mapped[run.scene] = message.figures or {}
            if message.notes:
                result.notes[run.scene] = message.notes
            text = _outcome(message.figures)
            display.end_scene(worker, f"{label}: {text} ({duration(time.monotonic() - run.began)})", skipped_steps=left)
            return
        # A service that another scene has used may come back.
        was_reached = bool(self._materialized.get(self._family.key(_step(run))))
        if message.unreachable and was_reached and run.attempt < _SCENE_ATTEMPTS:
            self._again(run, _OUTAGE_SECONDS)
            display.end_scene(worker, None)
            display.line(f"{label}: {message.text}; tried again in {_OUTAGE_SECONDS:.0f} s")
            return
        result.failed[run.scene] = message.text
        display.end_scene(worker, f"{label}: failed in {_step(run)}", skipped_steps=left, failed=True)
        if message.unreachable and not was_reached:
            result.ended_by = "services cannot be reached"

    def _lost(self, worker: int, status: int, pool: WorkerPool, active: set[int], display: ProgressDisplay) -> None:
        """A worker has ended by itself, or was killed: its scene is tried again, by fewer workers."""
        run = self._running.pop(worker, None)
        self._idle.discard(worker)
        killed = status < 0
        self._losses += 1
        if (run is None and not killed) or self._losses > _LOSSES:
            ending = f"were killed by signal {-status}" if killed else _last_line(self._worker_log(worker))
            raise WorkersFailedError(f"the worker processes do not start: {ending}")
        end_dead_runs(self._instance, logger)
        cause = f"was killed by signal {-status}" if killed else f"ended with status {status}"
        advice = "; is there enough memory? Fewer workers need less (--workers)" if status == -9 else ""
        if run is not None:
            label = self._label(run.scene)
            reason = f"the process of its step {_step(run)} {cause}{advice}"
            if run.attempt < 2:
                self._again(run, 0)
                display.end_scene(worker, None)
                display.line(f"{label}: {reason}; tried again")
            else:
                self._result.failed[run.scene] = reason
                left = len(run.steps) - len(run.ended_steps)
                display.end_scene(worker, f"{label}: failed in {_step(run)}", skipped_steps=left, failed=True)
        if killed and len(active) > 1:
            active.remove(worker)
        else:
            pool.start(worker, self._worker_log(worker))

    def _again(self, run: _SceneRun, seconds: float) -> None:
        steps = tuple(step for step in run.steps if step not in run.ended_steps)
        self._waiting.append(_SceneRun(run.scene, steps, run.attempt + 1, not_before=time.monotonic() + seconds))

    def _tick(self, display: ProgressDisplay) -> None:
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + _TICK
        display.refresh()
        for worker in self._running:
            self._show_log(worker, display)
        if time.monotonic() >= self._next_record:
            if cancel_is_requested(self._instance, self._result.backfill):
                self._result.ended_by = "cancelled in Dagster"
                return
            self._record("REQUESTED")
            self._next_record = time.monotonic() + max(_RECORD_SECONDS, len(self._plan) / _SCENES_PER_SECOND)

    def _record(self, status: Any) -> None:
        failed: Partitions = {
            self._family.key(step): [scene for scene in self._result.failed if step in self._plan[scene]]
            for step in {step for steps in self._plan.values() for step in steps}
        }
        left = {asset: set(scenes) - self._materialized.get(asset, set()) for asset, scenes in failed.items()}
        update_backfill(
            self._instance, self._defs, self._result.backfill, self._family.partitions,
            materialized=self._materialized, failed=left, status=status,
        )  # fmt: skip

    def _end_runs(self) -> None:
        """End the runs of workers that were stopped."""
        for run in self._running.values():
            record = self._instance.get_run_by_id(run.run_id) if run.run_id else None
            if record is not None and not record.is_finished:
                self._instance.report_run_canceling(record)
        if self._running:
            end_dead_runs(self._instance, logger)

    def _show_log(self, worker: int, display: ProgressDisplay) -> None:
        """Show the new whole lines of the log file of a worker's scene, if all is shown."""
        if not self._verbose or worker not in self._running:
            return
        path = self._log(self._running[worker])
        if not path.exists():  # the worker makes it when it begins
            return
        with path.open("rb") as file:
            file.seek(self._shown[worker])
            lines, newline, _ = file.read().rpartition(b"\n")
        self._shown[worker] += len(lines) + len(newline)
        if lines:
            display.line(lines.decode(errors="replace"))

    def _label(self, scene: str) -> str:
        labels = self._result.labels
        if scene not in labels:
            try:
                labels[scene] = self._scenes.scene(self._family, scene).label
            except SceneError:  # its run has the reason
                labels[scene] = scene
        return labels[scene]

    def _log(self, run: _SceneRun) -> Path:
        return self._result.logs / f"{run.scene}.log"

    def _worker_log(self, worker: int) -> Path:
        return self._result.logs / f"worker-{worker}.log"


def write_failures(result: AreaResult) -> Path | None:
    """A JSON file of the ids of failed scenes, which `--ids-file` takes; None if there are none."""
    if not result.failed:
        return None
    path = result.logs / "failed.json"
    path.write_text(json.dumps(list(result.failed), indent=0))
    return path


def _outcome(figures: Mapping[str, Any] | None) -> str:
    if not figures:
        return "done"
    objects, extent = figures.get("objects", 0), figures.get("extent_km2", 0)
    return f"{objects} detection{'' if objects == 1 else 's'} in {extent:.1f} km2"


def _step(run: _SceneRun) -> str:
    return next((step for step in run.steps if step not in run.ended_steps), run.steps[-1])


def _last_line(path: Path) -> str:
    lines: Iterable[str] = path.read_text(errors="replace").splitlines() if path.exists() else ()
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "without a message")
