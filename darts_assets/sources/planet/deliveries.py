"""Which files belong to which image, and whether all of them have arrived.

A file belongs to the image whose id is the name of a folder above it (`ID/...`, also deeper, as in
`ID/analytic_sr_udm2/...`); otherwise to the image whose id its own name begins with, as in orders that have all images
in one folder (`PSScene/ID_3B_AnalyticMS_SR.tif`).

Planet writes `manifest.json` last. It lists the files of a delivery, with paths relative to its own folder:
`{"files": [{"path": "PSScene/ID_..._SR.tif", "size": 1000, "digests": {"md5": ..., "sha256": ...}, ...}]}`.
"""

import datetime as dt
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from darts_assets.errors import SceneError
from darts_assets.remote.byte_reader import S3Options, read_bytes, shown
from darts_assets.sources.folders import File, absolute, list_files
from darts_assets.sources.planet.names import EXPECTED, ImageId, Kind, image_id, is_id, kind_of

_MANIFEST = "manifest.json"
_MULTIHASH = {"sha256": ("1220", 64), "md5": ("d50110", 32)}
"""Digest -> prefix of its multihash, and its count of hexadecimal digits; the preferred one first."""

_SHOWN = 4
_KEY = tuple[str, str]  # id, folder


@dataclass(frozen=True, slots=True)
class Promise:
    """A file that a manifest lists.

    Attributes:
        href: its path or `s3://` URL.
        size: bytes.
        checksum: multihash as in STAC items, None if the manifest has none.
    """

    href: str
    size: int
    checksum: str | None = None


@dataclass(frozen=True)
class Delivery:
    """The files of one image.

    Attributes:
        id: of the image.
        folder: contains the files, directly or deeper.
        files: existing files.
        promised: files that a manifest lists; empty without a manifest.
    """

    id: ImageId
    folder: str
    files: tuple[File, ...]
    promised: tuple[Promise, ...] = ()

    def __str__(self) -> str:
        return f"Planet image {self.id.id} in {shown(self.folder)}"

    @cached_property
    def signature(self) -> str:
        """A hash that changes when a file is added, removed, resized or rewritten."""
        files = sorted((file.href, file.size, file.modified.isoformat()) for file in self.files)
        return hashlib.sha256(repr((files, self.promised)).encode()).hexdigest()[:16]

    @property
    def modified(self) -> dt.datetime:
        """Time of the last change of a file."""
        return max((file.modified for file in self.files), default=dt.datetime.min.replace(tzinfo=dt.UTC))

    @property
    def missing(self) -> str:
        """Listed files that are missing or have another size, as text; empty if complete or without a manifest."""
        sizes = {file.href: file.size for file in self.files}
        faults = []
        for file in self.promised:
            name = file.href.rpartition("/")[2]
            if file.href not in sizes:
                faults.append(f"{name} is missing")
            elif sizes[file.href] != file.size:
                faults.append(f"{name} has {sizes[file.href]} of {file.size} bytes")
        return _some(faults)

    def check_complete(self) -> None:
        """Raise SceneError if a file of the manifest is missing or has another size."""
        if missing := self.missing:
            raise SceneError(f"{self} is not complete according to its {_MANIFEST}: {missing}")

    def of_kind(self, kind: Kind) -> list[File]:
        """Its files of a kind, sorted by name."""
        return sorted((file for file in self.files if kind_of(file.name) == kind), key=lambda file: file.href)

    def only(self, kind: Kind, product: str) -> File | None:
        """Its file of a kind, None if it has none; raises SceneError if it has several."""
        files = self.of_kind(kind)
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise SceneError(f"{self} has {len(files)} files of {product} ({names}); one was expected")
        return files[0] if files else None

    def checksum(self, file: File) -> str | None:
        """The checksum of a file in the manifest."""
        return next((promise.checksum for promise in self.promised if promise.href == file.href), None)


