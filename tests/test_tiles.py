import threading
import tracemalloc
from collections.abc import Callable, Generator, Sequence

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.tiles import TileStream, ahead, geobox_of, on_grid, row_windows


def numbers(stop: int, begun: list[int], done: list[str], fails_at: int | None = None) -> Generator[int, None, None]:
    try:
        for number in range(stop):
            begun.append(number)
            if number == fails_at:
                raise ValueError(f"number {number} is damaged")
            yield number
    finally:
        done.append(threading.current_thread().name)


def settle(begun: list[int], count: int) -> None:
    """Waits until so many items have been begun, and a little longer for one too many."""
    reached = threading.Event()
    for _ in range(500):
        if len(begun) >= count:
            break
        reached.wait(0.01)
    reached.wait(0.05)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")}


def test_items_come_in_order_and_no_more_than_one_waits():
    begun: list[int] = []
    items = ahead(numbers(5, begun, []))
    settle(begun, 0)
    assert begun == []  # nobody has asked yet
    for expected in range(5):
        assert next(items) == expected
        settle(begun, min(expected + 2, 5))
        assert begun == list(range(min(expected + 2, 5)))
    assert next(items, "end") == "end"
    assert threads() == set()


def test_the_next_item_is_computed_while_the_consumer_is_busy():
    consumer_is_busy, computed = threading.Event(), threading.Event()

    def needs_a_busy_consumer() -> Generator[int, None, None]:
        yield 0
        assert consumer_is_busy.wait(10)
        computed.set()
        yield 1

    items = ahead(needs_a_busy_consumer())
    assert next(items) == 0
    consumer_is_busy.set()
    assert computed.wait(10)
    assert list(items) == [1]


def test_an_error_comes_in_the_place_of_its_item():
    done: list[str] = []
    items = ahead(numbers(5, [], done, fails_at=2))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="number 2 is damaged"):
        next(items)
    assert len(done) == 1
    assert threads() == set()


def test_a_consumer_that_stops_early_leaves_nothing_behind():
    begun: list[int] = []
    done: list[str] = []
    items = ahead(numbers(100, begun, done))
    assert next(items) == 0
    items.close()
    assert len(begun) <= 2
    assert len(done) == 1
    assert threads() == set()


def test_one_ahead_of_another_closes_both():
    begun: list[int] = []
    done: list[str] = []
    items = ahead(ahead(numbers(100, begun, done)))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert len(begun) <= 4
    assert len(done) == 1
    assert threads() == set()


@pytest.mark.parametrize("depth", [1, 3])
def test_all_items_in_order_from_another_thread(depth: int) -> None:
    def items() -> Generator[tuple[int, int] | None, None, None]:
        for n in range(5):
            yield None
            yield n, threading.get_ident()

    taken = list(ahead(items(), depth))
    assert [n for n, _ in taken] == list(range(5))
    assert threading.get_ident() not in {thread for _, thread in taken}
    assert threads() == set()


def test_never_more_ahead_than_asked_for() -> None:
    made, begun = [], threading.Semaphore(0)

    def items() -> Generator[int, None, None]:
        for n in range(10):
            made.append(n)
            begun.release()
            yield n

    taking = ahead(items(), 2)
    assert next(taking) == 0
    for _ in range(3):  # 0 was taken, 1 and 2 are made meanwhile
        begun.acquire()
    assert not begun.acquire(timeout=0.2)
    assert made == [0, 1, 2]
    taking.close()
    assert made == [0, 1, 2]
    assert threads() == set()


def test_leaving_early_ends_the_work_between_items() -> None:
    closed, steps, many = [], 0, threading.Event()

    def items() -> Generator[int | None, None, None]:
        nonlocal steps
        try:
            yield 1
            while True:
                steps += 1
                if steps > 3:
                    many.set()
                yield None
        finally:
            closed.append(threading.current_thread().name)

    taking = ahead(items())
    assert next(taking) == 1
    many.wait()
    taking.close()
    assert closed == ["ahead"]
    assert threads() == set()


@pytest.fixture
def made_stream() -> Callable[[Sequence[int]], TileStream]:
    """A stream of two bands of ascending numbers, 3 columns wide, in windows of the given heights."""

    def stream(heights: Sequence[int]) -> TileStream:
        grid = GeoBox((sum(heights), 3), Affine(10, 0, 500_000, 0, -10, 7_000_000), "EPSG:32608")
        numbers = np.arange(3 * sum(heights), dtype=np.int32).reshape(-1, 3)
        whole = on_grid({"first": numbers, "second": -numbers}, grid)
        ends = np.cumsum(heights)
        windows = (whole.isel(y=slice(end - height, end)) for end, height in zip(ends, heights, strict=True))
        return TileStream(grid, ("first", "second"), windows, {"key": "value"})

    return stream


@pytest.mark.parametrize("heights", [(4, 4, 4), (12,), (1, 5, 2, 4), (3, 3, 3, 2), (7, 1), (1,) * 9])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 100])
def test_rechunked_windows_have_the_requested_rows_in_order(
    made_stream: Callable[[Sequence[int]], TileStream], heights: tuple[int, ...], rows: int
) -> None:
    height = sum(heights)
    chunks = list(made_stream(heights).rechunked(rows))
    assert [len(chunk["first"]) for chunk in chunks] == [
        len(range(*w.indices(height))) for w in row_windows(height, rows)
    ]
    assert all(list(chunk) == ["first", "second"] for chunk in chunks)
    numbers = np.arange(3 * height, dtype=np.int32).reshape(-1, 3)
    np.testing.assert_array_equal(np.concatenate([chunk["first"] for chunk in chunks]), numbers)
    np.testing.assert_array_equal(np.concatenate([chunk["second"] for chunk in chunks]), -numbers)


def test_rechunking_reads_no_further_than_it_must(made_stream: Callable[[Sequence[int]], TileStream]) -> None:
    stream = made_stream((2, 2, 2))
    chunks = stream.rechunked(3)
    assert len(next(chunks)["first"]) == 3
    assert len(list(stream.windows)) == 1, "two windows make the first chunk"


def test_a_collected_stream_is_the_whole_tile(made_stream: Callable[[Sequence[int]], TileStream]) -> None:
    stream = made_stream((2, 1, 4))
    whole = stream.collect()
    assert whole.attrs == {"key": "value"}
    assert geobox_of(whole) == stream.geobox
    assert whole["second"].values.ravel().tolist() == list(range(0, -21, -1))


def test_a_stream_that_ends_early_is_not_collected(made_stream: Callable[[Sequence[int]], TileStream]) -> None:
    stream = made_stream((2, 1, 4))
    next(iter(stream.windows))
    with pytest.raises(ValueError, match="the stream has 5 rows, its grid 7"):
        stream.collect()


def test_collecting_holds_each_pixel_once() -> None:
    grid = GeoBox((4000, 500), Affine(10, 0, 500_000, 0, -10, 7_000_000), "EPSG:32608")
    windows = (on_grid({"band": np.ones((400, 500))}, grid[row : row + 400]) for row in range(0, 4000, 400))
    tracemalloc.start()
    try:
        whole = TileStream(grid, ("band",), windows).collect()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert whole.nbytes < peak < 1.4 * whole.nbytes


def test_bands_must_have_the_shape_of_the_grid() -> None:
    grid = GeoBox((2, 3), Affine(10, 0, 0, 0, -10, 0), "EPSG:32608")
    with pytest.raises(ValueError, match=r"band red has shape \(3, 2\), its grid \(2, 3\)"):
        on_grid({"red": np.zeros((3, 2))}, grid)
