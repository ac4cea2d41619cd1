"""Calls that together end within a time limit."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Call(Protocol):
    """Calls a function, and raises TimeoutError when the time is up."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """Its result."""


@contextmanager
def in_time(seconds: float) -> Iterator[Call]:
    """Calls, one after the other, that together take no longer than some seconds.

    They are made in a thread: a service that does not answer holds a call for minutes. The thread ends with the call.
    """
    deadline = time.monotonic() + seconds
    calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def work() -> None:
        while (wanted := calls.get()) is not None:
            future, function = wanted
            try:
                future.set_result(function())
            except BaseException as error:  # it is raised where the result is wanted
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
