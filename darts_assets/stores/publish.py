"""Atomic publishing: write a new version beside the old one, then switch with one PUT of a pointer.

A place holds versions (folders) and a small pointer object that lists the current content. Readers start from the
pointer, so they read the old or the new content, never a mixture. A killed writer leaves a version without pointer,
which the next writer removes. If two writers of a place overlap, the later one wins: it removes the version of the
earlier one, which then fails to publish.

A place with a name ending in `.zarr` is a valid Zarr hierarchy: its pointer is the `zarr.json` of the root group, and
each version is a subgroup.
"""

import datetime as dt
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import obstore

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation

_MARKER = ".writer"  # "<version>.writer" beside a version: its writer may still publish it


@dataclass(frozen=True)
class Manifest:
    """The current content of a place.

    Attributes:
        contents: name of each part (band or file) -> version that holds it.
        metadata: JSON facts about the content (provenance, grid).
    """

    contents: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        contents = self.contents.items() if isinstance(self.contents, dict) else [(self.contents, None)]
        if not all(isinstance(part, str) for pair in contents for part in pair) or not isinstance(self.metadata, dict):
            raise TypeError("contents must map names to versions, metadata must be an object")


@dataclass(frozen=True)
class Version:
    """A version being written.

    Attributes:
        id: folder name below the place; sorts by time.
        location: root of its objects.
    """

    id: str
    location: StoreLocation


class Place:
    """A named location of a store whose content is replaced atomically."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._is_zarr = location.url.endswith(".zarr")
        self._pointer = "zarr.json" if self._is_zarr else "current.json"

    def manifest(self) -> Manifest | None:
        """The current content, None if nothing has been published.

        Raises:
            NotReadableError: if the pointer is damaged.
        """
        if self.location.is_local and not self.location.path.exists():
            return None  # `objects` would create the folder
        try:
            raw = bytes(obstore.get(self.location.objects(), self._pointer).bytes())
        except FileNotFoundError:
            return None
        try:
            document = json.loads(raw)
            body = document["attributes"]["darts_assets"] if self._is_zarr else document
            return Manifest(body["contents"], body["metadata"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NotReadableError(f"{self.location}: the pointer {self._pointer} is damaged: {error}") from error

    def require(self) -> Manifest:
        """The current content.

        Raises:
            NotReadableError: if nothing has been published here.
        """
        manifest = self.manifest()
        if manifest is None:
            raise NotReadableError(f"{self.location}: nothing has been published; materialize its partition first")
        return manifest

    @contextmanager
    def new_version(self) -> Iterator[Version]:
        """A new version to write into. `publish` makes it current; an exception in the block removes it."""
        self._remove_all_but(self._referenced(self.manifest()))
        now = dt.datetime.now(dt.UTC)
        name = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        version = Version(name, self.location.child(name))
        writer = {"host": socket.gethostname(), "pid": os.getpid(), "started": now.isoformat()}
        obstore.put(self.location.objects(), version.id + _MARKER, json.dumps(writer).encode())
        try:
            yield version
        except BaseException:
            self._remove_marker(version.id + _MARKER)
            if version.id not in self._referenced(self.manifest()):  # not after publishing
                self._remove(version.id)
            raise

    def publish(self, version: Version, contents: dict[str, str], metadata: dict[str, Any]) -> None:
        """Make `contents` current, then remove the replaced versions.

        Raises:
            StoreError: if a later writer has started.
        """
        store = self.location.objects()
        replaced = self._referenced(self.manifest()) - set(contents.values())
        body: dict[str, Any] = {"contents": contents, "metadata": metadata}
        if self._is_zarr:
            body = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
        self._require_marker(version)
        obstore.put(store, self._pointer, json.dumps(body, indent=1).encode())
        try:
            self._require_marker(version)  # a writer that started in between has removed this version
        except StoreError:
            if version.id in self._referenced(self.manifest()):
                obstore.delete(store, self._pointer)
            raise
        self._remove_marker(version.id + _MARKER)
        for old in replaced:
            self._remove(old)

    def clear(self) -> None:
        """Remove the place, pointer first."""
        if self.manifest() is not None:
            obstore.delete(self.location.objects(), self._pointer)
        self._remove_all_but(set())

    def _require_marker(self, version: Version) -> None:
        try:
            obstore.head(self.location.objects(), version.id + _MARKER)
        except FileNotFoundError:
            raise StoreError(f"{self.location}: another run is writing here; this run does not publish") from None

    @staticmethod
    def _referenced(manifest: Manifest | None) -> set[str]:
        return set(manifest.contents.values()) if manifest else set()

    def _remove_all_but(self, keep: set[str]) -> None:
        store = self.location.objects()
        listing = obstore.list_with_delimiter(store)
        for marker in (entry["path"] for entry in listing["objects"] if entry["path"].endswith(_MARKER)):
            self._remove_marker(marker)
        for prefix in listing["common_prefixes"]:
            if prefix not in keep:
                self._remove(prefix)
        if self.location.is_local:
            for staged in self.location.path.glob(f"{self._pointer}#*"):  # of an interrupted PUT
                staged.unlink(missing_ok=True)

    def _remove_marker(self, marker: str) -> None:
        with suppress(FileNotFoundError):  # removed by another writer
            obstore.delete(self.location.objects(), marker)

    def _remove(self, version: str) -> None:
        location = self.location.child(version)
        if location.is_local:
            shutil.rmtree(location.path, ignore_errors=True)
            return
        keys = list(location.keys())
        if keys:
            obstore.delete(location.objects(), keys)
