"""Reading the part of a raster that lies under a chunk, from a disk or from the network."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.session import DummySession
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from tenacity import RetryCallState, retry, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from darts_assets.errors import RasterError, SourceUnavailableError

T = TypeVar("T")

_ATTEMPTS = 5
_WAIT = wait_exponential_jitter(initial=0.5, max=10)
_DRIFT = 0.01  # pixels across a chunk; rounded transforms pass
_FINAL = re.compile(r"HTTP response code: 4(?!08|29)\d\d|does not exist|Access Denied")
"""What GDAL says of a file that is not there, or may not be read: another attempt would be told the same."""

# Of the whole process. Neighbours in a square of 4 x 4 chunks share rows of blocks, 35 MB of them in each thread.
_MEMORY = {"GDAL_CACHEMAX": 256 * 1024**2}
_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # All directories of a large COG come with its first bytes; rasterio would fetch the rest without letting other
    # threads run.
    "GDAL_INGESTED_BYTES_AT_OPEN": 65536,
    # GDAL would remember a failure and answer every later attempt from memory.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",
    # Keys of the environment are for the store. Without a signature any region will do: S3 redirects, GDAL follows.
    "AWS_NO_SIGN_REQUEST": "YES",
}

Opener = Callable[[str], AbstractContextManager[Any]]


class OpenRasters:
    """Rasters that stay open from one read to the next, the last few of each thread.

    Neighbouring chunks share blocks of a file: while it is open, its header is read once, and GDAL keeps the blocks
    that it has decoded. A raster is closed when others have been used since, after an error, and with its thread.

    Args:
        limit: rasters of a thread; a chunk where four tiles meet takes eight.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._thread = threading.local()

    @contextmanager
    def __call__(self, href: str) -> Iterator[Any]:
        """Use a raster, which must not leave the thread."""
        mine: OrderedDict[str, Any] = self._thread.__dict__.setdefault("rasters", OrderedDict())
        source = mine.pop(href) if href in mine else rasterio.open(href)
        try:
            yield source
        except BaseException:
            source.close()  # what it remembers of a read that failed goes with it
            raise
        mine[href] = source
        while len(mine) > self._limit:
            mine.popitem(last=False)[1].close()


def with_raster(href: str, use: Callable[[Any], T], opener: Opener = rasterio.open) -> T:
    """Open a raster, give it to `use`, and return what that returns; remote rasters are tried again with backoff.

    Remote data are public: requests are not signed. An S3 service other than Amazon's is named by `AWS_S3_ENDPOINT`,
    `AWS_HTTPS` and `AWS_VIRTUAL_HOSTING`, as for GDAL.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key`.
        use: is given the open rasterio dataset; called again for every further attempt.
        opener: `rasterio.open`, or rasters that stay open.

    Raises:
        RasterError: if the file is missing, corrupt or not a raster.
        SourceUnavailableError: if a remote file could not be read in five attempts.
    """
    remote = urlsplit(href).scheme in ("http", "https", "s3")

    @retry(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(_ATTEMPTS if remote else 1),
        wait=_WAIT,
        retry_error_callback=_give_up(href) if remote else None,
        reraise=True,
    )
    def attempt() -> T:
        with rasterio.Env(DummySession(), **_MEMORY, **(_REMOTE if remote else {})), opener(href) as source:
            return use(source)

    try:
        return attempt()
    except RasterioError as error:
        raise RasterError(f"{href} cannot be read: {_words(error)}") from error


def read_onto(
    source: Any,
    geobox: GeoBox,
    indexes: Sequence[int],
    *,
    fill: float,
    nodata: float | None = None,
    resampling: Resampling = Resampling.nearest,
) -> npt.NDArray[Any]:
    """Bands of an open raster on a grid, in the raster's dtype; without resampling where the lattices coincide.

    Args:
        source: an open rasterio dataset.
        geobox: north-up grid to read onto.
        indexes: 1-based bands.
        fill: what pixels outside the raster and pixels without data become.
        nodata: value that means "no data" where the file itself says nothing.
        resampling: used only where the raster is on another lattice or in another CRS.

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
    """Row and column of the grid's corner in the raster; None where their pixels do not coincide."""
    raster = GeoBox.from_rio(source)
    if raster.crs != geobox.crs:
        return None
    height, width = (int(n) for n in geobox.shape)
    corners = [(x, y) for y in (0, height) for x in (0, width)]
    found = [raster.wld2pix(*geobox.pix2wld(x, y)) for x, y in corners]
    left, top = (round(n) for n in found[0])
    drift = max(abs(x + left - col) + abs(y + top - row) for (x, y), (col, row) in zip(corners, found, strict=True))
    return (top, left) if drift < _DRIFT else None


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt can help: not for what is not there, or not allowed."""
    return isinstance(error, RasterioIOError) and not _FINAL.search(_words(error))


def _give_up(href: str) -> Callable[[RetryCallState], Any]:
    def fail(state: RetryCallState) -> Any:
        error = state.outcome.exception() if state.outcome else None
        raise SourceUnavailableError(
            f"{href} could not be read in {state.attempt_number} attempts: {_words(error)}"
        ) from error

    return fail


def _words(error: BaseException | None) -> str:
    """An error's own words, with GDAL's behind rasterio's "see previous exception"."""
    words = [str(error)]
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
        words.append(str(error))
    return "; ".join(dict.fromkeys(words))
