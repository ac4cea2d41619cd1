"""The Icechunk repository of a cube: opening, creating, and committing safely with concurrent writers.

On an object store Icechunk commits by conditional PUT, which is safe with concurrent writers if the store honours the
condition; `ensure_safe` tests that. Icechunk has no such operation for a local path: commits take a file lock beside
the repository, which the operating system releases when its holder dies.
"""

import atexit
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import icechunk
import obstore
from filelock import FileLock, Timeout
from obstore.exceptions import AlreadyExistsError, BaseError

from darts_assets.errors import StoreError
from darts_assets.remote.retry import TransientError, with_retries
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import FOLDER as PREFLIGHT
from darts_assets.stores.preflight import ensure_safe

BRANCH = "main"

_TRUNCATED = "error streaming bytes"

_ERRORS = (icechunk.IcechunkError, icechunk.ConflictError, icechunk.RebaseFailedError, BaseError)
_REPOSITORY_ENTRIES = {"refs", "snapshots", "transactions", "manifests", "chunks", "config.yaml", PREFLIGHT}

_MANIFEST_CHUNKS = 64
"""Side of the square of chunks that share a manifest: a commit rewrites one of at most 4096 entries (about 150 kB),
independent of the size of the cube, and a scene's window needs one to four."""

# Icechunk's threads use Python for a moment after they return a result to the event loop. If the interpreter exits in
# that moment, they abort the process (Python < 3.14): 1 in 7 programs that exit right after reading or filling.
# Sleeping releases the interpreter lock, for which they wait.
atexit.register(time.sleep, 0.1)


class CubeRepository:
    """A repository, opened on first use.

    Args:
        location: a local folder or an S3 prefix.
        lock_timeout: seconds to wait for another process's commit on a local path.
    """

    def __init__(self, location: StoreLocation, lock_timeout: float = 300) -> None:
        self.location = location
        self._lock_timeout = lock_timeout
        self._repository: icechunk.Repository | None = None

    def open(self) -> icechunk.Repository | None:
        """The repository, None if it does not exist.

        Raises:
            StoreError: if the store does not answer or the repository is damaged.
        """
        if self._repository is None and not (self.location.is_local and not self.location.path.exists()):
            with self.errors():
                storage = _storage(self.location)
                if icechunk.Repository.exists(storage):
                    self._repository = icechunk.Repository.open(storage)
        return self._repository

    def reopen(self) -> icechunk.Repository | None:
        """The same without cached history, which another process may have shortened meanwhile."""
        self._repository = None
        return self.open()

    def open_or_create(self) -> icechunk.Repository:
        """The repository, created if it does not exist; safe for concurrent processes.

        Raises:
            UnsafeStoreError: if the object store cannot make commits safe.
            StoreError: if it cannot be created.
        """
        ensure_safe(_parent(self.location))
        repository = self.open()
        if repository is not None:
            return repository
        with self.exclusive(), self.errors():
            self._repository = self.open() or self._create()
        return self._repository

    def _create(self) -> icechunk.Repository:
        if self.location.is_local:
            path = self.location.path
            self._check_entries(entry.name for entry in path.glob("*"))
            shutil.rmtree(path, ignore_errors=True)  # left by a process killed here; we hold the lock
            return icechunk.Repository.create(_storage(self.location), _config())
        # Icechunk creates a repository only at an empty prefix: not after or during an attempt of another process. As
        # empty repositories are equal except for their time, the missing objects of one can be put one by one.
        store = self.location.objects()
        listing = obstore.list_with_delimiter(store)
        self._check_entries([*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])])
        with tempfile.TemporaryDirectory() as folder:
            icechunk.Repository.create(icechunk.local_filesystem_storage(folder), _config())
            for path in sorted((p for p in Path(folder).rglob("*") if p.is_file()), key=_is_branch):
                with suppress(AlreadyExistsError):
                    obstore.put(store, path.relative_to(folder).as_posix(), path.read_bytes(), mode="create")
        return icechunk.Repository.open(_storage(self.location))

    def _check_entries(self, entries: Iterable[str]) -> None:
        foreign = set(entries) - _REPOSITORY_ENTRIES
        if foreign:
            raise StoreError(f"{self.location} cannot hold a cube: it contains {', '.join(sorted(foreign)[:3])}")

    def commit(self, session: icechunk.Session, message: str, metadata: dict[str, Any]) -> str | None:
        """Commit on top of the commits of other writers.

        Returns:
            The snapshot's id. None if the changes must be repeated in a new session, because another writer has
            committed one of the same chunks first, or the base snapshot has expired.

        Raises:
            StoreError: if the store fails, or the lock is not released in time.
        """
        base, attempt = session.snapshot_id, uuid.uuid4().hex

        def commit() -> str | None:
            try:
                return str(session.commit(message, metadata | {"attempt": attempt}, icechunk.ConflictDetector()))
            except _ERRORS as error:
                own, has_base = self._since(base, attempt)
                # Without the base Icechunk cannot compute the changes of others; it fails with a missing object.
                if own is None and has_base and not isinstance(error, icechunk.RebaseFailedError):
                    if _TRUNCATED in str(error):  # Icechunk repeats failed requests, but not these
                        raise TransientError(_first_line(error)) from error
                    raise
                return own

        with self.exclusive(), self.errors():
            return with_retries(commit, f"{self.location}: commit", error=StoreError)

    def _since(self, base: str, attempt: str) -> tuple[str | None, bool]:
        """The snapshot of an attempt, None if there is none, and whether the history still has the attempt's base.

        An attempt conflicts with itself if it is repeated after its response was lost.
        """
        repository = self.reopen()
        for snapshot in repository.ancestry(branch=BRANCH) if repository is not None else ():
            if snapshot.metadata.get("attempt") == attempt:
                return str(snapshot.id), True
            if snapshot.id == base:
                return None, True
        return None, False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the file lock on a local path; no lock on an object store, where commits are conditional.

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
        """Convert the libraries' errors to StoreError with the location.

        Raises:
            StoreError: for any error of Icechunk or obstore.
        """
        try:
            yield
        except _ERRORS as error:
            raise StoreError(f"{self.location}: {_first_line(error)}") from error


def _parent(location: StoreLocation) -> StoreLocation:
    """The folder of all cubes; Icechunk requires that the repository's own prefix is empty."""
    return replace(location, url=location.url.rstrip("/").rpartition("/")[0]) if location.prefix else location


def _storage(location: StoreLocation) -> icechunk.Storage:
    # Icechunk warns of two cases that are handled here: concurrent commits on a local path, and of the same chunk.
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


def _is_branch(path: Path) -> bool:
    return path.name == "ref.json"


def _first_line(error: Exception) -> str:
    """The first line of an Icechunk error; the rest is a Rust backtrace."""
    lines = (line.strip().removeprefix("x ").strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
