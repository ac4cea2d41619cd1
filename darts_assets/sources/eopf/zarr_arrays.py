"""Arrays of Zarr stores of others (formats 2 and 3, also sharded), on a disk, on web servers and on S3.

Metadata of a store choose the code that decodes it, and some codecs execute what they read (numcodecs' `pickle`). Only
arrays of small integers are opened, with codecs that decompress and reorder bytes.
"""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from obstore.exceptions import BaseError
from obstore.store import HTTPStore
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import LocalStore, ObjectStore

from darts_assets.errors import RasterError, SceneError, SourceUnavailableError
from darts_assets.remote.byte_reader import CONNECT_SECONDS, READ_SECONDS, is_remote, local_path, shown
from darts_assets.remote.raster_files import MAX_BLOCK_BYTES
from darts_assets.remote.retry import object_store_retries
from darts_assets.remote.s3_auth import S3Options, split_s3_url
from darts_assets.sources.folders import bucket_store
from darts_assets.sources.rasters.integrity import MAX_PIXELS

SUFFIX = ".zarr"

_V2_CODECS = {"blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "shuffle", "delta"}
_V3_CODECS = (BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec)
_MOST_COORDINATES = 100_000


@dataclass(frozen=True)
class ZarrStore:
    """A store.

    Attributes:
        href: its root, which ends with `.zarr`.
        s3: access to `s3://`.
    """

    href: str
    s3: S3Options

    def attributes(self) -> dict[str, Any]:
        """Attributes of the root group.

        Raises:
            SceneError: if there is no Zarr group.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """
        with _errors(self.href):
            try:
                return dict(zarr.open_group(self._opened(), mode="r").attrs.asdict())
            except (FileNotFoundError, KeyError, ValueError, TypeError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise SceneError(f"{shown(self.href)} is not a Zarr group ({reason:.80})") from None

    def array(self, path: str, where: str) -> "zarr.Array[Any]":
        """An array of integers with two dimensions, or of coordinates with one; nothing of it is read.

        Args:
            path: in the store.
            where: scene, band and array, for messages.

        Raises:
            RasterError: if there is no such array, or it is not of the expected kind.
            SourceUnavailableError: as `attributes`.
        """
        with _errors(where):
            try:
                array = zarr.open_array(self._opened(), path=path, mode="r")
            except (FileNotFoundError, KeyError):
                raise RasterError(f"{where}: there is no such array") from None
            except (ValueError, TypeError, AttributeError) as error:
                raise RasterError(f"{where} is not a Zarr array: {str(error).splitlines()[0]:.120}") from None
        if problem := _problem(array):
            raise RasterError(f"{where} {problem}")
        return array

    def _opened(self) -> Any:
        if not is_remote(self.href):
            return LocalStore(str(local_path(self.href)), read_only=True)
        if self.href.startswith("s3://"):
            bucket, prefix = split_s3_url(self.href)
            return ObjectStore(bucket_store(bucket, self.s3, prefix), read_only=True)
        client = {
            "connect_timeout": dt.timedelta(seconds=CONNECT_SECONDS),
            "timeout": dt.timedelta(seconds=READ_SECONDS),
            "allow_http": self.href.startswith("http://"),
        }
        options, retries = cast("Any", client), cast("Any", object_store_retries())
        return ObjectStore(HTTPStore.from_url(self.href, client_options=options, retry_config=retries), read_only=True)


def split_array(href: str) -> tuple[str, str] | None:
    """The store and the path in it of an array's href, None for other hrefs."""
    root, suffix, path = href.partition(f"{SUFFIX}/")
    return (root + SUFFIX, path.strip("/")) if suffix and path.strip("/") else None


def read_window(array: "zarr.Array[Any]", window: tuple[slice, slice], where: str) -> np.ndarray[Any, Any]:
    """Values of a window; only the chunks under it are read. Raises RasterError, SourceUnavailableError."""
    with _errors(where):
        try:
            return np.asarray(array[window])
        except (ValueError, RuntimeError, TypeError) as error:
            raise RasterError(f"{where} cannot be decoded: {str(error).splitlines()[0]:.120}") from None


def coordinates(array: "zarr.Array[Any]", where: str) -> np.ndarray[Any, Any]:
    """Values (float64) of a coordinate array; raises RasterError if they are not equally spaced."""
    if array.ndim != 1 or not 2 <= array.shape[0] <= _MOST_COORDINATES:
        raise RasterError(f"{where} has the shape {array.shape}; coordinates were expected")
    with _errors(where):
        values = np.asarray(array[:], np.float64)
    steps = np.diff(values)
    if not np.allclose(steps, steps[0], rtol=0, atol=1e-6 * abs(steps[0])) or steps[0] == 0:
        raise RasterError(f"{where}: its coordinates are not equally spaced")
    return values


class _errors:  # noqa: N801 - a context manager that is used like a function
    """Turns failures of a service into SourceUnavailableError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BaseError) and not isinstance(error, FileNotFoundError):
            raise SourceUnavailableError(f"{self._where} cannot be read: {str(error).splitlines()[0]:.200}") from None


def _problem(array: "zarr.Array[Any]") -> str:
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
        return f"has values of type {array.dtype}; numbers were expected"
    if unknown := [name for name in _codec_names(array.metadata) if name]:
        return f"has the codec {unknown[0]}, which is not read"
    if array.ndim not in (1, 2) or math.prod(array.shape) > MAX_PIXELS:
        return f"has the shape {array.shape}; two dimensions of at most {MAX_PIXELS} pixels were expected"
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_BLOCK_BYTES:
        return f"has chunks of {array.chunks} pixels; at most {MAX_BLOCK_BYTES} bytes are read"
    return ""


def _codec_names(metadata: Any) -> Iterator[str]:
    """Names of the codecs that are not allowed."""
    if isinstance(metadata, ArrayV2Metadata):
        for codec in (*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor else ())):
            name = str(getattr(codec, "codec_id", type(codec).__name__))
            yield "" if name in _V2_CODECS else name
        return
    for codec in metadata.codecs:
        if isinstance(codec, ShardingCodec):
            inner = (*codec.codecs, *codec.index_codecs)
            yield from ("" if isinstance(each, _V3_CODECS) else type(each).__name__ for each in inner)
        else:
            yield "" if isinstance(codec, _V3_CODECS) else type(codec).__name__
