"""A label archive as single images need it: parsed once, kept in the store, then read for the images asked for.

To join outlines with footprints, and to say what joins none, takes all of an archive; a backfill that did so in each of
its partitions would take time and memory that grow with the archive times the images.
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

_ROWS = 256  # that are read at least
_BYTES = 1 << 16  # that are asked for at a time
_FORMAT = 1


def archive_of(
    images: Sequence[str], folder: str | Path, kept: StoreLocation, *, match_prefix: bool = False
) -> LabelArchive:
    """What an archive says of some images; `iterations` and `problems` are those of the whole archive.

    Args:
        images: ids; one that has no footprint in the archive is in none of its tables.
        folder: of the archive.
        kept: where what was parsed is kept; it is parsed again when a file of the archive has changed.
        match_prefix: see `read_archive`.

    Raises:
        TrainingError: from `read_archive`.
    """
    root = Path(folder).expanduser().resolve()
    name = hashlib.sha256(json.dumps([str(root), match_prefix, _FORMAT]).encode()).hexdigest()[:16]
    place = Place(kept.child(name))
    files = _files(root)
    archive = _read(place, files, images)
    if archive is None:
        _log.info("%s: the labels are read", root)
        whole = read_archive(root, match_prefix=match_prefix)
        with suppress(StoreError):  # another run keeps the same; what was read is as good
            _keep(place, files, whole)
        archive = _read(place, files, images) or whole.of_images(images)
    return archive


def _files(root: Path) -> list[list[Any]]:
    """What tells that an archive has changed: names, sizes and times of its files; JSON types."""
    facts = [(path.relative_to(root), path.stat()) for path in archive_files(root)]
    return [[str(path), status.st_size, status.st_mtime_ns] for path, status in facts]


def _keep(place: Place, files: list[list[Any]], archive: LabelArchive) -> None:
    with place.new_version() as version:
        for name, table in (("labels", archive.labels), ("footprints", archive.footprints)):
            content = io.BytesIO()
            ordered = table.sort_values("image_id", kind="stable", ignore_index=True)
            ordered.to_parquet(content, index=False, row_group_size=_ROWS)
            obstore.put(version.location.objects(), f"{name}.parquet", content.getvalue())
        facts = {"files": files, "iterations": [asdict(iteration) for iteration in archive.iterations]}
        place.publish(version, dict.fromkeys(("labels.parquet", "footprints.parquet"), version.id), facts)


def _read(place: Place, files: list[list[Any]], images: Sequence[str]) -> LabelArchive | None:
    """What is kept of these files, None if nothing is."""
    kept = place.manifest()
    if kept is None or kept.metadata["files"] != files:
        return None
    try:
        labels, footprints = (_rows(place, kept, name, images) for name in ("labels.parquet", "footprints.parquet"))
    except FileNotFoundError:
        return None  # it was replaced in between
    iterations = [
        Iteration(**{**iteration, "doubtful": tuple(iteration["doubtful"])})
        for iteration in kept.metadata["iterations"]
    ]
    return LabelArchive(labels, footprints, tuple(iterations))


def _rows(place: Place, kept: Manifest, name: str, images: Sequence[str]) -> gpd.GeoDataFrame:
    folder = place.location.child(kept.contents[name])
    with _Object(folder.objects(), name) as content:
        rows = gpd.read_parquet(content, filters=[("image_id", "in", list(images))])
    return rows.set_crs(CRS, allow_override=True)  # the file spells the same CRS out


class _Object(io.RawIOBase):
    """An object of a store as a file: only the parts that are read are fetched."""

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
