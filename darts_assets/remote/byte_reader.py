"""Bytes of files on a disk, on web servers and on S3 (`byte_reader` for bytes, `gdal_options` for pixels).

Remote files are read with `requests`, not with obstore, which cannot honour `Retry-After`, send the query of a signed
URL, or close a connection after each request. CDSE limits the connections of a user: here they are counted per process
and service, each request opens its own and closes it, and GDAL's reads take theirs from the same count.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import requests

from darts_assets.errors import SourceUnavailableError
from darts_assets.redaction import shown
from darts_assets.remote import sas_tokens
from darts_assets.remote.responses import MAX_DOCUMENT_BYTES, Allowance, GuardedSession, read_body, read_head
from darts_assets.remote.retry import TransientError, connection_failure, is_transient_status, retry_after, with_retries
from darts_assets.remote.s3_auth import MAX_CONNECTIONS, S3Keys, S3Options, object_url, refusal

__all__ = ["MAX_CONNECTIONS", "ByteReader", "RemoteFile", "S3Options", "is_remote", "local_path", "read_bytes", "shown"]

T = TypeVar("T")

CONNECT_SECONDS = 10
READ_SECONDS = 60
"""Longest silence of a service within a response."""

HEAD_BYTES = 65536
"""Bytes of a file that are fetched when it is opened."""

_CHUNK = 1 << 16
_SCHEMES = ("http", "https", "s3")
_QUERY = re.compile(r"\?[^\s'\",)]*")

_connections: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_connections_lock = threading.Lock()


def is_remote(href: str) -> bool:
    """Whether reading `href` needs a network."""
    return urlsplit(href).scheme in _SCHEMES


def local_path(href: str) -> Path:
    """The path of a local href (a path or `file://...`)."""
    return Path(unquote(urlsplit(href).path) if href.startswith("file://") else href)


class ByteReader:
    """Byte ranges of one file.

    Attributes:
        href: location of the file.
        is_local: whether it is on a disk.
        size: bytes of the file.
    """

    def __init__(self, href: str, s3: S3Options | None = None) -> None:
        """Open the file.

        Args:
            href: a path, `http(s)://...` or `s3://bucket/key`.
            s3: access to `s3://`.

        Raises:
            FileNotFoundError: if the file does not exist.
            SourceUnavailableError: if the service does not answer after bounded retries.
            SettingsError: if there are no keys for S3, or the service refuses them.
        """
        self.href = href
        self.is_local = not is_remote(href)
        if self.is_local:
            self._path = local_path(href)
            if not self._path.is_file():
                raise FileNotFoundError(href)
            self.size = self._path.stat().st_size
        else:
            self._remote = RemoteFile(href, s3 or S3Options())
            self.size, self._head = self._remote.open()

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; fewer at the end of the file.

        Raises:
            SourceUnavailableError: as on opening.
        """
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        if not self.is_local:
            cached = self._head[start : start + length]
            return cached if len(cached) == length else self._remote.read(start, length)
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def save(self, path: str) -> None:
        """Download a remote file to a local path; raises as on opening, and OSError."""
        self._remote.save(local_path(path), self.size)


