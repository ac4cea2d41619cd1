"""Expiry of the history of a cube, and removal of unreferenced objects.

Every commit keeps the previous snapshot and the manifests that it rewrote (up to 150 kB for each variable); chunks are
written once. Killed writers, and writers that lost a conflict, leave unreferenced chunks, manifests and snapshots. Both
are removed here once they are old enough.

A snapshot expires when it was replaced longer ago than the given age. A process that opened the cube within the age can
read everything that its snapshot refers to, and commit on it. A process that has had it open for longer can repeat
earlier reads; other reads raise `StoreError` if a replaced manifest is gone, and never return wrong values. A newly
opened window is complete. A writer with an expired snapshot repeats its changes on the newest one.

An object that a writer has just put cannot be distinguished from garbage, and a writer may be suspended before its
commit (a laptop over a weekend). Only objects that are an hour older than the oldest remaining snapshot are removed:
a writer on this snapshot or a later one has put its objects at about that time or later, and a writer on an earlier one
cannot commit them. Later garbage is removed once there are newer commits.

Messages and metadata of expired commits (run and sources of a chunk) are lost. The newest snapshot never expires, nor
does the first, which is empty.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import icechunk

from darts_assets.cubes.repository import BRANCH, CubeRepository
from darts_assets.errors import CubeError

MINIMUM_AGE = timedelta(days=1)
"""Longer than any process works with a cube that it has opened."""

_COMMITTING = timedelta(hours=1)
"""Longer than a running writer takes from its first chunk to its commit, and than clocks differ."""


@dataclass(frozen=True, slots=True)
class ExpiredHistory:
    """Result of an expiry.

    Attributes:
        snapshots: number of expired snapshots.
        objects: number of removed snapshots, transaction logs, manifests and chunks.
        bytes: size of the removed objects.
    """

    snapshots: int = 0
    objects: int = 0
    bytes: int = 0


def expire(repository: CubeRepository, older_than: timedelta, *, alone: bool = False) -> ExpiredHistory:
    """Expire the snapshots that were replaced longer ago than `older_than`, and remove unreferenced objects.

    Other processes may read and fill the cube meanwhile, but two must not expire the history of one cube at once.

    Args:
        repository: of the cube; may not exist.
        older_than: age.
        alone: no other process has the cube open: any age is allowed, and all unreferenced objects are removed.

    Raises:
        CubeError: if the age is too short for other users of the cube.
        StoreError: if the store fails; the cube stays consistent, and the call can be repeated.
    """
    if older_than < timedelta(0) or (older_than < MINIMUM_AGE and not alone):
        raise CubeError(
            f"{repository.location}: history younger than {MINIMUM_AGE} cannot expire while others may use the cube; "
            f"the requested age is {older_than}"
        )
    opened = repository.reopen()
    if opened is None:
        return ExpiredHistory()
    cutoff = datetime.now(UTC) - older_than
    with repository.errors():
        with repository.exclusive():
            oldest = _newest_at(cutoff, opened)
            expired = opened.expire_snapshots(older_than=oldest)
        unused_before = cutoff if alone else oldest - _COMMITTING
        # Without the lock: it takes long in a large cube, and removes only objects that commits do not use.
        collected = opened.garbage_collect(delete_object_older_than=unused_before)
    staged = _remove_staged(repository, unused_before)
    objects = (
        collected.chunks_deleted
        + collected.manifests_deleted
        + collected.snapshots_deleted
        + collected.attributes_deleted
        + collected.transaction_logs_deleted
    )
    return ExpiredHistory(len(expired), objects + len(staged), collected.bytes_deleted + sum(staged))


def _newest_at(moment: datetime, repository: icechunk.Repository) -> datetime:
    """Time of the snapshot that was the newest one at a moment; the moment itself if there was none."""
    written = (snapshot.written_at for snapshot in repository.ancestry(branch=BRANCH))
    return next((time for time in written if time <= moment), moment)


def _remove_staged(repository: CubeRepository, moment: datetime) -> list[int]:
    """Remove files `NAME#1` of killed writers on a local path, which Icechunk does not list; returns their sizes."""
    sizes: list[int] = []
    for path in repository.location.path.rglob("*#*") if repository.location.is_local else ():
        with suppress(FileNotFoundError):  # renamed by its writer meanwhile
            status = path.stat()
            if path.name.rpartition("#")[2].isdecimal() and status.st_mtime < moment.timestamp():
                path.unlink()
                sizes.append(status.st_size)
    return sizes
