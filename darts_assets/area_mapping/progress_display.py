"""What `darts-assets map` shows while it works: live on a terminal, else a line for each scene."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_STATUS_SECONDS = 60.0  # between lines about the state of the work, where there is no terminal
_WIDTH = 60  # of messages of steps


class ProgressDisplay:
    """Counts scenes and steps, and shows them.

    Args:
        console: where to.
        scenes: number of scenes to process.
        steps: number of steps of all these scenes.
    """

    def __init__(self, console: Console, scenes: int, steps: int) -> None:
        self.console = console
        self.scenes = scenes
        self.steps = steps
        self.ended = 0
        self.failed = 0
        self._steps_ended = 0.0
        self._began = self._last_status = time.monotonic()
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._all = self._progress.add_task("", total=steps, note="")
        self._rows: dict[int, TaskID] = {}
        self._labels: dict[int, str] = {}

    @contextmanager
    def shown(self) -> Iterator["ProgressDisplay"]:
        """Show the display within the context."""
        self.refresh()
        with self._progress:
            yield self

    def line(self, text: str) -> None:
        """Print a line above the display."""
        self.console.print(escape(text), soft_wrap=True, highlight=False)

    def begin_scene(self, worker: int, label: str, steps: int) -> None:
        """A worker begins a scene."""
        self._labels[worker] = label
        self._rows[worker] = self._progress.add_task(escape(label), total=steps, note="")

    def begin_step(self, worker: int, step: str) -> None:
        """A worker begins a step."""
        if worker in self._rows:
            label = f"{self._labels[worker]}  {step:<17}"
            self._progress.update(self._rows[worker], description=escape(label), note="")

    def end_step(self, worker: int) -> None:
        """A step has succeeded."""
        self._steps_ended += 1
        if worker in self._rows:
            self._progress.advance(self._rows[worker])
        self.refresh()

    def message(self, worker: int, text: str) -> None:
        """A line of progress of a step."""
        if worker in self._rows:
            note = text if len(text) <= _WIDTH else f"…{text[-_WIDTH:]}"
            self._progress.update(self._rows[worker], note=escape(note))

    def end_scene(self, worker: int, result: str | None, *, skipped_steps: int = 0, failed: bool = False) -> None:
        """A worker has ended a scene.

        Args:
            worker: the worker.
            result: shown as a line; None if the scene is tried again later.
            skipped_steps: steps of the scene that were not run.
            failed: whether it failed.
        """
        if row := self._rows.pop(worker, None):
            self._progress.remove_task(row)
        if result is None:
            return
        self.ended += 1
        self.failed += failed
        self._steps_ended += skipped_steps
        self.line(f"[{self.ended}/{self.scenes}] {result}")
        self.refresh()

    def refresh(self) -> None:
        """Update counts, rate and remaining time."""
        text = self.status()
        self._progress.update(self._all, completed=self._steps_ended, description=text, refresh=True)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_status >= _STATUS_SECONDS:
            self._last_status = now
            self.line(text)

    def status(self) -> str:
        """Counts, rate and remaining time, in one line."""
        parts = [f"{self.ended} of {self.scenes} scenes"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        seconds = time.monotonic() - self._began
        if self.ended:
            parts.append(f"{3600 * self.ended / seconds:.0f} scenes an hour")
        if self._steps_ended and self.ended < self.scenes:
            remaining = seconds / self._steps_ended * (self.steps - self._steps_ended)
            parts.append(f"about {duration(remaining)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A duration for people: `41 s`, `5 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
