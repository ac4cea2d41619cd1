"""A common time limit for several calls."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Call(Protocol):
    """Calls a function; raises TimeoutError when the time is up."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """The function's result."""


@contextmanager
def in_time(seconds: float) -> Iterator[Call]:
    """Calls, one after the other, that together take at most `seconds`.

    They run in a thread, because a service that does not answer can block a call for minutes. The thread ends with its
    current call.
    """
    deadline = time.monotonic() + seconds
    calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def work() -> None:
        while (pending := calls.get()) is not None:
            future, function = pending
            try:
                future.set_result(function())
            except BaseException as error:  # the caller of `result` raises it
                future.set_exception(error)

    def call(function: Callable[[], T]) -> T:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        future: Future[T] = Future()
        calls.put((future, function))
        return future.result(left)

    threading.Thread(target=work, name="sensor tick", daemon=True).start()
    try:
        yield call
    finally:
        calls.put(None)
