"""Reaching files where they are (a path, `http(s)://`, `s3://`): byte ranges for us, paths and options for GDAL.

Ranges go through obstore, pixels through GDAL's own /vsicurl and /vsis3; both take endpoint, region and anonymity from
`S3Options` and keys from the AWS environment variables. Requests are bounded in time and retried with backoff.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import HTTPStore, ObjectStore, S3Store
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from darts_assets.errors import SourceUnavailableError

MAX_CONNECTIONS = 4
"""Concurrent connections of one process: what CDSE grants a user."""

_SCHEMES = ("http", "https", "s3")
_RETRIES = 3
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\",)]*")
_USER = re.compile(r"((?:https?|s3)://)[^\s/@'\"]+@")


@dataclass(frozen=True, slots=True)
class S3Options:
    """How `s3://` is reached; keys come from the AWS environment variables and are never kept here.

    Attributes:
        endpoint: URL of an S3-compatible service, addressed path-style; None for AWS.
        region: region of the bucket, None for the environment's.
        anonymous: whether requests are unsigned, as public buckets need without an account.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False


def is_remote(href: str) -> bool:
    """Whether reading `href` needs a network."""
    return urlsplit(href).scheme in _SCHEMES


def local_path(href: str) -> Path:
    """The path that a local href (a path or `file://...`) means."""
    return Path(unquote(urlsplit(href).path) if href.startswith("file://") else href)


def shown(text: str) -> str:
    """An href or a message without what may be secret: the queries of URLs (signatures) and user names."""
    return _USER.sub(r"\1", _QUERY.sub(r"\1", text))


def gdal_path(href: str) -> str:
    """The name under which GDAL opens `href`."""
    if not is_remote(href):
        return str(local_path(href))
    return f"/vsis3/{href.removeprefix('s3://')}" if href.startswith("s3://") else f"/vsicurl/{href}"


def gdal_options(s3: S3Options) -> dict[str, str]:
    """GDAL configuration for reading rasters from anywhere: bounded waits, retries, no stale caches."""
    options = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": str(_CONNECT_SECONDS),
        "GDAL_HTTP_TIMEOUT": str(_REQUEST_SECONDS),
        "GDAL_HTTP_MAX_RETRY": str(_RETRIES),
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        # GDAL remembers for the whole process that a file was missing or how long it was; a retry must look again.
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",
    }
    if s3.endpoint is not None:
        url = urlsplit(s3.endpoint)
        options |= {
            "AWS_S3_ENDPOINT": url.netloc + url.path.rstrip("/"),
            "AWS_HTTPS": "NO" if url.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    if s3.region is not None:
        options["AWS_REGION"] = s3.region
    if s3.anonymous:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    return options


class ByteSource:
    """Byte ranges of one file."""

    def __init__(self, href: str, s3: S3Options | None = None) -> None:
        """Look the file up.

        Args:
            href: a path, `http(s)://...` or `s3://bucket/key`.
            s3: how `s3://` is reached.

        Raises:
            FileNotFoundError: if there is no such file.
            SourceUnavailableError: if the service does not answer, or refuses, after bounded retries.
        """
        self.href = href
        self.is_local = not is_remote(href)
        if self.is_local:
            self._path = local_path(href)
            if not self._path.is_file():
                raise FileNotFoundError(href)
            self.size = self._path.stat().st_size
        else:
            self._store, self._key = _open_store(href, s3 or S3Options())
            self.size = int(self._request(obstore.head)["size"])

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer at the end of the file.

        Raises:
            SourceUnavailableError: as on opening.
        """
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        if not self.is_local:
            return bytes(self._request(obstore.get_range, start=start, length=length))
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def _request(self, call: Any, **arguments: int) -> Any:
        # obstore retries 5xx and broken connections by itself, but not "too many requests".
        attempts = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, BaseError) and "429" in str(error)),
            stop=stop_after_attempt(_RETRIES + 1),
            wait=wait_exponential_jitter(initial=0.5, max=30),
            reraise=True,
        )
        try:
            return attempts(call, self._store, self._key, **arguments)
        except (FileNotFoundError, NotFoundError):
            raise FileNotFoundError(shown(self.href)) from None
        except BaseError as error:
            # Not chained: the original text carries the URL with its signature.
            words = shown(str(error).partition("\n\nDebug source")[0].strip())
            raise SourceUnavailableError(f"{shown(self.href)} cannot be read: {words}") from None


def read_bytes(href: str, s3: S3Options | None = None) -> bytes:
    """The whole of a small file; raises as `ByteSource`."""
    source = ByteSource(href, s3)
    return source.read(0, source.size)


def _open_store(href: str, s3: S3Options) -> tuple[ObjectStore, str]:
    client: Any = {
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "allow_http": True,
    }
    retry: Any = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=2 * _REQUEST_SECONDS),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 2},
    }
    if not href.startswith("s3://"):
        # The whole URL is the store's prefix, so that a signature in its query goes along.
        return HTTPStore.from_url(href, client_options=client, retry_config=retry), ""
    config: dict[str, Any] = {"skip_signature": s3.anonymous}
    if s3.endpoint is not None:
        config |= {"endpoint": s3.endpoint, "virtual_hosted_style_request": False}
    if s3.region is not None:
        config["region"] = s3.region
    bucket, _, key = href.removeprefix("s3://").partition("/")
    return S3Store(bucket, client_options=client, retry_config=retry, **config), key
