"""Counts, rate and remaining time, on a terminal and in a file."""

from io import StringIO

import pytest
from rich.console import Console

from darts_assets.area_mapping import progress_display
from darts_assets.area_mapping.progress_display import ProgressDisplay, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    return now


def work(display: ProgressDisplay, clock: list[float]) -> None:
    """One scene of three steps succeeds; one fails in its second step."""
    with display.shown():
        for name, ended in (("first", 3), ("second", 1)):
            display.begin_scene(0, name, 3)
            for step in ("raw_scene", "auxiliary", "preprocessed_tile")[:ended]:
                display.begin_step(0, step)
                display.message(0, f"{step}: row 1 of 2")
                clock[0] += 90
                display.end_step(0)
            if ended == 3:
                display.end_scene(0, "first: done")
        display.end_scene(0, "second: failed [auxiliary]", skipped_steps=2, failed=True)


def test_lines_where_there_is_no_terminal(clock: list[float]) -> None:
    output = StringIO()
    display = ProgressDisplay(Console(file=output, width=200), scenes=4, steps=12)
    work(display, clock)
    assert output.getvalue().splitlines() == [
        "0 of 4 scenes, about 16 min left",
        "0 of 4 scenes, about 15 min left",
        "0 of 4 scenes, about 14 min left",
        "[1/4] first: done",
        "1 of 4 scenes, 10 scenes an hour, about 12 min left",
        "[2/4] second: failed [auxiliary]",
    ]
    assert display.status() == "2 of 4 scenes, 1 failed, 20 scenes an hour, about 6 min left"


def test_a_live_display_on_a_terminal(clock: list[float]) -> None:
    output = StringIO()
    display = ProgressDisplay(Console(file=output, width=200, force_terminal=True), scenes=4, steps=12)
    work(display, clock)
    shown = output.getvalue()
    for part in ("[1/4] first: done", "first  raw_scene", "2 of 4 scenes, 1 failed"):
        assert part in shown


def test_durations() -> None:
    assert [duration(seconds) for seconds in (4.2, 99, 100, 6000, 12345)] == [
        "4 s", "99 s", "2 min", "100 min", "3 h 26 min",
    ]  # fmt: skip