@dataclass
class Deliveries:
    """The images below a folder.

    Attributes:
        images: deliveries in the order of the time in their ids; an id may occur several times.
        problems: one sentence for each file or folder that could not be used.
    """

    images: list[Delivery] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_deliveries(root: str, s3: S3Options) -> Deliveries:
    """The images below a folder, complete or not; opens no raster.

    Raises:
        SettingsError: if the folder does not exist, or S3 rejects the keys.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    result = Deliveries()
    root = absolute(root)
    files: dict[_KEY, list[File]] = {}
    unassigned: dict[str, list[str]] = {}
    manifests = []
    for file in list_files(root, s3, result.problems):
        key = _key(root, file.href)
        if file.name == _MANIFEST:
            manifests.append(file.href)
        elif key is not None:
            files.setdefault(key, []).append(file)
        elif kind_of(file.name):
            unassigned.setdefault(file.folder, []).append(file.name)
    promised, unreadable = _promises(root, sorted(manifests), s3, result.problems)
    for folder, names in sorted(unassigned.items()):
        result.problems.append(
            f"folder {shown(folder)}: neither its name nor those of its files ({_some(sorted(names))}) are or begin "
            f"with the id of a Planet image; expected {EXPECTED}"
        )
    for image, folder in sorted({*files, *promised}):
        if any(f"{folder}/".startswith(f"{other}/") for other in unreadable):
            continue  # until its manifest can be read; a problem reports the manifest
        parsed, key = image_id(image), (image, folder)
        assert parsed is not None
        result.images.append(Delivery(parsed, folder, tuple(files.get(key, ())), tuple(promised.get(key, ()))))
    result.images.sort(key=lambda delivery: (delivery.id.time, delivery.id.id))
    return result


def without_twins(deliveries: Iterable[Delivery], problems: list[str]) -> list[Delivery]:
    """Deliveries with unique ids; an id in several folders is reported in `problems`."""
    by_id: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        same = by_id.setdefault(delivery.id.id, [])
        if delivery.folder not in [other.folder for other in same]:  # else below two of the given folders
            same.append(delivery)
    for image, same in by_id.items():
        if len(same) > 1:
            folders = ", ".join(shown(delivery.folder) for delivery in same)
            problems.append(f"Planet image {image} is in {len(same)} folders, and none is taken: {folders}")
    return [same[0] for same in by_id.values() if len(same) == 1]


def read_manifest(href: str, s3: S3Options) -> list[Promise]:
    """The files that a manifest lists.

    Raises:
        SceneError: if it is not a complete manifest; it may still be being written.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    folder = href.rpartition("/")[0]
    try:
        content: Any = json.loads(read_bytes(href, s3))
        return [_promise(folder, entry) for entry in content["files"]]
    except FileNotFoundError:
        raise SceneError(f"{shown(href)}: the file does not exist any more") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SceneError(
            f"{shown(href)} is not a complete Planet manifest: a list 'files' with path and size of each was "
            f"expected ({type(error).__name__}: {error})"
        ) from None


def _promise(folder: str, entry: Mapping[str, Any]) -> Promise:
    digests = entry.get("digests") or {}
    hashes = (
        head + str(digests.get(name)).lower()
        for name, (head, digits) in _MULTIHASH.items()
        if re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", str(digests.get(name)))
    )
    scheme, separator, path = folder.rpartition("://")
    # `normpath` of the whole would drop one of the two slashes of `s3://`.
    path = posixpath.normpath(posixpath.join(path, str(entry["path"])))
    return Promise(f"{scheme}{separator}{path}", int(entry["size"]), next(hashes, None))


def _key(root: str, href: str) -> _KEY | None:
    """Id and folder of the image that a file belongs to."""
    below = href.removeprefix(f"{root}/")
    parts = below.split("/")[:-1] if below != href else []
    # From the file up to the root, including the root's own name.
    for depth in range(len(parts), -1, -1):
        folder = "/".join([root, *parts[:depth]])
        if is_id(name := folder.rpartition("/")[2]):
            return name, folder
    folder, _, name = href.rpartition("/")
    image = image_id(name)
    return (image.id, folder) if image else None


def _promises(
    root: str, manifests: Iterable[str], s3: S3Options, problems: list[str]
) -> tuple[dict[_KEY, list[Promise]], list[str]]:
    """Listed files by image, and the folders of unreadable manifests."""
    promised: dict[_KEY, list[Promise]] = {}
    unreadable = []
    for href in manifests:
        try:
            promises = read_manifest(href, s3)
        except SceneError as error:
            problems.append(f"{error}; the images below its folder are skipped until it can be read")
            unreadable.append(href.rpartition("/")[0])
            continue
        for promise in promises:
            if key := _key(root, promise.href):
                promised.setdefault(key, []).append(promise)
    return promised, unreadable


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
