"""The one place where pixels are read: odc-stac's rasterio driver, with our options, retries and error messages."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rasterio
from odc.loader import RasterSource, RioDriver, RioReader
from rasterio.errors import RasterioError
from rasterio.session import DummySession
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from darts_assets.errors import DartsError, RasterError, SourceUnavailableError
from darts_assets.scene import Scene
from darts_assets.sources.access import ByteSource, S3Options, gdal_options, gdal_path, is_remote, shown
from darts_assets.sources.integrity import described, words_of

_ATTEMPTS = 3


class _WithoutSecrets(logging.Filter):
    """Takes signatures out of the URLs that GDAL and odc-stac log when a read fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), None
        return True


for _name in ("odc.loader._rio", "rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_WithoutSecrets())


class SceneDriver(RioDriver):
    """Reads the bands of one scene, and names band and file when it cannot.

    odc-stac's own configuration (`configure_rio`) is global to the process and keeps the first S3 session of a thread
    for good, so that scenes from two services would mix. Here each load carries its own options, and GDAL itself takes
    the keys from the environment.
    """

    def __init__(self, scene: Scene, s3: S3Options) -> None:
        super().__init__()
        self._s3 = s3
        self._files = {
            (gdal_path(band.href), band.index): (band.href, described(scene, band)) for band in scene.bands.values()
        }

    def capture_env(self) -> dict[str, Any]:
        """GDAL options; they travel with the load to the threads that do it."""
        return gdal_options(self._s3)

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Iterator[Any]:
        """Do a part of a load under its options."""
        with rasterio.Env(DummySession(), **env), super().restore_env({}, load_state) as context:
            yield context

    def open(self, src: RasterSource, ctx: Any) -> RioReader:
        """A reader of one band."""
        href, where = self._files[src.uri, src.band]
        return _Reader(src, ctx, href, where, self._s3)


class _Reader(RioReader):
    def __init__(self, src: RasterSource, ctx: Any, href: str, where: str, s3: S3Options) -> None:
        super().__init__(src, ctx)
        self._href = href
        self._where = where
        self._s3 = s3

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """odc-stac's read; over a network with retries of whatever GDAL's own retries of requests did not heal."""
        attempts = Retrying(
            retry=retry_if_exception_type(RasterioError),
            stop=stop_after_attempt(_ATTEMPTS if is_remote(self._href) else 1),
            wait=wait_exponential_jitter(initial=0.5, max=10),
            reraise=True,
        )
        try:
            return attempts(super().read, *args, **kwargs)
        except RasterioError as error:
            # Not chained: the original text carries the URL with its signature.
            raise self._failure(error) from None

    def _failure(self, error: RasterioError) -> DartsError:
        if is_remote(self._href):
            # GDAL does not tell a service that is down from a file that is corrupt: ask the service for a byte.
            try:
                ByteSource(self._href, self._s3).read(0, 1)
            except FileNotFoundError:
                return RasterError(f"{self._where}: there is no such file any more")
            except SourceUnavailableError as unavailable:
                return SourceUnavailableError(f"{self._where}: {unavailable}")
        return RasterError(f"{self._where} cannot be read: {words_of(error)}")
