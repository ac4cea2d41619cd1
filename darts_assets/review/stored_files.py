"""Files of a store over HTTP, read-only and with byte ranges: what the page of the map links to."""

import re
from collections.abc import AsyncIterator
from email.utils import format_datetime
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

import obstore
from obstore.exceptions import BaseError, NotModifiedError, PreconditionError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from darts_assets.errors import StoreError
from darts_assets.stores.location import StoreLocation, checked_name
from darts_assets.stores.service_errors import in_words

FOLDERS = ("area_estimation", "catalog", "dataset", "inventory", "products", "scenes")
"""Folders of a store that are served."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_KINDS = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "geojson": "application/geo+json",
    "gpkg": "application/geopackage+sqlite3",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "tif": "image/tiff; application=geotiff",
    "webp": "image/webp",
    "zip": "application/zip",
}


def key_of_path(raw_path: bytes) -> tuple[str, ...] | None:
    """The parts of a key in the served folders, from the path of a request as it was sent; None for any other path.

    Encoded slashes and backslashes, `.` and `..`, names that begin with a dot, empty names and names that a store
    refuses are no keys.
    """
    parts = raw_path.partition(b"?")[0].removeprefix(b"/").split(b"/")
    try:
        names = tuple(checked_name(unquote_to_bytes(part).decode()) for part in parts)
    except (StoreError, UnicodeDecodeError):
        return None
    if len(names) < 2 or names[0] not in FOLDERS or any(name.startswith(".") for name in names):
        return None
    return names


class StoredFiles:
    """The endpoint for `FOLDERS` of a store on a path or on S3.

    Args:
        root: the store; folders that lie elsewhere are read there.
    """

    def __init__(self, root: StoreLocation) -> None:
        self._folders = {name: root.child(name) for name in FOLDERS}
        self._client = cache(StoreLocation.objects)  # its connections are kept

    async def answer(self, request: Request) -> Response:
        """Answer a GET or HEAD request for a file.

        Raises:
            HTTPException: 404 for what is not a file in the served folders, 416 for a range outside of it, 502 if the
                object store does not respond.
        """
        names = key_of_path(request.scope.get("raw_path") or request.url.path.encode())
        if names is None:
            raise HTTPException(404, "not a file of the map")
        folder, key = self._folders[names[0]], "/".join(names[1:])
        if folder.is_local and not await run_in_threadpool(_is_inside, folder, key):
            raise HTTPException(404, f"{'/'.join(names)} does not exist")
        options: Any = {"head": True} if request.method == "HEAD" else {}
        span = _span(request)
        if span is not None:
            options["range"] = span
            if "if-range" in request.headers:
                options["if_match"] = request.headers["if-range"]
        if (tag := request.headers.get("if-none-match")) and span is None:
            options["if_none_match"] = tag
        try:
            try:
                result = await obstore.get_async(self._client(folder), key, options=options)
            except PreconditionError:  # the range is of another version: the whole file
                span = None
                result = await obstore.get_async(self._client(folder), key)
        except NotModifiedError:
            return Response(status_code=304)
        except FileNotFoundError:
            raise HTTPException(404, f"{'/'.join(names)} does not exist") from None
        except (BaseError, OSError) as error:
            raise await self._failure(folder, key, span, error) from error
        return _response(request, names[-1], result, is_part=span is not None)

    async def _failure(self, folder: StoreLocation, key: str, span: Any, error: Exception) -> HTTPException:
        """An unusable range, or a store that does not respond."""
        if span is not None:
            try:
                size = (await obstore.head_async(self._client(folder), key))["size"]
            except (BaseError, OSError):
                size = None
            start = span[0] if isinstance(span, tuple) else span.get("offset", 0)
            if size is not None and (start >= size or size == 0):
                return HTTPException(416, "the range is outside of the file", {"Content-Range": f"bytes */{size}"})
        return HTTPException(502, f"the store does not respond: {in_words(error)}")


def _is_inside(folder: StoreLocation, key: str) -> bool:
    """Whether a key is a file within a local folder, also after links; `latest/` is a link within its folder."""
    base = folder.path
    if not base.is_dir():
        return False
    real = (base / key).resolve()
    return real.is_file() and real.is_relative_to(base) and not any(
        part.startswith(".") for part in real.relative_to(base).parts
    )  # fmt: skip


def _span(request: Request) -> tuple[int, int] | dict[str, int] | None:
    """The range of a request as obstore expects it; None for the whole file: no range, or several.

    Ranges of the file of a certain date (`If-Range`) are those of an unknown version: tags are compared only.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not match or not request.headers.get("if-range", '"').startswith('"') or request.method == "HEAD":
        return None
    start, end = match[1], match[2]
    if not start:
        return {"suffix": int(end)} if end and int(end) else None
    if not end:
        return {"offset": int(start)}
    return (int(start), int(end) + 1) if int(start) <= int(end) else None


def _response(request: Request, name: str, result: Any, *, is_part: bool) -> Response:
    meta, (start, end) = result.meta, result.range
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Length": str(meta["size"] if request.method == "HEAD" else end - start),
        "Content-Type": _KINDS.get(PurePosixPath(name).suffix[1:].lower(), "application/octet-stream"),
        "Last-Modified": format_datetime(meta["last_modified"], usegmt=True),
    }
    if meta["e_tag"]:
        headers["ETag"] = meta["e_tag"]
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{meta['size']}"
    if request.method == "HEAD":
        return Response(headers=headers)

    async def body() -> AsyncIterator[bytes]:
        async for chunk in result.stream(min_chunk_size=1024**2):
            yield bytes(chunk)

    return StreamingResponse(body(), 206 if is_part else 200, headers)