def read_bytes(href: str, s3: S3Options | None = None, most: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The content of a file of at most `most` bytes; raises as `ByteReader`, and TooLargeError."""
    if is_remote(href):
        return RemoteFile(href, s3 or S3Options()).read_all(most)
    reader = ByteReader(href)
    Allowance(href, most).take(reader.size)
    return reader.read(0, reader.size)


def connection_slot(href: str, s3: S3Options) -> threading.BoundedSemaphore:
    """The semaphore to hold while a connection to the service of a remote file is open."""
    host = s3.service if href.startswith("s3://") else urlsplit(href).netloc.rpartition("@")[2]
    with _connections_lock:
        return _connections.setdefault((host, s3.connections), threading.BoundedSemaphore(s3.connections))


class RemoteFile:
    """One file of a web server or of an S3 service.

    Args:
        href: `http(s)://...` or `s3://bucket/key`.
        s3: access to `s3://`.

    Raises:
        SettingsError: if there are no keys for S3.
    """

    def __init__(self, href: str, s3: S3Options) -> None:
        self._href, self._s3 = href, s3
        self._on_s3 = href.startswith("s3://")
        self._keys = S3Keys(s3) if self._on_s3 and not s3.anonymous else None
        region = self._keys.region if self._keys else s3.region or "us-east-1"
        self._url = object_url(href, s3, region) if self._on_s3 else href

    def open(self) -> tuple[int, bytes]:
        """Size and first `HEAD_BYTES` bytes of the file.

        Raises:
            FileNotFoundError: if the file does not exist.
            SourceUnavailableError: if the service does not answer after bounded retries, or reports no size.
            SettingsError: if the service refuses the keys.
        """

        def attempt() -> tuple[int, bytes]:
            with self._response({"Range": f"bytes=0-{HEAD_BYTES - 1}"}, accepted=(416,)) as response:
                header = "Content-Range" if response.status_code != 200 else "Content-Length"
                size = response.headers.get(header, "").rpartition("/")[2]
                if not size.isdecimal():
                    raise SourceUnavailableError(f"{shown(self._href)} cannot be read: the service reports no size")
                # A server without ranges sends the whole file; the rest is not read.
                head = b"" if response.status_code == 416 else next(response.iter_content(HEAD_BYTES), b"")
                return int(size), head[:HEAD_BYTES]

        return self._with_retries(attempt)

    def read(self, start: int, length: int) -> bytes:
        """A byte range, which must lie within the file; raises as `open`."""

        def attempt() -> bytes:
            with self._response({"Range": f"bytes={start}-{start + length - 1}"}) as response:
                if response.status_code != 206:
                    raise SourceUnavailableError(
                        f"{shown(self._href)} cannot be read: the service does not support byte ranges"
                    )
                return read_body(response, shown(self._href), length)

        return self._with_retries(attempt)

    def read_all(self, most: int) -> bytes:
        """The content of a file of at most `most` bytes; raises as `open`, and TooLargeError."""

        def attempt() -> bytes:
            with self._response({}) as response:
                return read_body(response, shown(self._href), most)

        return self._with_retries(attempt)

    def save(self, path: Path, size: int) -> None:
        """Download the file; an interrupted download resumes if the file has a strong ETag.

        Args:
            path: target.
            size: bytes, as returned by `open`.

        Raises:
            OSError: if `path` cannot be written.
            FileNotFoundError, SourceUnavailableError, SettingsError: as `open`.
        """
        with path.open("wb") as file:
            version: str | None = None
            where = shown(self._href)

            def attempt() -> None:
                nonlocal version
                start = file.tell()
                if start and version is None:
                    start = file.truncate(file.seek(0))
                headers = {"Range": f"bytes={start}-", "If-Match": str(version)} if start else {}
                with self._response(headers, accepted=(412,)) as response:
                    if response.status_code != 206:
                        file.truncate(file.seek(0))
                    if response.status_code == 412:
                        raise TransientError("the file changed during the download")
                    tag = response.headers.get("ETag")
                    version = None if tag is None or tag.startswith("W/") else tag
                    allowance = Allowance(where, size - file.tell())
                    for chunk in response.iter_content(_CHUNK):
                        allowance.take(len(chunk))
                        file.write(chunk)
                if (received := file.tell()) != size:
                    file.truncate(file.seek(0))
                    raise TransientError(f"the download ended after {received} of {size} bytes")

            self._with_retries(attempt)

    @contextmanager
    def _response(self, headers: dict[str, str], accepted: tuple[int, ...] = ()) -> Iterator[requests.Response]:
        """A successful response (or one with a status in `accepted`); the body is not read yet."""
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        url = sas_tokens.signed(self._url, self._s3.token_service)
        try:
            with (
                connection_slot(self._href, self._s3),
                GuardedSession() as session,
                session.get(
                    url,
                    headers={"Accept-Encoding": "identity", **headers},
                    auth=self._keys,
                    allow_redirects=not self._on_s3,  # a signature holds for one host
                    stream=True,
                    timeout=timeout,
                ) as response,
            ):
                if response.status_code not in (200, 206, *accepted):
                    raise self._failure(response)
                yield response
        except requests.RequestException as error:
            failure = connection_failure(error, self._url, timeout)
        else:
            return
        raise failure  # not chained: the original holds the request with its signature

    def _failure(self, response: requests.Response) -> Exception:
        status = response.status_code
        message = f"HTTP {status} {response.reason}"
        if status in (401, 403) and sas_tokens.is_signed(self._url, self._s3.token_service):
            sas_tokens.forget(self._url, self._s3.token_service)
            return TransientError(f"its token was refused ({message})")
        if status in (404, 410):
            return FileNotFoundError(shown(self._href))
        if is_transient_status(status):
            return TransientError(message, retry_after=retry_after(response.headers.get("Retry-After")))
        if self._on_s3 and status in (401, 403):
            return refusal(self._href, self._s3, self._keys, status, read_head(response))
        if status in (301, 307) and "x-amz-bucket-region" in response.headers:
            message = f"its bucket is in the region {response.headers['x-amz-bucket-region']} (see DARTS_SOURCE_REGION)"
        return SourceUnavailableError(f"{shown(self._href)} cannot be read: {message}")

    def _with_retries(self, attempt: Callable[[], T]) -> T:
        return with_retries(attempt, f"{shown(self._href)} cannot be read")


class _WithoutQuery(logging.Filter):
    """Removes signatures from the requests that urllib3 logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _QUERY.sub("", record.getMessage()), None
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQuery())
