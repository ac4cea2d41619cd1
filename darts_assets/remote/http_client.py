"""Requests for bytes over HTTP and to S3: bounded in number and time, and patient.

What may pass is tried again: "too many requests" and failures of the service (as late as its `Retry-After` asks for),
connections that cannot be made or break. A file that breaks off goes on where it broke off.

Connections are counted per process and service: each request has one of its own, closed at its end, so that those that
are open are those that are in use. GDAL's reads take their slots from the same count.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from darts_assets.errors import SourceUnavailableError
from darts_assets.remote.hrefs import shown
from darts_assets.remote.s3_auth import S3Keys, S3Options, object_url, refusal

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 10
READ_SECONDS = 60
"""Longest silence of a service within an answer."""

LOOK = 65536
"""Bytes of a file that come with the first look at it."""

_ATTEMPTS = 5
_BACKOFF = wait_exponential_jitter(initial=0.5, max=30, jitter=0.5)
_LONGEST_WAIT = 120  # seconds, whatever the service asks for
_CHUNK = 1 << 16
_QUERY = re.compile(r"\?[^\s'\",)]*")

_slots: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_slots_lock = threading.Lock()


class _WithoutQuery(logging.Filter):
    """Takes signatures out of the requests that urllib3 logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _QUERY.sub("", record.getMessage()), None
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQuery())


class _PassingError(Exception):
    """An attempt failed, and the next one may succeed; `retry_after` seconds are what the service asks for."""

    def __init__(self, words: str, retry_after: float = 0.0) -> None:
        super().__init__(words)
        self.retry_after = retry_after


def connection_to(href: str, s3: S3Options) -> threading.BoundedSemaphore:
    """What must be held while there is a connection to the service of a remote file."""
    host = s3.service if href.startswith("s3://") else urlsplit(href).netloc.rpartition("@")[2]
    with _slots_lock:
        return _slots.setdefault((host, s3.connections), threading.BoundedSemaphore(s3.connections))


