"""GDAL options, paths and error messages for reading rasters from disks, web servers and S3."""

import logging
from urllib.parse import urlsplit

from darts_assets.remote.byte_reader import CONNECT_SECONDS, READ_SECONDS, is_remote, local_path, shown
from darts_assets.remote.s3_auth import S3Options
from darts_assets.remote.zip_members import local_archive

_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_SECONDS),
    "GDAL_HTTP_TIMEOUT": str(READ_SECONDS),
    "GDAL_HTTP_MAX_RETRY": "0",  # `retry` repeats whole reads; GDAL does not honour Retry-After
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # GDAL caches for the whole process that a file was missing or how long it was; a retry must look again.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",
}

SCENE_OPTIONS = {
    **_REMOTE,
    "GDAL_HTTP_MULTIRANGE": "SERIAL",  # one connection per read: ranges that cannot be merged would open one each
}
"""For scenes, whose services limit the connections of a user."""

PUBLIC_TILE_OPTIONS = {
    **_REMOTE,
    "GDAL_HTTP_MULTIRANGE": "YES",
    # All directories of a large COG are in its first bytes; rasterio would fetch more while it holds the GIL.
    "GDAL_INGESTED_BYTES_AT_OPEN": "65536",
    # Keys in the environment are those of the store. Without a signature any region works: GDAL follows S3's redirects.
    "AWS_NO_SIGN_REQUEST": "YES",
}
"""For the tiles of cubes, which are public."""

CACHE_OPTIONS = {"GDAL_CACHEMAX": 256 * 1024**2}
"""Block cache of the process; 4 x 4 neighbouring chunks share rows of blocks, 35 MB in each thread."""


def s3_options(s3: S3Options) -> dict[str, str]:
    """GDAL options of an S3 service, without keys."""
    options = {}
    if s3.endpoint is not None:
        url = urlsplit(s3.endpoint)
        options = {
            "AWS_S3_ENDPOINT": url.netloc + url.path.rstrip("/"),
            "AWS_HTTPS": "NO" if url.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    if s3.region is not None:
        options["AWS_REGION"] = s3.region
    if s3.anonymous:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    return options


def gdal_path(href: str) -> str:
    """The path that GDAL opens for `href`."""
    if member := local_archive(href):
        return f"/vsizip/{{{member[0]}}}/{member[1]}"
    if not is_remote(href):
        return str(local_path(href))
    return f"/vsis3/{href.removeprefix('s3://')}" if href.startswith("s3://") else f"/vsicurl/{href}"


def gdal_message(error: BaseException | None) -> str:
    """The messages of an error and of its causes (rasterio only refers to GDAL's), without signatures."""
    messages: list[str] = []
    while error is not None:
        messages += [str(error)] if str(error) else []
        error = error.__cause__
    return shown("; ".join(dict.fromkeys(messages)))


class _WithoutCredentials(logging.Filter):
    """Removes credentials from the URLs that GDAL and odc-stac log when a read fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), None
        return True


for _name in ("odc.loader._rio", "rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_WithoutCredentials())
