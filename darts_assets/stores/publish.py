"""Atomic publishing: write a new version beside the old one, then switch with one conditional PUT of a pointer.

A place holds versions (folders) and a small pointer object that lists the current content and names the current writer.
Readers start from the pointer, so they read the old or the new content, never a mixture. All changes of the pointer are
compare-and-swap ([`pointer.py`](pointer.py)):

1. A writer puts its name into the pointer. From then on no earlier writer can publish: the pointer is not the one that
   it knows. If two writers overlap, the later one wins and the earlier one fails.
2. It removes the versions that the pointer does not list. They belong to killed writers, or to writers that can no
   longer publish.
3. It writes its version and publishes it by replacing the pointer that has its name.

A writer that is killed or stalled at any moment therefore changes nothing of what is published. The pointer is never
deleted. Nothing is removed that the pointer lists, or that does not have the name of a version.

A version is complete in itself and never changes. The pointer lists replaced versions with the time of their
replacement: a reader that has opened one can finish. They are removed by the next writer, or by `collect`, once they
are older than the grace time of the place and nothing published refers to them. A content may be released to save space
([`tile_retention.py`](tile_retention.py)): its version is then listed as a replaced one, and its metadata stay.

Former releases named places of Zarr stores `<partition>.zarr`, with the pointer in the root group;
[`former_tiles.py`](former_tiles.py) converts them.
"""

import datetime as dt
import json
import logging
import random
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import obstore
from obstore.exceptions import BaseError

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.latest import LATEST, refresh_latest
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import ONCE, Pointer, State, SupersededError
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.service_errors import in_words

logger = logging.getLogger(__name__)

ZARR = ".zarr"
"""End of the names of versions that are Zarr stores."""

VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6,12}(\.zarr)?")

_LEFT_BEHIND = re.compile(VERSION.pattern + r"|\d{8}T\d{6}Z-[0-9a-f]{6,12}\.writer")  # the latter: of former releases
_CLAIMS = 20
_STALLED = dt.timedelta(days=1)  # longer than any step writes
POINTER = "current.json"

FORMER_POINTER = "zarr.json"
"""The pointer in places of Zarr stores of former releases."""


@dataclass(frozen=True)
class Retention:
    """How long replaced versions are kept.

    Attributes:
        grace: time since their replacement.
        referenced: names of the versions that something published refers to; called only if versions are old enough.
    """

    grace: dt.timedelta = dt.timedelta(days=1)
    referenced: Callable[[], set[str]] = set


@dataclass(frozen=True)
class Manifest:
    """The current content of a place.

    Attributes:
        contents: name of each part (band or file) -> version that holds it.
        metadata: JSON facts about the content (provenance, grid).
        replaced: versions that were replaced and are still kept -> time of their replacement (ISO 8601).
    """

    contents: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for names in (self.contents, self.replaced):
            pairs = names.items() if isinstance(names, dict) else [(names, None)]
            if not all(isinstance(part, str) for pair in pairs for part in pair):
                raise TypeError("contents must map names to versions, and replaced versions to times")
        if not isinstance(self.metadata, dict):
            raise TypeError("metadata must be an object")

    @property
    def versions(self) -> set[str]:
        """The versions of the contents."""
        return set(self.contents.values())

    @property
    def released(self) -> dict[str, str] | None:
        """If the values were released to save space: `since` (ISO 8601) and `again`, the command that makes them."""
        return self.metadata.get("released")


@dataclass
class Version:
    """A version being written.

    Attributes:
        id: folder name below the place; sorts by time.
        location: root of its objects.
        base: the content that it replaces, as published when its writer began.
        state: of the pointer with this version's writer.
        is_published: whether it has become the current content.
        removed: number of other versions that its writer has removed.
    """

    id: str
    location: StoreLocation
    base: Manifest | None
    state: State
    is_published: bool = False
    removed: int = 0


