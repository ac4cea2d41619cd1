"""Tables of verdicts in a store: objects of JSON lines that are created and never changed.

Verdicts about slumps are in `review/verdicts/`, those about points of samples in `review/point_verdicts/`.

Each request becomes one object, named by its time and content, so that killed and concurrent writers lose nothing and
overwrite nothing. Readers take the union of all objects, each verdict once by its id. `compact` merges small objects:
an object is removed only after another one contains all of its verdicts. A reader whose object is removed meanwhile
lists again.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from darts_assets.errors import NotReadableError, StoreError, UnsafeStoreError, VerdictError
from darts_assets.remote.retry import RetryPolicy, TransientError, with_retries
from darts_assets.review.verdict_record import (
    Judgement,
    PointVerdict,
    Verdict,
    of_kind,
    parsed_json,
    parsed_records,
    unique,
)
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.service_errors import in_words, is_not_implemented, known_problem

T = TypeVar("T")
R = TypeVar("R", bound=Judgement)

SUFFIX = ".jsonl"
_POLICY = RetryPolicy(attempts=5, seconds=120)
_ROUNDS = 10  # others may merge objects while one reads
_SMALL = 4 * 1024**2
"""Bytes; smaller objects are merged, to objects of about this size."""
_MANY = 50
"""Small objects from which `compact` merges."""


def verdicts_folder(root: StoreLocation) -> StoreLocation:
    """`review/verdicts` of a store."""
    return root.child("review", "verdicts")


class VerdictTable(Generic[R]):
    """The verdicts of one kind; objects that have been read are kept in memory. Threads may share it.

    Args:
        location: folder of the table.
        kind: of the verdicts.
    """

    def __init__(self, location: StoreLocation, kind: type[R]) -> None:
        self.location = location
        self._kind = kind
        self._read: dict[str, list[R]] = {}
        self._lock = threading.Lock()

    def verdicts(self) -> list[R]:
        """All verdicts, each once, by time.

        Raises:
            NotReadableError: if an object is not a table of verdicts.
            StoreError: if the store does not respond.
        """
        with self._lock:
            return self._verdicts()

    def append(self, verdicts: Iterable[R]) -> int:
        """Store verdicts whose ids are new, in one object; returns their number.

        Raises:
            StoreError, NotReadableError: as `verdicts`; none of them is stored then.
        """
        with self._lock:
            known = {verdict.id for verdict in self._verdicts()}
            fresh = [verdict for verdict in unique(verdicts) if verdict.id not in known]
            if fresh:
                self._create(fresh)
            return len(fresh)

    def compact(self, least: int = _MANY) -> int:
        """Merge small objects if there are at least `least`; returns the number of removed objects.

        Safe against concurrent writers and compactions, and when killed at any time.
        """
        with self._lock:
            self._verdicts()
            small = sorted(key for key, size in self._sizes().items() if size < _SMALL and key in self._read)
            if len(small) < max(least, 2):
                return 0
            removed = 0
            group: list[str] = []
            bytes_of = {key: sum(len(verdict.line()) + 1 for verdict in self._read[key]) for key in small}
            for key in [*small, ""]:
                if group and (not key or sum(map(bytes_of.__getitem__, group)) + bytes_of[key] > _SMALL):
                    removed += self._merge(group)
                    group = []
                group.append(key)
            return removed

    def _merge(self, keys: list[str]) -> int:
        merged = unique(verdict for key in keys for verdict in self._read[key])
        created = self._create(merged)
        if parsed_lines(self._get(created), created, self._kind) != merged:
            raise NotReadableError(f"{self.location}: {created} differs from what was written; nothing is removed")
        surplus = [key for key in keys if key != created]
        objects = self.location.objects()
        if surplus:
            self._attempt(
                lambda: obstore.delete(objects, surplus), "merged objects cannot be removed", FileNotFoundError
            )
        for key in surplus:
            self._read.pop(key, None)
        return len(surplus)

    def _create(self, verdicts: list[R]) -> str:
        """Create the object of some verdicts; one of the same name has the same content."""
        content = "".join(f"{verdict.line()}\n" for verdict in verdicts).encode()
        digest = hashlib.sha256(content).hexdigest()[:24]
        key = f"{max(verdict.time for verdict in verdicts):%Y%m%dT%H%M%SZ}-{digest}{SUFFIX}"
        objects = self.location.objects()
        self._attempt(
            lambda: obstore.put(objects, key, content, mode="create"), f"{key} cannot be written", AlreadyExistsError
        )
        self._read[key] = verdicts
        return key

    def _verdicts(self) -> list[R]:
        for _ in range(_ROUNDS):
            keys = self._sizes().keys()
            try:
                for key in keys - self._read.keys():
                    self._read[key] = parsed_lines(self._get(key), f"{self.location}: {key}", self._kind)
            except FileNotFoundError:  # merged meanwhile
                continue
            self._read = {key: self._read[key] for key in keys}
            return unique(verdict for table in self._read.values() for verdict in table)
        raise StoreError(f"{self.location}: objects are merged faster than they can be read; try again")

    def _sizes(self) -> dict[str, int]:
        if self.location.is_local and not self.location.path.is_dir():
            return {}  # listing would create the folder
        objects = self.location.objects()
        listing = self._attempt(lambda: list(obstore.list(objects)), "the verdicts cannot be listed")
        entries = [entry for batch in listing or [] for entry in batch]
        return {entry["path"]: entry["size"] for entry in entries if entry["path"].endswith(SUFFIX)}

    def _get(self, key: str) -> bytes:
        objects = self.location.objects()
        content = self._attempt(lambda: bytes(obstore.get(objects, key).bytes()), f"{key} cannot be read")
        return content or b""

    def _attempt(self, request: Callable[[], T], problem: str, *done: type[Exception]) -> T | None:
        """The result of a request to the store, repeated while it does not respond; None after a `done` error."""
        subject = f"{self.location}: {problem}"

        def attempt() -> T | None:
            try:
                return request()
            except done:
                return None
            except FileNotFoundError:
                raise
            except (BaseError, OSError) as error:
                if isinstance(error, NotSupportedError) or is_not_implemented(error):
                    raise UnsafeStoreError(
                        f"{subject}: the object store does not support conditional writes"
                    ) from error
                if isinstance(error, PermissionDeniedError | UnauthenticatedError) or known_problem(error):
                    raise StoreError(f"{subject}: {in_words(error)}") from error
                raise TransientError(in_words(error)) from error

        return with_retries(attempt, subject, policy=_POLICY, error=StoreError)


class VerdictStore(VerdictTable[Verdict]):
    """The verdicts of a store about slumps.

    Args:
        root: the store.
    """

    def __init__(self, root: StoreLocation) -> None:
        super().__init__(verdicts_folder(root), Verdict)


class PointVerdictStore(VerdictTable[PointVerdict]):
    """The verdicts of a store about points of samples.

    Args:
        root: the store.
    """

    def __init__(self, root: StoreLocation) -> None:
        super().__init__(root.child("review", "point_verdicts"), PointVerdict)


class AllVerdicts:
    """The verdicts of all kinds, each in its table.

    Args:
        root: the store.
    """

    def __init__(self, root: StoreLocation) -> None:
        self._slumps, self._points = VerdictStore(root), PointVerdictStore(root)

    def verdicts(self) -> list[Judgement]:
        """All verdicts; errors as of `VerdictTable.verdicts`."""
        return [*self._slumps.verdicts(), *self._points.verdicts()]

    def append(self, verdicts: Iterable[Judgement]) -> int:
        """Store verdicts whose ids are new; returns their number. Verdicts of one kind are stored together."""
        every = list(verdicts)
        return self._slumps.append(of_kind(every, Verdict)) + self._points.append(of_kind(every, PointVerdict))

    def compact(self) -> int:
        """Merge small objects, as `VerdictTable.compact`."""
        return self._slumps.compact() + self._points.compact()


def parsed_lines(content: bytes, subject: str, kind: type[R] = Verdict) -> list[R]:  # type: ignore[assignment]
    """The verdicts of an object.

    Raises:
        NotReadableError: if it is not one.
    """
    try:
        lines = [parsed_json(line, subject) for line in content.splitlines()]
        return cast(list[R], parsed_records(lines, f"{subject}: line", [kind]))
    except VerdictError as error:
        raise NotReadableError(f"{error}; move this object out of the folder") from None


def read_verdicts(root: StoreLocation) -> list[Verdict]:
    """All verdicts of a store about slumps, by time; none if there are none."""
    return VerdictStore(root).verdicts()


def read_point_verdicts(root: StoreLocation) -> list[PointVerdict]:
    """All verdicts of a store about points of samples, by time; none if there are none."""
    return PointVerdictStore(root).verdicts()
