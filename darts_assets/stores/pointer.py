"""A small object that is replaced only by a writer that has seen its current content (compare-and-swap).

On an object store the PUT has a condition (`If-None-Match`, `If-Match`). On a local path the content is compared and
replaced under a file lock, which the operating system releases when its holder dies.
"""

from dataclasses import dataclass
from pathlib import Path

import obstore
from filelock import FileLock, Timeout
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.remote.retry import RetryPolicy, TransientError, with_retries
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.service_errors import in_words, is_not_implemented, known_problem

_LOCK_SECONDS = 60.0
_FINAL = (PermissionDeniedError, UnauthenticatedError)
_POLICY = RetryPolicy(attempts=5, seconds=300)
ONCE = RetryPolicy(attempts=1)


class SupersededError(Exception):
    """Another writer has replaced the content meanwhile."""


@dataclass(frozen=True, slots=True)
class State:
    """What a reader of a pointer has seen.

    Attributes:
        content: bytes of the object, None if it does not exist.
        e_tag: the object store's tag of that content.
    """

    content: bytes | None
    e_tag: str | None = None


class Pointer:
    """The object `name` at a location.

    Each content must be unique: a writer recognizes its own content if the response to its PUT was lost, and a content
    that returned would hide what happened in between.
    """

    def __init__(self, location: StoreLocation, name: str) -> None:
        self.location = location
        self.name = name

    def read(self) -> State:
        """The current state.

        Raises:
            StoreError: if the object store does not respond.
        """
        if self.location.is_local:
            return self._read_file()
        subject = f"{self.location}: {self.name} cannot be read"

        def attempt() -> State:
            try:
                response = obstore.get(self.location.objects(), self.name)
                return State(bytes(response.bytes()), response.meta["e_tag"])
            except FileNotFoundError:
                return State(None)
            except BaseError as error:  # also a truncated body
                if isinstance(error, _FINAL) or known_problem(error):
                    raise StoreError(f"{subject}: {in_words(error)}") from error
                raise TransientError(in_words(error)) from error

        return with_retries(attempt, subject, policy=_POLICY, error=StoreError)

    def replace(self, seen: State, content: bytes, policy: RetryPolicy = _POLICY) -> State:
        """Replace the content if it is still the one of `seen`; returns the new state.

        Raises:
            SupersededError: if another writer has replaced it since.
            UnsafeStoreError: if the object store does not support conditional writes.
            StoreError: if the object store does not respond, or the file lock is not released in time. The content may
                still arrive later, until another one has replaced that of `seen`.
        """
        if self.location.is_local:
            return self._replace_file(seen, content)
        subject = f"{self.location}: {self.name} cannot be written"

        def attempt() -> State:
            try:
                put = obstore.put(
                    self.location.objects(), self.name, content,
                    mode="create" if seen.e_tag is None else {"e_tag": seen.e_tag},
                )  # fmt: skip
                return State(content, put["e_tag"])
            except _FINAL as error:
                raise StoreError(f"{subject}: {in_words(error)}") from error
            except (AlreadyExistsError, PreconditionError, NotFoundError, FileNotFoundError) as error:
                if seen.e_tag is None and isinstance(error, (NotFoundError, FileNotFoundError)):
                    raise StoreError(f"{subject}: the bucket {self.location.bucket} does not exist") from error
                return self._own_or_raise(content, SupersededError(str(error)))
            except BaseError as error:
                if isinstance(error, NotSupportedError) or is_not_implemented(error):
                    raise UnsafeStoreError(
                        f"{self.location}: the object store does not support conditional writes, so concurrent writes "
                        "would be lost; use a store that honours If-None-Match and If-Match on PUT, or a local path "
                        f"({in_words(error)})"
                    ) from error
                if known_problem(error):
                    raise StoreError(f"{subject}: {in_words(error)}") from error
                failed = TransientError(in_words(error))
                current = self.read()
                if current == seen:
                    raise failed from error
                return self._own_or_raise(content, SupersededError(str(error)), current)

        return with_retries(attempt, subject, policy=policy, error=StoreError)

    def _own_or_raise(self, content: bytes, error: Exception, current: State | None = None) -> State:
        """The state if its content is that of a PUT whose response was lost or which was sent twice."""
        current = current or self.read()
        if current.content == content:
            return current
        raise error from None

    def _read_file(self) -> State:
        try:
            return State(self._path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return State(None)

    def _replace_file(self, seen: State, content: bytes) -> State:
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{self.name}.lock"), timeout=_LOCK_SECONDS, poll_interval=0.01)
        try:
            with lock:
                if self._read_file() != seen:
                    raise SupersededError
                staged = path.with_name(f"{self.name}#new")  # an interrupted one is overwritten by the next
                staged.write_bytes(content)
                staged.replace(path)
        except Timeout as error:
            raise StoreError(f"{error.lock_file}: another process has held this lock for {_LOCK_SECONDS:g} s") from None
        return State(content)

    @property
    def _path(self) -> Path:
        return self.location.path / self.name
