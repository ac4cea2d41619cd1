"""The retry policy of all network requests.

| failure | repeated |
|---|---|
| unknown host, refused connection, no route to the host | for `UNREACHABLE_SECONDS`, every second |
| timeout, broken connection, truncated body, HTTP 408, 425, 429, 5xx | up to `RetryPolicy.attempts`, see `BACKOFF` |
| the same with a `Retry-After` of up to `LONGEST_RETRY_AFTER` seconds | likewise, but not earlier than that |
| a longer `Retry-After`, any other failure | never |

The last failure is raised with the number of attempts and what to check. obstore retries by itself; it gets its numbers
from `object_store_retries`. Notifications of failed runs are outside this policy: they must end within a sensor's tick.
"""

import datetime as dt
import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from darts_assets.errors import DartsError, SourceUnavailableError

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of the attempts at one request.

    Attributes:
        attempts: the first one included.
        seconds: no attempt begins later than this after the first one.
    """

    attempts: int = 5
    seconds: float = math.inf


REQUESTS = RetryPolicy()
EARTH_ENGINE = RetryPolicy(attempts=8, seconds=900)
KUBERNETES = RetryPolicy(attempts=100, seconds=600)
"""Of the API server of the own cluster: without it, runs can only wait."""
DATABASE = RetryPolicy(attempts=100, seconds=300)
"""Of the database of the Dagster instance, which may start together with its users."""

BACKOFF = (2.0, 60.0)
"""Random waits of up to 2, 4, 8 ... 60 s, so that pods that exceed a quota together do not return together."""

UNREACHABLE_SECONDS = 3.0
LONGEST_RETRY_AFTER = 600.0

_NOT_IMPLEMENTED = 501
_UNREACHABLE = re.compile(
    r"connection refused|refused the connection|could ?n[o']t (resolve|connect)|failed to resolve|cannot be resolved|"
    r"no route to|network is (unreachable|down)",
    re.I,
)
_QUERY = re.compile(r"\?[^\s'\",)]*")


class TransientError(Exception):
    """A failed attempt that may succeed when it is repeated.

    Attributes:
        retry_after: seconds that the service asks to wait.
        unreachable: whether there was no connection at all.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.unreachable = unreachable


def with_retries(
    attempt: Callable[[], T],
    subject: str,
    *,
    policy: RetryPolicy = REQUESTS,
    error: type[DartsError] = SourceUnavailableError,
) -> T:
    """Call `attempt` until it raises no TransientError, within the limits of the policy.

    Args:
        attempt: one request; raises TransientError if it should be repeated.
        subject: start of log lines and of the final message, such as `https://host/a.tif cannot be read`.
        policy: limits.
        error: raised when the limits are reached; not chained, because requests hold signatures and keys.
    """
    from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

    backoff = wait_random_exponential(multiplier=BACKOFF[0], max=BACKOFF[1])
    unreachable_since: float | None = None

    def wait(state: "RetryCallState") -> float:
        failure = _failure(state)
        return min(backoff(state), 1.0) if failure.unreachable else max(backoff(state), failure.retry_after)

    def is_exhausted(state: "RetryCallState") -> bool:
        nonlocal unreachable_since
        failure = _failure(state)
        if failure.unreachable:
            unreachable_since = unreachable_since or time.monotonic()
            return time.monotonic() - unreachable_since + state.upcoming_sleep >= UNREACHABLE_SECONDS
        unreachable_since = None
        return (
            state.attempt_number >= policy.attempts
            or failure.retry_after > LONGEST_RETRY_AFTER
            or (state.seconds_since_start or 0) + state.upcoming_sleep > policy.seconds
        )

    def log(state: "RetryCallState") -> None:
        number = f"{state.attempt_number + 1} of {policy.attempts}"
        logger.warning("%s: %s; attempt %s follows in %.0f s", subject, _failure(state), number, state.upcoming_sleep)

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=is_exhausted,
        wait=wait,
        before_sleep=log,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except TransientError as failure:
        number = retrying.statistics["attempt_number"]
        message = f"{subject}: {failure}; given up after {number} attempt{'s' if number > 1 else ''}"
        if failure.retry_after > LONGEST_RETRY_AFTER:
            message += f", because the service asks to wait {failure.retry_after:.0f} s"
        unreachable = failure.unreachable
        if unreachable:
            message += ". Check the URL, and the DNS, proxy and firewall settings of this machine"
    raise error(message, unreachable=unreachable) if issubclass(error, SourceUnavailableError) else error(message)


def is_transient_status(status: int) -> bool:
    """Whether a request that was answered with this HTTP status is repeated."""
    return status in (408, 425, 429) or (status >= 500 and status != _NOT_IMPLEMENTED)


def retry_after(header: str | None) -> float:
    """Seconds until the time in a `Retry-After` header (a number or a date); 0 if it is absent or malformed."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(header) if header else 0.0
    except InvalidHeader:
        return 0.0


def is_unreachable(error: BaseException | str) -> bool:
    """Whether an error or its message means an unknown host, a refused connection or a missing route."""
    return bool(_UNREACHABLE.search(str(error)))


def connection_failure(error: Exception, url: str, timeout: tuple[float, float]) -> TransientError:
    """The TransientError for a request of `requests` without a complete response; without the URL's query.

    Args:
        error: the error of `requests`.
        url: of the request.
        timeout: seconds to connect and to read, as passed to `requests`.
    """
    import requests

    parts, unreachable = urlsplit(url), is_unreachable(error)
    host = parts.netloc.rpartition("@")[2]
    if isinstance(error, requests.exceptions.ProxyError):
        return TransientError(f"the proxy for {host} (HTTPS_PROXY) cannot be used", unreachable=unreachable)
    if isinstance(error, requests.Timeout):
        connecting = isinstance(error, requests.ConnectTimeout)
        missing, seconds = ("connection to", timeout[0]) if connecting else ("response from", timeout[1])
        return TransientError(f"no {missing} {host} within {seconds:g} s")
    if unreachable:
        refused = "refused" in str(error)
        problem = f"{host} refused the connection" if refused else f"the host name {parts.hostname} cannot be resolved"
        return TransientError(problem if refused or "resol" in str(error) else f"no route to {host}", unreachable=True)
    cause = error.args[0] if error.args else error  # of urllib3, with the original in `reason` or as an argument
    cause = getattr(cause, "reason", None) or cause
    return TransientError(_QUERY.sub("", str(cause.args[0] if getattr(cause, "args", None) else cause)))


def object_store_retries() -> dict[str, Any]:
    """`retry_config` of obstore: at most 6 repetitions within 3 minutes."""
    backoff = {"init_backoff": dt.timedelta(milliseconds=200), "max_backoff": dt.timedelta(seconds=15), "base": 2}
    return {"max_retries": 6, "backoff": backoff, "retry_timeout": dt.timedelta(minutes=3)}


def _failure(state: "RetryCallState") -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TransientError)
    return failure