class RemoteFile:
    """One file of a web server or of an S3 service.

    Args:
        href: `http(s)://...` or `s3://bucket/key`.
        s3: how `s3://` is reached.

    Raises:
        SettingsError: if there are no keys for S3.
    """

    def __init__(self, href: str, s3: S3Options) -> None:
        self._href, self._s3 = href, s3
        self._on_s3 = href.startswith("s3://")
        self._keys = S3Keys(s3) if self._on_s3 and not s3.anonymous else None
        region = self._keys.region if self._keys else s3.region or "us-east-1"
        self._url = object_url(href, s3, region) if self._on_s3 else href

    def look(self) -> tuple[int, bytes]:
        """Size and first `LOOK` bytes of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            SourceUnavailableError: if the service does not answer after bounded retries, or answers nonsense.
            SettingsError: if the service refuses the keys.
        """

        def attempt() -> tuple[int, bytes]:
            with self._answer({"Range": f"bytes=0-{LOOK - 1}"}, allowed=(416,)) as answer:
                stated = answer.headers.get("Content-Range" if answer.status_code != 200 else "Content-Length", "")
                size = stated.rpartition("/")[2]
                if not size.isdecimal():
                    raise SourceUnavailableError(f"{shown(self._href)} cannot be read: the service tells no size")
                # A server without ranges sends the whole file: what was not asked for is left on the line.
                begin = b"" if answer.status_code == 416 else next(answer.iter_content(LOOK), b"")
                return int(size), begin[:LOOK]

        return self._patiently(attempt)

    def read(self, start: int, length: int) -> bytes:
        """Bytes from `start` on, which must be in the file; raises as `look`."""

        def attempt() -> bytes:
            with self._answer({"Range": f"bytes={start}-{start + length - 1}"}) as answer:
                if answer.status_code != 206:
                    raise SourceUnavailableError(f"{shown(self._href)} cannot be read: the service knows no ranges")
                return answer.content

        return self._patiently(attempt)

    def read_all(self) -> bytes:
        """The whole of a small file; raises as `look`."""

        def attempt() -> bytes:
            with self._answer({}) as answer:
                return answer.content

        return self._patiently(attempt)

    def save(self, path: Path, size: int) -> None:
        """Write the whole file to `path`; its size must still be that of a `look`.

        Raises:
            OSError: if it cannot be written.
            FileNotFoundError, SourceUnavailableError, SettingsError: as `look`.
        """
        with path.open("wb") as file:
            version: str | None = None

            def attempt() -> None:
                nonlocal version
                start = file.tell()
                # Without a version that the service vouches for, nobody knows whether the rest fits.
                if start and version is None:
                    start = file.truncate(file.seek(0))
                headers = {"Range": f"bytes={start}-", "If-Match": str(version)} if start else {}
                with self._answer(headers, allowed=(412,)) as answer:
                    if answer.status_code != 206:
                        file.truncate(file.seek(0))
                    if answer.status_code == 412:
                        raise _PassingError("it has changed while it was read")
                    tag = answer.headers.get("ETag")
                    version = None if tag is None or tag.startswith("W/") else tag
                    for chunk in answer.iter_content(_CHUNK):
                        file.write(chunk)
                if (got := file.tell()) != size:
                    file.truncate(file.seek(0))
                    raise _PassingError(f"it ended after {got} of {size} bytes")

            self._patiently(attempt)

    @contextmanager
    def _answer(self, headers: dict[str, str], allowed: tuple[int, ...] = ()) -> Iterator[requests.Response]:
        """A successful answer (or one of the statuses `allowed`), its body not yet read."""
        try:
            with (
                connection_to(self._href, self._s3),
                requests.Session() as session,
                session.get(
                    self._url,
                    headers={"Accept-Encoding": "identity", **headers},
                    auth=self._keys,
                    # A signature holds for one host only.
                    allow_redirects=not self._on_s3,
                    stream=True,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                ) as answer,
            ):
                if answer.status_code not in (200, 206, *allowed):
                    raise self._failure(answer)
                yield answer
        except requests.RequestException as error:
            words = _words(error)
        else:
            return
        raise _PassingError(words)  # not chained: the original holds the request, with its signature

    def _failure(self, answer: requests.Response) -> Exception:
        status = answer.status_code
        words = f"HTTP {status} {answer.reason}"
        if status in (404, 410):
            return FileNotFoundError(shown(self._href))
        if status in (408, 425, 429) or status >= 500:
            return _PassingError(words, _retry_after(answer))
        if self._on_s3 and status in (401, 403):
            return refusal(self._href, self._s3, self._keys, status, answer.text[:4096])
        if status in (301, 307) and "x-amz-bucket-region" in answer.headers:
            words = f"its bucket is in the region {answer.headers['x-amz-bucket-region']} (see DARTS_SOURCE_REGION)"
        return SourceUnavailableError(f"{shown(self._href)} cannot be read: {words}")

    def _patiently(self, attempt: Callable[[], T]) -> T:
        def log(state: RetryCallState) -> None:
            logger.warning(
                "%s: %s; attempt %d of %d follows in %.0f s",
                shown(self._href), _error(state), state.attempt_number + 1, _ATTEMPTS, state.upcoming_sleep,
            )  # fmt: skip

        attempts = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            before_sleep=log,
            reraise=True,
        )
        try:
            return attempts(attempt)
        except _PassingError as error:
            words = f"{error}; given up after {_ATTEMPTS} attempts"
        raise SourceUnavailableError(f"{shown(self._href)} cannot be read: {words}")


def _wait(state: RetryCallState) -> float:
    error = _error(state)
    asked = error.retry_after if isinstance(error, _PassingError) else 0.0
    return min(max(_BACKOFF(state), asked), _LONGEST_WAIT)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(answer: requests.Response) -> float:
    try:
        return Retry().get_retry_after(answer.raw) or 0.0
    except InvalidHeader:
        return 0.0


def _words(error: requests.RequestException) -> str:
    """What went wrong with a connection, without the URL that requests and urllib3 repeat."""
    if isinstance(error, requests.Timeout):
        connecting = isinstance(error, requests.ConnectTimeout)
        return (
            f"no {'connection' if connecting else 'answer'} within {CONNECT_SECONDS if connecting else READ_SECONDS} s"
        )
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    if isinstance(cause, Exception) and cause.args and isinstance(cause.args[0], str):
        cause = cause.args[0]
    return shown(_QUERY.sub("", str(cause)))
