"""How far a watched area has been read: late arrivals are read again, nothing is left out."""

import datetime as dt

import pytest

from darts_assets.orchestration.scene_discovery.watched_areas import Position


def at(day: float) -> dt.datetime:
    return dt.datetime(2024, 7, 1, tzinfo=dt.UTC) + dt.timedelta(days=day)


@pytest.mark.parametrize(
    ("reached", "read_to", "ended", "expected"),
    [
        (None, 20, True, (18, None)),  # all of it: the overlap once more
        (None, 11, True, (10, None)),  # never back
        (None, 15, False, (15, 15)),  # long ago: what was to appear until then has appeared
        (None, 19.5, False, (18, 19.5)),  # something may still appear since 18
        (19, 19.5, False, (10, 19.5)),  # going on: from where this began, all is read again
        (19, 20, True, (10, None)),
    ],
)  # fmt: skip
def test_positions(reached: float | None, read_to: float, ended: bool, expected: tuple[float, float | None]) -> None:
    position = Position(selection="", since=at(10), reached=at(reached) if reached else None)
    after = position.after(at(read_to), at(20), dt.timedelta(days=2), ended=ended)
    since, then = expected
    assert (after.since, after.reached) == (at(since), at(then) if then is not None else None)
