"""Pixels of a scene's files by rasterio, and the driver through which odc-stac reads them.

GDAL takes keys and options per thread. Its JPEG 2000 driver decodes in threads of its own, which have neither and then
return zeros without an error: remote JPEG 2000 files are copied before they are read (see `downloads`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import rasterio
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.loader import RasterSource, RioDriver, RioReader
from odc.loader._reader import pick_overview
from odc.loader._rio import _do_read, rio_env
from rasterio.errors import RasterioError
from rasterio.session import DummySession, Session

from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.remote.byte_reader import RemoteFile, S3Options, connection_slot, is_remote
from darts_assets.remote.gdal_options import SCENE_OPTIONS, gdal_message, s3_options
from darts_assets.remote.raster_files import open_raster
from darts_assets.remote.retry import TransientError, with_retries
from darts_assets.remote.s3_auth import S3Keys
from darts_assets.remote.sas_tokens import signed

T = TypeVar("T")

_TOLERANCE = 0.9  # pixels; odc-stac ignores a smaller shift of the grid when it takes the nearest pixel


class GdalFiles:
    """Reads of some files by GDAL, with options, keys, a connection limit and retries.

    Args:
        hrefs: locations of the files.
        s3: access to `s3://`.

    Raises:
        SettingsError: if a file is on S3 and there are no keys.
    """

    def __init__(self, hrefs: Iterable[str], s3: S3Options) -> None:
        on_s3 = any(href.startswith("s3://") for href in hrefs)
        self._s3 = s3
        self._session = _KeySession(S3Keys(s3)) if on_s3 and not s3.anonymous else DummySession()
        self._options = {**SCENE_OPTIONS, **s3_options(s3)}

    def read(self, href: str, where: str, read: Callable[[], T], problem: str = "cannot be read") -> T:
        """Read one file; failed reads of remote files are repeated.

        GDAL cannot tell a service that is down from a corrupt file, and ignores `Retry-After`. After a failed read the
        head of the file is therefore requested by `RemoteFile`, which waits or raises.

        Args:
            href: the file.
            where: scene, band and file, for messages.
            read: opens and reads the file; may be called again, and in another thread.
            problem: words for a file that exists and cannot be read.

        Raises:
            RasterError: if the file cannot be read, or does not exist any more.
            SourceUnavailableError: if the service does not answer after bounded retries.
            SettingsError: if the service refuses the keys.
        """
        if not is_remote(href):
            try:
                return self._in_thread(read)
            except RasterioError as error:
                message = gdal_message(error)
            raise RasterError(f"{where} {problem}: {message}")

        def attempt() -> T:
            try:
                with connection_slot(href, self._s3):
                    return self._in_thread(read)
            except RasterioError as error:
                message = gdal_message(error)
            self._require_file(href, where)
            raise TransientError(message)  # not chained: the original has the URL with its signature

        return with_retries(attempt, f"{where} {problem}", error=RasterError)

    def signed(self, href: str) -> str:
        """The URL of a file for a read that begins now, see `sas_tokens.signed`."""
        return signed(href, self._s3.token_service)

    def _in_thread(self, read: Callable[[], T]) -> T:
        """Read in a thread that ends: GDAL's connection and odc-stac's session last as long as their thread."""

        def in_env() -> T:
            # odc-stac opens an environment within ours, with the first session that the thread had; without one it
            # would take boto3's, with other keys.
            with rasterio.Env(self._session, **self._options), rio_env(self._session):
                return read()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(in_env).result()

    def _require_file(self, href: str, where: str) -> None:
        try:
            RemoteFile(href, self._s3).open()
        except FileNotFoundError:
            raise RasterError(f"{where}: there is no such file any more") from None
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"{where}: {error}", unreachable=error.unreachable) from None


class SceneDriver(RioDriver):
    """Reads the bands of one scene; errors contain band and file.

    odc-stac's own configuration (`configure_rio`) is global to the process, and keeps the first S3 session of a thread
    for good, so that scenes of two services would mix. Here each read brings its own options and keys.

    Args:
        files: GDAL path and 1-based band -> href, and description for messages.
        s3: access to `s3://`.
        copies: kept as long as the driver: temporary copies of the files.
    """

    def __init__(self, files: Mapping[tuple[str, int], tuple[str, str]], s3: S3Options, copies: object) -> None:
        super().__init__()
        self._files, self._copies = files, copies
        self._gdal = GdalFiles((href for href, _ in files.values()), s3)

    def capture_env(self) -> dict[str, Any]:
        """Empty: each read brings its own environment."""
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Iterator[Any]:
        """Does nothing, see `capture_env`."""
        yield None

    def open(self, src: RasterSource, ctx: Any) -> RioReader:
        """A reader of one band."""
        return _Reader(src, ctx, self._gdal, *self._files[src.uri, src.band])


class _Reader(RioReader):
    def __init__(self, src: RasterSource, ctx: Any, gdal: GdalFiles, href: str, where: str) -> None:
        super().__init__(src, ctx)
        self._gdal, self._href, self._where = gdal, href, where

    def read(self, cfg: Any, dst_geobox: GeoBox, *, dst: Any = None, selection: Any = None) -> Any:
        """odc-stac's read, with retries."""
        return self._gdal.read(self._href, self._where, lambda: self._read(cfg, dst_geobox, dst))

    def _read(self, cfg: Any, grid: GeoBox, dst: Any) -> Any:
        """As odc-stac, whose own function opens a file with any of GDAL's drivers."""
        band = self._src.band
        href = self._gdal.signed(self._href)
        with open_raster(href) as raster:
            overlap = compute_reproject_roi(GeoBox.from_rio(raster), grid, ttol=_TOLERANCE)
            level = None
            if cfg.use_overviews and overlap.read_shrink > 1:
                level = pick_overview(overlap.read_shrink, raster.overviews(band))
            if level is None:
                return _do_read(rasterio.band(raster, band), cfg, grid, overlap, dst=dst)
        with open_raster(href, overview_level=level) as raster:
            return _do_read(rasterio.band(raster, band), cfg, grid, overlap, dst=dst)


class _KeySession(Session):  # type: ignore[misc]
    """Our keys for rasterio, whose own session for S3 needs boto3 and finds keys by itself."""

    def __init__(self, keys: S3Keys) -> None:
        self._keys = keys

    @classmethod
    def hascreds(cls, config: Mapping[str, Any]) -> bool:
        return "AWS_ACCESS_KEY_ID" in config

    def get_credential_options(self) -> dict[str, str]:
        return self._keys.for_gdal()
