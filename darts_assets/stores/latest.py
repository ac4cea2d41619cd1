"""`latest/` below a place: a path to the current files that stays the same from version to version.

On a local path it is a symbolic link to the current version, replaced atomically. An object store has no links: the
files are copied by the server, one by one, so that each is complete at any time, and files that are no longer part of
the content are deleted last. A writer that is killed before leaves `latest/` at the version before, which is complete;
the next writer refreshes it before it removes that version.
"""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import obstore
from filelock import FileLock
from obstore.exceptions import BaseError

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.service_errors import in_words

logger = logging.getLogger(__name__)

LATEST = "latest"
_LOCK_SECONDS = 60.0
_ROUNDS = 5  # other writers may publish meanwhile


class Content(Protocol):
    """The content of a place, such as `Manifest`."""

    @property
    def contents(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def versions(self) -> set[str]: ...  # noqa: D102


def refresh_latest(location: StoreLocation, current: Callable[[], Content | None]) -> None:
    """Lead `latest/` to the current version of a place; a failure is logged, since the version itself is published.

    Args:
        location: of the place.
        current: reads the current content.
    """
    try:
        for _ in range(_ROUNDS):
            manifest = current()
            if manifest is None or len(manifest.versions) != 1:
                return
            _lead(location, next(iter(manifest.versions)), set(manifest.contents))
            if (after := current()) is not None and after.versions == manifest.versions:
                return
    except (BaseError, OSError) as error:  # also a lock that is not released
        logger.warning("%s/%s is not refreshed; the next writer does it: %s", location, LATEST, in_words(error))


def _lead(location: StoreLocation, version: str, files: set[str]) -> None:
    if location.is_local:
        _link(location.path, version)
        return
    store = location.objects()
    for name in sorted(files):
        obstore.copy(store, f"{version}/{name}", f"{LATEST}/{name}")
    surplus = [f"{LATEST}/{name}" for name in set(location.child(LATEST).keys()) - files]
    if surplus:
        obstore.delete(store, surplus)


def _link(folder: Path, version: str) -> None:
    latest = folder / LATEST
    with FileLock(folder / f"{LATEST}.lock", timeout=_LOCK_SECONDS):
        if latest.is_symlink() and latest.readlink() == Path(version):
            return
        link = folder / f".{LATEST}-{uuid.uuid4().hex[:8]}"
        link.symlink_to(version, target_is_directory=True)
        link.replace(latest)
