"""Opens rasters of others, in two formats.

GDAL recognizes a file by its content, whatever its name. Some of its formats are texts that refer to other files and
URLs (VRT and its relatives), so that the pixels of a "GeoTIFF" could be any file of this machine. Here only the drivers
of formats that hold their own pixels open a raster.
"""

from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.enums import Interleaving
from rasterio.errors import RasterioIOError

from darts_assets.remote.byte_reader import is_remote, local_path, shown
from darts_assets.remote.gdal_options import gdal_path
from darts_assets.remote.zip_members import split_member

MAX_BANDS = 256
MAX_BLOCK_BYTES = 2**29
"""Size of the smallest part of a file that can be decoded; a Sentinel-2 band in one strip has 241 MB."""

_SUFFIXES = (".jp2", ".j2k", ".jpx")
_SIGNATURES = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


def open_raster(href: str, **options: Any) -> rasterio.DatasetReader:
    """Open a raster for reading, within a rasterio environment with the options and keys for its service.

    Args:
        href: a path, `http(s)://...`, `s3://bucket/key`, or a member of a zip archive on a disk. A remote file, and a
            member, is JPEG 2000 if its name has such a suffix.
        options: further arguments of `rasterio.open`.

    Raises:
        RasterioIOError: if the file does not exist, is neither GeoTIFF nor JPEG 2000, refers to another file, or
            declares more bands or larger blocks than can be read.
    """
    if is_remote(href) or split_member(href):
        is_jpeg2000 = urlsplit(href).path.lower().endswith(_SUFFIXES)
    elif (path := local_path(href)).is_file():
        with path.open("rb") as file:
            is_jpeg2000 = file.read(12).startswith(_SIGNATURES)
    else:
        raise RasterioIOError(f"{href}: No such file or directory")
    driver = "JP2OpenJPEG" if is_jpeg2000 else "GTiff"
    dataset = rasterio.open(gdal_path(href), driver=driver, sharing=False, **options)
    if problem := _problem(dataset):
        dataset.close()
        raise RasterioIOError(f"{shown(href)} {problem}")
    return dataset


def _problem(dataset: rasterio.DatasetReader) -> str:
    if other := dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE"):
        return f"refers to another file for its overviews, {other!r:.80}; overviews must be in the file"
    if dataset.count > MAX_BANDS:
        return f"declares {dataset.count} bands; at most {MAX_BANDS} are read"
    sizes = [
        rows * columns * np.dtype(dtype).itemsize
        for (rows, columns), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    ]
    size = sum(sizes) if dataset.interleaving == Interleaving.pixel else max(sizes)
    if size > MAX_BLOCK_BYTES:
        return f"declares blocks of {size} bytes; at most {MAX_BLOCK_BYTES} are read"
    return ""
