"""The Icechunk repository behind a cube: opening, creating, and committing without losing anybody's chunks.

On an object store Icechunk commits by conditional PUT, and any number of writers is safe once `ensure_safe` has proven
that the store honours the condition. On a local path Icechunk has no such operation: commits go through a file lock
beside the repository, which the operating system releases when its holder dies.
"""

import atexit
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import icechunk
from filelock import FileLock, Timeout

from darts_assets.errors import StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import ensure_safe

BRANCH = "main"

_REPOSITORY_ENTRIES = {"refs", "snapshots", "transactions", "manifests", "chunks", "config.yaml"}
_CREATE_ATTEMPTS = 7  # six seconds in all

_MANIFEST_CHUNKS = 64
"""Side of the square of chunks that share a manifest: a commit rewrites one of at most 4096 entries (about 150 kB),
whatever the cube has grown to, and a scene's window needs one to four."""

# Icechunk's threads hand a result to Python's event loop a moment before they are done with Python. If the interpreter
# ends in that moment they abort the process (Python < 3.14): 1 in 7 programs that end right after reading or filling.
# Sleeping releases the interpreter lock, which is all that they wait for.
atexit.register(time.sleep, 0.1)


class CubeRepository:
    """One repository, opened when it is first needed.

    Args:
        location: a local folder or an S3 prefix.
        lock_timeout: seconds to wait for another process's commit on a local path.
    """

    def __init__(self, location: StoreLocation, lock_timeout: float = 300) -> None:
        self.location = location
        self._lock_timeout = lock_timeout
        self._repository: icechunk.Repository | None = None

    def open(self) -> icechunk.Repository | None:
        """The repository, None if there is none.

        Raises:
            StoreError: if the store does not answer or the repository is damaged.
        """
        if self._repository is None and not (self.location.is_local and not self.location.path.exists()):
            with self.errors():
                storage = _storage(self.location)
                if icechunk.Repository.exists(storage):
                    self._repository = icechunk.Repository.open(storage)
        return self._repository

    def open_or_create(self) -> icechunk.Repository:
        """The repository, created if there is none; any number of processes may do so at once.

        Raises:
            UnsafeStoreError: if the object store cannot make commits safe.
            StoreError: if it cannot be created.
        """
        ensure_safe(_parent(self.location))
        repository = self.open()
        if repository is not None:
            return repository
        with self.exclusive():
            self._repository = self.open() or self._create()
        return self._repository

    def _create(self) -> icechunk.Repository:
        if self.location.is_local:
            self._remove_remains()
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                return icechunk.Repository.create(_storage(self.location), _config())
            except icechunk.IcechunkError as error:
                # On an object store another process may be at it: its snapshot is there before its branch.
                failure = error
            repository = self.open()
            if repository is not None:
                return repository
            time.sleep(0.1 * 2**attempt)
        raise StoreError(
            f"{self.location}: the cube cannot be created ({_words(failure)}); if an earlier attempt was interrupted, "
            "remove what it has left there"
        ) from failure

    def _remove_remains(self) -> None:
        """Remove what a process left that died while it created the repository; needs the lock."""
        path = self.location.path
        if not path.exists():
            return
        foreign = {entry.name for entry in path.iterdir()} - _REPOSITORY_ENTRIES
        if foreign:
            raise StoreError(f"{self.location}: cannot hold a cube, it holds {', '.join(sorted(foreign)[:3])}")
        shutil.rmtree(path)

    def commit(self, session: icechunk.Session, message: str, metadata: dict[str, Any]) -> str | None:
        """Commit on top of whatever others have committed meanwhile.

        Returns:
            The snapshot's id; None if another writer has committed one of the same chunks first.

        Raises:
            StoreError: if the store fails, or the lock cannot be had in time.
        """
        base, attempt = session.snapshot_id, uuid.uuid4().hex
        with self.exclusive(), self.errors():
            try:
                return str(session.commit(message, metadata | {"attempt": attempt}, icechunk.ConflictDetector()))
            except icechunk.RebaseFailedError:
                return self._committed(attempt, since=base)

    def _committed(self, attempt: str, since: str) -> str | None:
        """The snapshot of an attempt that is in conflict with itself: it was repeated after its answer got lost."""
        repository = self.open()
        for snapshot in repository.ancestry(branch=BRANCH) if repository is not None else ():
            if snapshot.metadata.get("attempt") == attempt:
                return str(snapshot.id)
            if snapshot.id == since:
                break
        return None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the file lock on a local path; nothing on an object store, where commits are conditional.

        Raises:
            StoreError: if another process holds the lock for too long.
        """
        if not self.location.is_local:
            yield
            return
        path = self.location.path
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=self._lock_timeout)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"{self.location}: another process has held {error.lock_file} for {self._lock_timeout:g} s"
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the library's errors into ours, which name the location.

        Raises:
            StoreError: for any of Icechunk's errors.
        """
        try:
            yield
        except icechunk.IcechunkError as error:
            raise StoreError(f"{self.location}: {_words(error)}") from error


def _parent(location: StoreLocation) -> StoreLocation:
    """Where cubes of a store are side by side; Icechunk demands that nothing is at the repository's own prefix."""
    return replace(location, url=location.url.rstrip("/").rpartition("/")[0]) if location.prefix else location


def _storage(location: StoreLocation) -> icechunk.Storage:
    # Icechunk warns of what is handled here: concurrent commits on a local path, and another writer of the same chunk.
    icechunk.set_logs_filter("error")
    if location.is_local:
        return icechunk.local_filesystem_storage(str(location.path))
    return icechunk.s3_storage(
        bucket=location.bucket,
        prefix=location.prefix or None,
        region=location.region,
        endpoint_url=location.endpoint,
        allow_http=bool(location.endpoint and location.endpoint.startswith("http://")),
        force_path_style=location.endpoint is not None,
        from_env=True,
    )


def _config() -> icechunk.RepositoryConfig:
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): _MANIFEST_CHUNKS}}
    )
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


def _words(error: Exception) -> str:
    """The first line of an Icechunk error; the rest is a Rust backtrace."""
    lines = (line.strip().removeprefix("x ").strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
