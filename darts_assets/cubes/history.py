"""Shortening the history of a cube, and removing what nothing refers to.

Every commit keeps what it replaces: the snapshot before it and the manifests that it rewrote (up to 150 kB for each
variable), but no chunks, which are written once. Killed writers and those that came second leave chunks, manifests and
snapshots that no commit refers to. Both go here, once they are old enough.

What an age means: a snapshot expires when it was replaced longer ago than that. So whoever opened the cube within the
age finds all that its snapshot refers to, and can commit on it. Who has held it open for longer keeps reading what it
has read before; for the rest it gets `StoreError` where a replaced manifest is gone, never other values, and reads on
with a window opened anew. A writer with an expired snapshot makes its changes again on the newest one.

Nothing tells an object that a writer has just put, and will refer to, from garbage, and a writer may sleep in between
(a laptop over a weekend). So only what is older than the oldest snapshot that stays, by an hour, is removed: a writer
that works on this one or a later one has put its objects at about that time or later, and one that works on an earlier
one cannot commit them. What was left behind since then goes when there are newer commits.

The messages and metadata of expired commits are gone with them (who filled a chunk, from what). The newest snapshot
never expires, nor does the first, which is empty.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import icechunk

from darts_assets.cubes.repository import BRANCH, CubeRepository
from darts_assets.errors import CubeError

MINIMUM_AGE = timedelta(days=1)
"""Longer than anybody works with a cube that it has opened."""

_COMMITTING = timedelta(hours=1)
"""Longer than a writer that is awake takes from its first chunk to its commit, and more than clocks differ."""


@dataclass(frozen=True, slots=True)
class ExpiredHistory:
    """What shortening a cube's history amounted to.

    Attributes:
        snapshots: taken out of the history.
        objects: removed: snapshots, transaction logs, manifests and chunks.
        bytes: their size.
    """

    snapshots: int = 0
    objects: int = 0
    bytes: int = 0


def expire(repository: CubeRepository, older_than: timedelta, *, alone: bool = False) -> ExpiredHistory:
    """Expire the snapshots that were replaced longer ago than `older_than`, and remove what nothing refers to.

    Others may read and fill the cube meanwhile; two processes must not shorten the history of one cube at once.

    Args:
        repository: the cube's; if there is none, there is nothing to do.
        older_than: age.
        alone: nobody else has the cube open: any age will do, and all that nothing refers to is removed.

    Raises:
        CubeError: if the age is too short for those who use the cube.
        StoreError: if the store fails; what has been done until then is sound, and can be gone on with.
    """
    if older_than < timedelta(0) or (older_than < MINIMUM_AGE and not alone):
        raise CubeError(
            f"{repository.location}: history younger than {MINIMUM_AGE} cannot expire while others may use the cube; "
            f"asked for was {older_than}"
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
        # Without the lock: it takes long in a large cube, and only touches what commits have no use for.
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
    """When the snapshot was written that was the newest one at a moment; the moment itself if there was none."""
    written = (snapshot.written_at for snapshot in repository.ancestry(branch=BRANCH))
    return next((time for time in written if time <= moment), moment)


def _remove_staged(repository: CubeRepository, moment: datetime) -> list[int]:
    """Remove files `NAME#1` that killed writers left on a local path, where Icechunk does not see them; their sizes."""
    sizes: list[int] = []
    for path in repository.location.path.rglob("*#*") if repository.location.is_local else ():
        with suppress(FileNotFoundError):  # its writer has given it its name meanwhile
            found = path.stat()
            if path.name.rpartition("#")[2].isdecimal() and found.st_mtime < moment.timestamp():
                path.unlink()
                sizes.append(found.st_size)
    return sizes
