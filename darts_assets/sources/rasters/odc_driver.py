"""The one place where pixels are read: odc-stac's rasterio driver, with our options, retries and error messages."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from odc.loader import RasterSource, RioDriver, RioReader

from darts_assets.remote.byte_source import S3Options, shown
from darts_assets.scene import Scene
from darts_assets.sources.rasters.downloads import Copies
from darts_assets.sources.rasters.gdal import GdalFiles, gdal_path
from darts_assets.sources.rasters.integrity import described


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
    for good, so that scenes from two services would mix. Here each read brings its own options and keys (see `gdal`).

    Args:
        scene: the scene.
        bands: canonical names of the bands to read.
        copies: those of its files that were copied; they are kept as long as the driver is.
        s3: how `s3://` is reached.
    """

    def __init__(self, scene: Scene, bands: Iterable[str], copies: Copies, s3: S3Options) -> None:
        super().__init__()
        self._copies = copies
        places = [(scene.bands[name], copies.place(scene.bands[name].href)) for name in bands]
        self._files = {(gdal_path(place), band.index): (place, described(scene, band)) for band, place in places}
        self._gdal = GdalFiles((place for _, place in places), s3)

    def capture_env(self) -> dict[str, Any]:
        """Nothing: each read brings its own."""
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Iterator[Any]:
        """Nothing: see `capture_env`."""
        yield None

    def open(self, src: RasterSource, ctx: Any) -> RioReader:
        """A reader of one band."""
        return _Reader(src, ctx, self._gdal, *self._files[src.uri, src.band])


class _Reader(RioReader):
    def __init__(self, src: RasterSource, ctx: Any, gdal: GdalFiles, place: str, where: str) -> None:
        super().__init__(src, ctx)
        self._gdal = gdal
        self._place = place
        self._where = where

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """odc-stac's read, with patience."""
        read = super().read
        return self._gdal.read(self._place, self._where, lambda: read(*args, **kwargs))
