"""Cache of parsed label archives in the store, from which the rows of single images are read.

Joining outlines with footprints needs the whole archive, which is too slow to repeat in each partition of a backfill.
"""

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import obstore
from obstore.store import LocalStore, S3Store

from darts_assets.errors import StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place
from darts_assets.training.labels import CRS, Iteration, LabelArchive, archive_files, read_archive

_log = logging.getLogger(__name__)

_ROWS = 256  # rows per group
_BYTES = 1 << 16  # buffer size of reads
_FORMAT = 1


def archive_of(
    images: Sequence[str], folder: str | Path, cache: StoreLocation, *, match_prefix: bool = False
) -> LabelArchive:
    """Labels and footprints of `images`; `iterations` and `problems` describe the whole archive.

    Args:
        images: image ids; ids without a footprint have no rows.
        folder: folder of the archive.
        cache: folder of parsed archives; an archive is parsed again when one of its files has changed.
        match_prefix: see `read_archive`.

    Raises:
        TrainingError: from `read_archive`.
    """
    root = Path(folder).expanduser().resolve()
    name = hashlib.sha256(json.dumps([str(root), match_prefix, _FORMAT]).encode()).hexdigest()[:16]
    place = Place(cache.child(name))
    files = _files(root)
    archive = _read(place, files, images)
    if archive is None:
        _log.info("reading labels in %s", root)
        whole = read_archive(root, match_prefix=match_prefix)
        with suppress(StoreError):  # another run publishes the same content
            _publish(place, files, whole)
        archive = _read(place, files, images) or whole.of_images(images)
    return archive


def _files(root: Path) -> list[list[Any]]:
    """Names, sizes and modification times of the files of an archive; JSON types."""
    facts = [(path.relative_to(root), path.stat()) for path in archive_files(root)]
    return [[str(path), status.st_size, status.st_mtime_ns] for path, status in facts]


def _publish(place: Place, files: list[list[Any]], archive: LabelArchive) -> None:
    with place.new_version() as version:
        for name, table in (("labels", archive.labels), ("footprints", archive.footprints)):
            content = io.BytesIO()
            ordered = table.sort_values("image_id", kind="stable", ignore_index=True)
            ordered.to_parquet(content, index=False, row_group_size=_ROWS)
            obstore.put(version.location.objects(), f"{name}.parquet", content.getvalue())
        facts = {"files": files, "iterations": [asdict(iteration) for iteration in archive.iterations]}
        place.publish(version, dict.fromkeys(("labels.parquet", "footprints.parquet"), version.id), facts)


def _read(place: Place, files: list[list[Any]], images: Sequence[str]) -> LabelArchive | None:
    """The cached archive of these files; None if there is none."""
    manifest = place.manifest()
    if manifest is None or manifest.metadata["files"] != files:
        return None
    try:
        labels, footprints = (_rows(place, manifest, name, images) for name in ("labels.parquet", "footprints.parquet"))
    except FileNotFoundError:
        return None  # replaced in the meantime
    iterations = [
        Iteration(**{**iteration, "doubtful": tuple(iteration["doubtful"])})
        for iteration in manifest.metadata["iterations"]
    ]
    return LabelArchive(labels, footprints, tuple(iterations))


def _rows(place: Place, manifest: Manifest, name: str, images: Sequence[str]) -> gpd.GeoDataFrame:
    folder = place.location.child(manifest.contents[name])
    with _Object(folder.objects(), name) as content:
        rows = gpd.read_parquet(content, filters=[("image_id", "in", list(images))])
    return rows.set_crs(CRS, allow_override=True)  # the file has the same CRS in another notation


class _Object(io.RawIOBase):
    """Seekable file over an object of a store; fetches only the parts that are read."""

    def __init__(self, store: LocalStore | S3Store, key: str) -> None:
        self._reader = obstore.open_reader(store, key, buffer_size=_BYTES)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        content = bytes(self._reader.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)