class Place:
    """A named location of a store whose content is replaced atomically.

    Args:
        location: the folder.
        retention: of replaced versions.
        has_latest: whether `latest/` below the location leads to the current files; see `refresh_latest`.
        refuses_former: whether a place that a former release wrote is an error.
    """

    def __init__(
        self,
        location: StoreLocation,
        retention: Retention | None = None,
        *,
        has_latest: bool = False,
        refuses_former: bool = True,
    ) -> None:
        self.location = location
        self._retention = retention or Retention()
        self._has_latest, self._refuses_former = has_latest, refuses_former
        self._pointer = Pointer(location, POINTER)

    def manifest(self) -> Manifest | None:
        """The current content, None if nothing has been published.

        Raises:
            NotReadableError: if the pointer is damaged, or a former release wrote the place and it is not migrated.
            StoreError: if the store does not respond.
        """
        manifest, _ = self._parse(self._pointer.read())
        return manifest

    def require(self) -> Manifest:
        """The current content.

        Raises:
            NotReadableError: if nothing has been published here.
        """
        manifest = self.manifest()
        if manifest is None:
            raise NotReadableError(f"{self.location}: nothing has been published; materialize its partition first")
        return manifest

    def require_values(self, manifest: Manifest | None = None, again: str | None = None) -> Manifest:
        """The current content, or `manifest`, whose values are stored.

        Args:
            manifest: content.
            again: the command that makes released values again; by default that of the release.

        Raises:
            NotReadableError: if nothing has been published here, or the values were released; with the command that
                makes them again.
        """
        manifest = manifest or self.require()
        if manifest.released is not None:
            raise NotReadableError(
                f"{self.location}: its values were released on {manifest.released['since'][:10]} to save space "
                f"(DARTS_KEEP_TILES). First make them again: {again or manifest.released['again']}"
            )
        return manifest

    def current_url(self, manifest: Manifest | None = None) -> str:
        """The path or URL of the version that holds the current content; of a tile, that of a Zarr store.

        Args:
            manifest: content, by default the current one.

        Raises:
            NotReadableError: if nothing has been published here, or it was released.
        """
        versions = self.require_values(manifest).versions
        if len(versions) != 1:
            raise NotReadableError(f"{self.location}: no single version holds the content; run `darts-assets migrate`")
        return self.location.child(*versions).url

    @contextmanager
    def new_version(self, suffix: str = "") -> Iterator[Version]:
        """A new version to write into. `publish` makes it current; leaving the block without removes it.

        Args:
            suffix: end of the version's name: nothing or `ZARR`.

        Raises:
            UnsafeStoreError: if the object store ignores or lacks conditional writes.
            NotReadableError: if the pointer is damaged, or a former release wrote the place and it is not migrated.
            StoreError: if the store does not respond.
        """
        ensure_safe(self.location.root)
        version = self._claim(suffix)
        try:
            self._clean(version)
            yield version
        finally:
            if not version.is_published:
                self._abandon(version)

    def publish(self, version: Version, contents: dict[str, str], metadata: dict[str, Any]) -> None:
        """Make `contents` current; the versions of the former contents are kept as replaced ones.

        Args:
            version: the version written.
            contents: name of each part -> version that holds it: this one, or one of `version.base`.
            metadata: JSON facts about the content.

        Raises:
            StoreError: if a later writer has started, or contents belong to a version that was replaced before this
                writer started.
        """
        base = version.base or Manifest({})
        manifest = Manifest(contents, metadata)
        if gone := manifest.versions - base.versions - {version.id}:
            raise StoreError(
                f"{self.location}: another run has replaced {', '.join(sorted(gone))}, parts of which this run keeps; "
                "start this run again"
            )
        replaced = base.replaced | dict.fromkeys(base.versions, dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        replaced = {name: since for name, since in replaced.items() if name not in manifest.versions}
        manifest = replace(manifest, replaced=replaced)
        try:
            version.state = self._pointer.replace(version.state, self._body(manifest, None))
        except SupersededError:
            # A later writer has started before or after the pointer was replaced; the response may have been lost.
            if not self._has(version):
                raise StoreError(f"{self.location}: another run is writing here; this run does not publish") from None
        version.is_published, version.base = True, manifest
        self.refresh_latest()

    def amend(self, change: Callable[[Manifest], Manifest]) -> Manifest | None:
        """Replace the record of the current content without a new version.

        Args:
            change: returns the new record, whose versions are also in the old one; or its argument, for no change.

        Returns:
            The record in force; None if nothing is published, a writer is active or has started meanwhile.

        Raises:
            UnsafeStoreError, NotReadableError, StoreError: as `new_version`.
        """
        ensure_safe(self.location.root)
        seen = self._pointer.read()
        manifest, writer = self._parse(seen)
        if manifest is None or (writer and dt.datetime.now(dt.UTC) - _started(writer) < _STALLED):
            return None
        changed = change(manifest)
        if changed != manifest:
            try:
                self._pointer.replace(seen, self._body(changed, None))
            except SupersededError:
                return None
        return changed

    def refresh_latest(self) -> None:
        """Lead `latest/` to the current version, if the place has it and something is published."""
        if self._has_latest:
            refresh_latest(self.location, self.manifest)

    def collect(self) -> int:
        """Remove replaced versions that are old enough, and what a writer left that has been stalled for a day.

        Does nothing while a writer is active: it has collected when it started.

        Returns:
            The number of removed versions.

        Raises:
            StoreError: if the store does not respond.
        """
        manifest, writer = self._parse(self._pointer.read())
        if writer and dt.datetime.now(dt.UTC) - _started(writer) < _STALLED:
            return 0
        if not writer and not self._due(manifest):
            return 0
        with self.new_version() as version:
            return version.removed

    def _claim(self, suffix: str) -> Version:
        """Put the name of a new version's writer into the pointer."""
        name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}{suffix}"
        for attempt in range(_CLAIMS):
            seen = self._pointer.read()
            base, _ = self._parse(seen)
            try:
                state = self._pointer.replace(seen, self._body(base, name))
            except SupersededError:
                time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
            else:
                return Version(name, self.location.child(name), base, state)
        raise StoreError(f"{self.location}: other runs started to write here {_CLAIMS} times; this run gives up")

    def _clean(self, version: Version) -> None:
        """Remove replaced versions that are due, and what no writer can publish any more."""
        names, base = self._names(), version.base or Manifest({})
        due = self._due(base)
        # Whoever started after this writer's claim has changed the pointer before writing anything that is listed.
        if self._pointer.read() != version.state:
            return
        if LATEST in names and version.base:
            refresh_latest(self.location, self.manifest)  # its writer may have been killed before
        kept = {name: since for name, since in base.replaced.items() if name not in due}
        for name in names - base.versions - kept.keys() - {version.id}:
            if _LEFT_BEHIND.fullmatch(name):
                self._remove(name)
                version.removed += 1
        if version.base:
            version.base = replace(base, replaced=kept)

    def _due(self, manifest: Manifest | None) -> set[str]:
        """The replaced versions of a content that need not be kept."""
        moment = dt.datetime.now(dt.UTC) - self._retention.grace
        old = {name for name, since in (manifest or Manifest({})).replaced.items() if _time(since) <= moment}
        try:
            return old - self._retention.referenced() if old else old
        except (BaseError, OSError) as error:  # a writer does not fail for that
            logger.warning("%s: replaced versions are kept: %s", self.location, in_words(error))
            return set()

    def _has(self, version: Version) -> bool:
        """Whether a version has been published, and is not removed since."""
        manifest = self.manifest() or Manifest({})
        return version.id in manifest.versions or version.id in manifest.replaced

    def _abandon(self, version: Version) -> None:
        """Withdraw a version that is not published; its PUT of the pointer might arrive later."""
        try:
            self._pointer.replace(version.state, self._body(version.base, None), ONCE)
        except SupersededError:
            if self._has(version):
                return
        except StoreError as error:
            logger.warning("%s: %s is left to the next writer: %s", self.location, version.id, error)
            return
        self._remove(version.id)

    def _body(self, manifest: Manifest | None, writer: str | None) -> bytes:
        body: dict[str, Any] = {
            "contents": manifest.contents if manifest else None,
            "metadata": manifest.metadata if manifest else {},
            "replaced": manifest.replaced if manifest else {},
            "writer": writer,
            "revision": uuid.uuid4().hex,
        }
        return json.dumps(body, indent=1).encode()

    def _parse(self, state: State) -> tuple[Manifest | None, str | None]:
        """The content and the writer in a state of the pointer."""
        if state.content is None:
            self._refuse_former_layout()
            return None, None
        try:
            return parse_pointer(json.loads(state.content))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NotReadableError(f"{self.location}: the pointer {POINTER} is damaged: {error}") from error

    def _refuse_former_layout(self) -> None:
        former = replace(self.location, url=f"{self.location.url}{ZARR}")
        if self._refuses_former and Pointer(former, FORMER_POINTER).read().content is not None:
            raise NotReadableError(
                f"{former} was written by a former release; convert the store once: darts-assets migrate"
            )

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


def parse_pointer(body: dict[str, Any]) -> tuple[Manifest | None, str | None]:
    """The content and the writer in a pointer; former releases wrote neither a writer nor replaced versions.

    Raises:
        KeyError, TypeError, ValueError: if the pointer is damaged.
    """
    contents, writer = body["contents"], body.get("writer")
    if writer is not None:
        if not isinstance(writer, str):
            raise TypeError("the writer must be a name")
        _started(writer)
    if contents is None:
        return None, writer
    manifest = Manifest(contents, body["metadata"], body.get("replaced", {}))
    for since in manifest.replaced.values():
        _time(since)
    return manifest, writer


def _started(writer: str) -> dt.datetime:
    """When a writer started, from its version's name."""
    return dt.datetime.strptime(writer.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)


def _time(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except OverflowError as error:  # at the ends of the calendar
        raise ValueError(f"{text} is not a time") from error
