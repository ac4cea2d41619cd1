"""Atomic publishing: write a new version beside the old one, then switch with one conditional PUT of a pointer.

A place holds versions (folders) and a small pointer object that lists the current content and names the current writer.
Readers start from the pointer, so they read the old or the new content, never a mixture. All changes of the pointer are
compare-and-swap ([`pointer.py`](pointer.py)):

1. A writer puts its name into the pointer. From then on no earlier writer can publish: the pointer is not the one that
   it knows. If two writers overlap, the later one wins and the earlier one fails.
2. It removes the versions that the pointer does not list. They belong to killed writers, or to writers that can no
   longer publish.
3. It writes its version and publishes it by replacing the pointer that has its name. The replaced versions are removed.

A writer that is killed or stalled at any moment therefore changes nothing of what is published. The pointer is never
deleted. Nothing is removed that the pointer lists, or that does not have the name of a version.

A place with a name ending in `.zarr` is a valid Zarr hierarchy: its pointer is the `zarr.json` of the root group, and
each version is a subgroup.
"""

import datetime as dt
import json
import logging
import random
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import obstore
from obstore.exceptions import BaseError

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import ONCE, Pointer, State, SupersededError
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.service_errors import in_words

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6,12}(\.writer)?")  # the suffix: of former releases
_CLAIMS = 20


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


@dataclass
class Version:
    """A version being written.

    Attributes:
        id: folder name below the place; sorts by time.
        location: root of its objects.
        base: the content that it replaces, as published when its writer began.
        state: of the pointer with this version's writer.
        is_published: whether it has become the current content.
    """

    id: str
    location: StoreLocation
    base: Manifest | None
    state: State
    is_published: bool = False


class Place:
    """A named location of a store whose content is replaced atomically."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._is_zarr = location.url.endswith(".zarr")
        self._pointer = Pointer(location, "zarr.json" if self._is_zarr else "current.json")

    def manifest(self) -> Manifest | None:
        """The current content, None if nothing has been published.

        Raises:
            NotReadableError: if the pointer is damaged.
            StoreError: if the store does not respond.
        """
        return self._parse(self._pointer.read())

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
        """A new version to write into. `publish` makes it current; leaving the block without removes it.

        Raises:
            UnsafeStoreError: if the object store ignores or lacks conditional writes.
            StoreError: if the store does not respond.
        """
        ensure_safe(self.location.root)
        version = self._claim()
        self._collect(version)
        try:
            yield version
        finally:
            if not version.is_published:
                self._abandon(version)

    def publish(self, version: Version, contents: dict[str, str], metadata: dict[str, Any]) -> None:
        """Make `contents` current, then remove the replaced versions.

        Args:
            version: the version written.
            contents: name of each part -> version that holds it: this one, or one of `version.base`.
            metadata: JSON facts about the content.

        Raises:
            StoreError: if a later writer has started, or contents belong to a version that was replaced before this
                writer started.
        """
        replaced = _versions(version.base)
        if gone := set(contents.values()) - replaced - {version.id}:
            raise StoreError(
                f"{self.location}: another run has replaced {', '.join(sorted(gone))}, parts of which this run keeps; "
                "start this run again"
            )
        manifest = Manifest(contents, metadata)
        try:
            version.state = self._pointer.replace(version.state, self._body(manifest, None))
        except SupersededError:
            # A later writer has started before or after the pointer was replaced; the response may have been lost.
            if version.id not in _versions(self.manifest()):
                raise StoreError(f"{self.location}: another run is writing here; this run does not publish") from None
        version.is_published, version.base = True, manifest
        for old in replaced - set(contents.values()):
            self._remove(old)

    def _claim(self) -> Version:
        """Put the name of a new version's writer into the pointer."""
        name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        for attempt in range(_CLAIMS):
            seen = self._pointer.read()
            base = self._parse(seen)
            try:
                state = self._pointer.replace(seen, self._body(base, name))
            except SupersededError:
                time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
            else:
                return Version(name, self.location.child(name), base, state)
        raise StoreError(f"{self.location}: other runs started to write here {_CLAIMS} times; this run gives up")

    def _collect(self, version: Version) -> None:
        """Remove what neither the pointer lists nor a writer can publish any more."""
        names = self._names()
        # Whoever started after this writer's claim has changed the pointer before writing anything that is listed.
        if self._pointer.read() != version.state:
            return
        for name in names - _versions(version.base) - {version.id}:
            if _VERSION.fullmatch(name):
                self._remove(name)

    def _abandon(self, version: Version) -> None:
        """Withdraw a version that is not published; its PUT of the pointer might arrive later."""
        try:
            self._pointer.replace(version.state, self._body(version.base, None), ONCE)
        except SupersededError:
            if version.id in _versions(self.manifest()):
                return
        except StoreError as error:
            logger.warning("%s: %s is left to the next writer: %s", self.location, version.id, error)
            return
        self._remove(version.id)

    def _body(self, manifest: Manifest | None, writer: str | None) -> bytes:
        body: dict[str, Any] = {
            "contents": manifest.contents if manifest else None,
            "metadata": manifest.metadata if manifest else {},
            "writer": writer,
            "revision": uuid.uuid4().hex,
        }
        if self._is_zarr:
            body = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
        return json.dumps(body, indent=1).encode()

    def _parse(self, state: State) -> Manifest | None:
        if state.content is None:
            return None
        try:
            document = json.loads(state.content)
            body = document["attributes"]["darts_assets"] if self._is_zarr else document
            return None if body["contents"] is None else Manifest(body["contents"], body["metadata"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NotReadableError(f"{self.location}: the pointer {self._pointer.name} is damaged: {error}") from error

    def _names(self) -> set[str]:
        listing = obstore.list_with_delimiter(self.location.objects())
        return {*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])}

    def _remove(self, name: str) -> None:
        """Remove a version, or the marker of one; what cannot be removed is left to the next writer."""
        location = self.location.child(name)
        if location.is_local:
            if location.path.is_dir():
                shutil.rmtree(location.path, ignore_errors=True)
            else:
                location.path.unlink(missing_ok=True)
            return
        try:
            keys = [name] if name.endswith(".writer") else [f"{name}/{key}" for key in location.keys()]  # noqa: SIM118
            if keys:
                obstore.delete(self.location.objects(), keys)
        except (BaseError, OSError) as error:
            logger.warning("%s: %s cannot be removed: %s", self.location, name, in_words(error))


def _versions(manifest: Manifest | None) -> set[str]:
    return set(manifest.contents.values()) if manifest else set()
