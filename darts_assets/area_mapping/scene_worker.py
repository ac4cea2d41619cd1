"""A process that processes scenes, one after the other, by runs of Dagster; models stay loaded between them.

It reads a `Task` per line from its standard input and writes a `Message` per line to its standard output. Everything
else that is written to the standard streams goes to the log file of the task. The process ends when its input does.
"""

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from darts_assets.errors import DartsError

if TYPE_CHECKING:
    import dagster as dg

    from darts_assets.orchestration.core.partitions import SceneFamily


@dataclass(frozen=True)
class Task:
    """A run of some steps of a scene's chain.

    Attributes:
        family: name of the scene's family.
        scene: partition key.
        steps: names of the steps.
        run_id: id of the run.
        backfill: id of the backfill that the run belongs to.
        log: path of the log file.
        log_level: lowest level of Dagster's messages in the log file.
    """

    family: str
    scene: str
    steps: tuple[str, ...]
    run_id: str
    backfill: str
    log: str
    log_level: str = "INFO"


@dataclass(frozen=True)
class Message:
    """What a worker reports.

    Attributes:
        kind: `ready`: the next task is awaited; `step`: `text` is the name of the step that begins; `finished`: the
            name of a step that has succeeded; `progress`: a line of progress; `done`: the run has ended.
        text: see `kind`; for `done`, why the run failed.
        succeeded: whether the run succeeded.
        unreachable: whether it failed because there was no connection to a service.
        figures: summary of the scene's polygons, such as `objects` and `extent_km2`.
        notes: descriptions of failed checks.
    """

    kind: Literal["ready", "step", "finished", "progress", "done"]
    text: str = ""
    succeeded: bool = False
    unreachable: bool = False
    figures: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """The message as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of(cls, line: str) -> "Message":
        """The message in a line."""
        values = json.loads(line)
        return cls(**values | {"notes": tuple(values.get("notes", ()))})


def main() -> None:
    """Process the tasks of the standard input."""
    parent = os.fdopen(os.dup(0))
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # children do not hold the parent's pipe
    tasks: list[str] = []
    arrived = threading.Semaphore(0)

    def read() -> None:
        for line in parent:
            tasks.append(line)
            arrived.release()
        os._exit(0)  # the parent has ended, or needs no more; it records the run in progress

    threading.Thread(target=read, daemon=True).start()
    worker = _Worker(messages)
    while True:
        worker.send(Message("ready"))
        arrived.acquire()
        values = json.loads(tasks.pop(0))
        worker.process(Task(**values | {"steps": tuple(values["steps"])}))


class _Worker:
    def __init__(self, messages: TextIO) -> None:
        import dagster as dg

        from darts_assets.definitions import build_defs

        self._messages = messages
        self._defs = build_defs()
        self._instance = dg.DagsterInstance.get()
        domain = logging.getLogger("darts_assets")
        domain.addHandler(_Forward(self))

    def send(self, message: Message) -> None:
        """Write a message, unless the parent has ended."""
        with suppress(BrokenPipeError):
            self._messages.write(message.line())

    def process(self, task: Task) -> None:
        """Execute the run of a task, and report its end."""
        from darts_assets.orchestration.core.dagster_compat import BACKFILL_ID_TAG, listen
        from darts_assets.orchestration.core.dynamic_partitions import SCENE_TAG
        from darts_assets.orchestration.core.partitions import FAMILIES
        from darts_assets.orchestration.core.run_owner import owner_tags

        log = os.open(task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
        family = FAMILIES[task.family]
        names = {f"{family.name}__{step}": step for step in task.steps}
        listen(self._instance, task.run_id, lambda entry: self._report(entry.dagster_event, names))
        try:
            result = self._defs.resolve_job_def(f"{family.name}_chain").execute_in_process(
                instance=self._instance, run_id=task.run_id, partition_key=task.scene,
                asset_selection=[family.key(step) for step in task.steps], raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": task.log_level}}}},
                tags={BACKFILL_ID_TAG: task.backfill, SCENE_TAG: self._label(family, task.scene), **owner_tags()},
            )  # fmt: skip
        except Exception as error:  # a fault of Dagster or of its database, outside of the steps
            logging.getLogger(__name__).exception("the run failed")
            self.send(Message("done", f"{type(error).__name__}: {error}".partition("\n")[0]))
        else:
            self.send(_outcome(result, family.key("polygons")))
        sys.stdout.flush()
        sys.stderr.flush()

    def _label(self, family: "SceneFamily", scene: str) -> str:
        try:
            return str((self._defs.resources or {})["scenes"].scene(family, scene).label)
        except DartsError:  # the run reports it
            return scene

    def _report(self, event: "dg.DagsterEvent | None", names: dict[str, str]) -> None:
        step = names.get(str(event.step_key)) if event else None
        if event and step and event.is_step_start:
            self.send(Message("step", step))
        elif event and step and event.is_step_success:
            self.send(Message("finished", step))


def _outcome(result: "dg.ExecuteInProcessResult", polygons: "dg.AssetKey") -> Message:
    from darts_assets.orchestration.core.error_handling import UNREACHABLE, failure_message

    made = [event for event in result.get_asset_materialization_events() if event.asset_key == polygons]
    summary = made[-1].materialization.metadata.get("summary") if made else None
    notes = tuple(
        str(check.description) for check in result.get_asset_check_evaluations() if not check.passed
    )  # of checks that do not end the run
    figures = summary.value if summary is not None and isinstance(summary.value, dict) else None
    if result.success:
        return Message("done", succeeded=True, figures=figures, notes=notes)
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    if not failures:
        return Message("done", "the run failed outside of its steps; see its log file")
    own = failures[0].user_failure_data
    return Message("done", failure_message(failures[0]), unreachable=bool(own and UNREACHABLE in own.metadata))


class _Forward(logging.Handler):
    """Sends the messages of domain code to the parent."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__(logging.INFO)
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        from darts_assets.redaction import shown

        self._worker.send(Message("progress", shown(record.getMessage())))


if __name__ == "__main__":
    main()
