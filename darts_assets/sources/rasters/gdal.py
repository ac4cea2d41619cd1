"""GDAL's reads of a scene's files: its options, our keys, the same count of connections, and patience.

GDAL takes keys and options per thread. Its JPEG 2000 driver decodes in threads of its own, which know of neither and
then answer with zeros without an error: remote JPEG 2000 files can only be looked at, and are copied before they are
read (see `downloads`).
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio
from odc.loader._rio import rio_env
from rasterio.errors import RasterioError
from rasterio.session import DummySession, Session
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.remote.hrefs import is_remote, local_path, shown
from darts_assets.remote.http_client import CONNECT_SECONDS, READ_SECONDS, RemoteFile, connection_to
from darts_assets.remote.s3_auth import S3Keys, S3Options

T = TypeVar("T")

_ATTEMPTS = 3
_RETRIES = 3  # of a request, by GDAL itself


def gdal_path(href: str) -> str:
    """The name under which GDAL opens `href`."""
    if not is_remote(href):
        return str(local_path(href))
    return f"/vsis3/{href.removeprefix('s3://')}" if href.startswith("s3://") else f"/vsicurl/{href}"


def gdal_options(s3: S3Options) -> dict[str, str]:
    """GDAL configuration for reading rasters from anywhere, without keys: bounded waits, retries, no stale caches."""
    options = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_SECONDS),
        "GDAL_HTTP_TIMEOUT": str(READ_SECONDS),
        "GDAL_HTTP_MAX_RETRY": str(_RETRIES),
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        # One connection for each read: ranges that cannot be merged would get one each.
        "GDAL_HTTP_MULTIRANGE": "SERIAL",
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


def words_of(error: BaseException) -> str:
    """What GDAL said, over the chain of an error's causes, safe to show."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if str(cause) and str(cause) not in said:
            said.append(str(cause))
        cause = cause.__cause__
    return shown("; ".join(said))


class GdalFiles:
    """How GDAL reads some files.

    Args:
        hrefs: where they are.
        s3: how `s3://` is reached.

    Raises:
        SettingsError: if a file is on S3 and there are no keys.
    """

    def __init__(self, hrefs: Iterable[str], s3: S3Options) -> None:
        on_s3 = any(href.startswith("s3://") for href in hrefs)
        self._s3 = s3
        self._session = _KeySession(S3Keys(s3)) if on_s3 and not s3.anonymous else DummySession()
        self._options = gdal_options(s3)

    def read(self, href: str, where: str, read: Callable[[], T], failing: str = "cannot be read") -> T:
        """Do a read of one file; over a network again, where GDAL's own retries of requests did not help.

        GDAL does not heed `Retry-After`, so between two attempts the service is asked for the file's first bytes by
        somebody who does.

        Args:
            href: the file.
            where: scene, band and file, for messages.
            read: opens and reads it; may be called again, and in another thread.
            failing: what to say of a file that is there but cannot be read.

        Raises:
            RasterError: if it cannot be read, or is not there any more.
            SourceUnavailableError: if the service does not answer after bounded retries.
            SettingsError: if the service refuses the keys.
        """
        remote = is_remote(href)

        def in_env() -> T:
            # odc-stac opens an environment within ours, with the session that it has first met in the thread; without
            # one it would take boto3's, with other keys.
            with rasterio.Env(self._session, **self._options), rio_env(self._session):
                return read()

        def attempt() -> T:
            # A thread for each read: GDAL's connection and odc-stac's session last as long as their thread.
            with connection_to(href, self._s3) if remote else nullcontext(), ThreadPoolExecutor(1) as pool:
                return pool.submit(in_env).result()

        attempts = Retrying(
            retry=retry_if_exception_type(RasterioError),
            stop=stop_after_attempt(_ATTEMPTS if remote else 1),
            wait=wait_exponential_jitter(initial=0.5, max=10),
            before_sleep=lambda state: self._ask_for(href, where),
            reraise=True,
        )
        try:
            return attempts(attempt)
        except RasterioError as error:
            words = words_of(error)
        if remote:
            self._ask_for(href, where)
        raise RasterError(f"{where} {failing}: {words}")  # not chained: the original has the URL with its signature

    def _ask_for(self, href: str, where: str) -> None:
        # GDAL does not tell a service that is down from a file that is corrupt either.
        try:
            RemoteFile(href, self._s3).look()
        except FileNotFoundError:
            raise RasterError(f"{where}: there is no such file any more") from None
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"{where}: {error}") from None


class _KeySession(Session):  # type: ignore[misc]
    """Our keys for rasterio, whose own session for S3 needs boto3 and finds keys by itself."""

    def __init__(self, keys: S3Keys) -> None:
        self._keys = keys

    @classmethod
    def hascreds(cls, config: Mapping[str, Any]) -> bool:
        return "AWS_ACCESS_KEY_ID" in config

    def get_credential_options(self) -> dict[str, str]:
        return self._keys.for_gdal()
