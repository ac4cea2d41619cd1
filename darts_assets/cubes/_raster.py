"""Windows of rasters on a chunk's grid, from a disk or from the network."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.session import DummySession
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from darts_assets.errors import RasterError
from darts_assets.remote.byte_reader import CONNECT_SECONDS, READ_SECONDS, is_remote
from darts_assets.remote.gdal_options import CACHE_OPTIONS, PUBLIC_TILE_OPTIONS, gdal_message
from darts_assets.remote.raster_files import open_raster
from darts_assets.remote.responses import check_redirects
from darts_assets.remote.retry import TransientError, is_unreachable, with_retries

T = TypeVar("T")

_MAX_OFFSET = 0.01  # pixels across a chunk; tolerates rounded transforms
_FINAL = re.compile(r"HTTP response code: 4(?!08|25|29)\d\d|HTTP response code: 501|does not exist|Access Denied")
"""GDAL's messages for files that do not exist or are not accessible."""

Opener = Callable[[str], AbstractContextManager[Any]]


class OpenRasters:
    """Rasters that stay open between reads, the most recently used of each thread.

    Neighbouring chunks share blocks of a file. While it is open, its header is read once and GDAL caches the decoded
    blocks. A raster is closed when `limit` others were used since, after an error, and with its thread.

    Args:
        limit: open rasters per thread; a chunk where four tiles meet needs eight.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._thread = threading.local()

    @contextmanager
    def __call__(self, href: str) -> Iterator[Any]:
        """The open raster, to be used in this thread only."""
        rasters: OrderedDict[str, Any] = self._thread.__dict__.setdefault("rasters", OrderedDict())
        source = rasters.pop(href) if href in rasters else open_public(href)
        try:
            yield source
        except BaseException:
            source.close()  # GDAL caches failed reads
            raise
        rasters[href] = source
        while len(rasters) > self._limit:
            rasters.popitem(last=False)[1].close()


def open_public(href: str) -> Any:
    """Open a raster; raises RasterioIOError, and SourceUnavailableError if it redirects to a private address."""
    if href.startswith(("http://", "https://")):
        check_redirects(href, (CONNECT_SECONDS, READ_SECONDS))
    return open_raster(href)


def with_raster(href: str, use: Callable[[Any], T], opener: Opener = open_public) -> T:
    """Open a raster and return `use(raster)`; failed reads of remote rasters are retried.

    Remote data are public: requests are not signed. `AWS_S3_ENDPOINT`, `AWS_HTTPS` and `AWS_VIRTUAL_HOSTING` configure
    an S3 service other than Amazon's, as in GDAL.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key`.
        use: called with the open rasterio dataset, once per attempt.
        opener: `open_public`, or rasters that stay open.

    Raises:
        RasterError: if the file is missing, corrupt or not a raster.
        SourceUnavailableError: if a remote file cannot be read after bounded retries.
    """
    remote = is_remote(href)
    options = {**CACHE_OPTIONS, **(PUBLIC_TILE_OPTIONS if remote else {})}

    def attempt() -> T:
        try:
            with rasterio.Env(DummySession(), **options), opener(href) as source:
                return use(source)
        except RasterioError as error:
            message = gdal_message(error)
            if remote and isinstance(error, RasterioIOError) and not _FINAL.search(message):
                raise TransientError(message, unreachable=is_unreachable(message)) from error
            raise RasterError(f"{href} cannot be read: {message}") from error

    return with_retries(attempt, f"{href} cannot be read")


def read_onto(
    source: Any,
    geobox: GeoBox,
    indexes: Sequence[int],
    *,
    fill: float,
    nodata: float | None = None,
    resampling: Resampling = Resampling.nearest,
) -> npt.NDArray[Any]:
    """Bands of an open raster on a grid, in the raster's dtype; copied, not resampled, where the lattices coincide.

    Args:
        source: an open rasterio dataset.
        geobox: north-up target grid.
        indexes: 1-based bands.
        fill: value of pixels outside the raster and of pixels without data.
        nodata: value that means "no data" if the file declares none.
        resampling: for a raster on another lattice or in another CRS.

    Returns:
        Array of shape (bands, rows, columns).
    """
    if source.nodata is not None:
        nodata = source.nodata
    height, width = (int(n) for n in geobox.shape)
    offset = _lattice_offset(source, geobox)
    if offset is None:
        outside = fill if nodata is None else nodata
        options = {"crs": str(geobox.crs), "transform": geobox.affine, "width": width, "height": height}
        with WarpedVRT(source, src_nodata=nodata, nodata=outside, resampling=resampling, **options) as warped:
            values: npt.NDArray[Any] = warped.read(list(indexes))
    else:
        values = np.full((len(indexes), height, width), fill, dtype=source.dtypes[0])
        row, col = offset
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + height, source.height), min(col + width, source.width)
        if bottom > top and right > left:
            part = source.read(list(indexes), window=Window(left, top, right - left, bottom - top))
            values[:, top - row : bottom - row, left - col : right - col] = part
    if nodata is not None:
        np.copyto(values, fill, where=values == nodata)
    return values


def _lattice_offset(source: Any, geobox: GeoBox) -> tuple[int, int] | None:
    """Row and column of the grid's corner in the raster; None if their pixels do not coincide."""
    raster = GeoBox.from_rio(source)
    if raster.crs != geobox.crs:
        return None
    height, width = (int(n) for n in geobox.shape)
    corners = [(x, y) for y in (0, height) for x in (0, width)]
    pixels = [raster.wld2pix(*geobox.pix2wld(x, y)) for x, y in corners]
    left, top = (round(n) for n in pixels[0])
    offset = max(abs(x + left - col) + abs(y + top - row) for (x, y), (col, row) in zip(corners, pixels, strict=True))
    return (top, left) if offset < _MAX_OFFSET else None
