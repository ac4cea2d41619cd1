"""Atomic publishing: write a fresh version beside the old one, then switch in one PUT.

A place holds versions (folders) and one small pointer object that says what is current. Readers go through the
pointer, so they see the old content or the new, never a part. A writer that dies leaves a version that no pointer
names; the next writer removes it. If two writers of one place overlap, the later one wins: it removes the earlier
one's version, and the earlier one fails when it wants to publish.

A place whose name ends in `.zarr` is a valid Zarr hierarchy: its pointer is the root group's own `zarr.json`, and a
version is a subgroup.
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

_MARKER = ".writer"  # "<version>.writer" beside a version says that its writer may still publish it


@dataclass(frozen=True)
class Manifest:
    """What is current at a place.

    Attributes:
        contents: name of each part (a band, a file) -> the version that holds it.
        metadata: JSON facts about the content (provenance, grid).
    """

    contents: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A version being written.

    Attributes:
        id: its name below the place; sorts by time.
        location: where its objects go.
    """

    id: str
    location: StoreLocation


class Place:
    """A named place of a store whose content changes in one step."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._is_zarr = location.url.endswith(".zarr")
        self._pointer = "zarr.json" if self._is_zarr else "current.json"

    def manifest(self) -> Manifest | None:
        """What is current, None if nothing was ever published.

        Raises:
            NotReadableError: if the pointer is damaged.
        """
        if self.location.is_local and not self.location.path.exists():
            return None  # asking must not create the folder
        try:
            raw = bytes(obstore.get(self.location.objects(), self._pointer).bytes())
        except FileNotFoundError:
            return None
        try:
            document = json.loads(raw)
            body = document["attributes"]["darts_assets"] if self._is_zarr else document
            return Manifest(body["contents"], body["metadata"])
        except (ValueError, KeyError, TypeError) as error:
            raise NotReadableError(f"{self.location}: its pointer {self._pointer} is damaged: {error}") from error

    def require(self) -> Manifest:
        """What is current.

        Raises:
            NotReadableError: if nothing has been published here.
        """
        manifest = self.manifest()
        if manifest is None:
            raise NotReadableError(f"{self.location}: nothing has been published here; materialize its partition first")
        return manifest

    @contextmanager
    def new_version(self) -> Iterator[Version]:
        """A fresh version to write into; leaving the block by an error removes it, `publish` makes it current."""
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
            if version.id not in self._referenced(self.manifest()):  # what failed after publishing must not undo it
                self._remove(version.id)
            raise

    def publish(self, version: Version, contents: dict[str, str], metadata: dict[str, Any]) -> None:
        """Make `contents` current in one step, then remove the versions that it replaces.

        Raises:
            StoreError: if a later writer has taken over the place.
        """
        store = self.location.objects()
        replaced = self._referenced(self.manifest()) - set(contents.values())
        body: dict[str, Any] = {"contents": contents, "metadata": metadata}
        if self._is_zarr:
            body = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
        self._require_marker(version)
        obstore.put(store, self._pointer, json.dumps(body, indent=1).encode())
        try:
            self._require_marker(version)  # a writer that began in between has removed this version
        except StoreError:
            if version.id in self._referenced(self.manifest()):
                obstore.delete(store, self._pointer)
            raise
        self._remove_marker(version.id + _MARKER)
        for old in replaced:
            self._remove(old)

    def clear(self) -> None:
        """Remove the place: pointer first, so that no reader sees a part."""
        if self.manifest() is not None:
            obstore.delete(self.location.objects(), self._pointer)
        self._remove_all_but(set())

    def _require_marker(self, version: Version) -> None:
        try:
            obstore.head(self.location.objects(), version.id + _MARKER)
        except FileNotFoundError:
            raise StoreError(f"{self.location}: another run has started to write here; this one gives way") from None

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
            for staged in self.location.path.glob(f"{self._pointer}#*"):  # a pointer PUT killed midway
                staged.unlink(missing_ok=True)

    def _remove_marker(self, marker: str) -> None:
        with suppress(FileNotFoundError):  # another writer was faster
            obstore.delete(self.location.objects(), marker)

    def _remove(self, version: str) -> None:
        location = self.location.child(version)
        if location.is_local:
            shutil.rmtree(location.path, ignore_errors=True)
            return
        keys = list(location.keys())
        if keys:
            obstore.delete(location.objects(), keys)
