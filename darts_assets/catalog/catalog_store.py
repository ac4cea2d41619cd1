"""The store as the catalog uses it: one client for all objects, many requests at once, one writer at a time."""

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import obstore

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation

A = TypeVar("A")
B = TypeVar("B")

AT_ONCE = 32
"""Requests to the store that are under way at a time."""

BATCH = 256
"""Scenes whose facts are in memory at a time."""


def side_by_side(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results of `work` in the order of `items`: many at once, since stores are far away, and few in memory."""
    rest = iter(items)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while batch := list(islice(rest, BATCH)):
            yield from pool.map(work, batch)


class Tree:
    """The objects below a location, by relative keys.

    Attributes:
        location: where they are; a local folder is created.
    """

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._objects = location.objects()

    def tags(self, prefix: str = "") -> dict[str, str]:
        """Keys below a prefix -> entity tags, which change whenever an object is written. One listing, nothing read."""
        return {
            entry["path"]: str(entry["e_tag"])
            for batch in obstore.list(self._objects, prefix or None)
            for entry in batch
        }

    def read(self, key: str) -> bytes | None:
        """An object, None if there is none."""
        try:
            return bytes(obstore.get(self._objects, key).bytes())
        except FileNotFoundError:
            return None

    def document(self, key: str) -> dict[str, Any] | None:
        """A JSON object, None if there is none.

        Raises:
            NotReadableError: if it is damaged.
        """
        raw = self.read(key)
        try:
            return None if raw is None else dict(json.loads(raw))
        except (ValueError, TypeError) as error:
            raise NotReadableError(f"{self.location}: {key} is damaged: {error}") from error

    def write(self, key: str, document: dict[str, Any]) -> None:
        """Put a JSON object; readers see the old one or the new one."""
        obstore.put(self._objects, key, json.dumps(document, separators=(",", ":")).encode())

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        try:
            obstore.head(self._objects, key)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def file_for(self, folder: str, name: str) -> Iterator[Path]:
        """A path to write a file to, which becomes the object `folder/name` when the block ends without an error.

        On a path it is written in `folder/.writing-...` and moved, so that nobody takes it for a file of the folder.
        """
        beside = None
        if self.location.is_local:
            beside = self.location.path / folder / f".writing-{uuid.uuid4().hex[:8]}"
            beside.mkdir(parents=True)
        try:
            with tempfile.TemporaryDirectory(dir=beside) as scratch:
                path = Path(scratch) / "file"
                yield path
                if beside is None:
                    obstore.put(self._objects, f"{folder}/{name}", path)
                else:
                    target = self.location.path / folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
        finally:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects, and on a path the folders that they leave empty; returns how many they were."""
        found = list(keys)
        for start in range(0, len(found), 1000):
            with suppress(FileNotFoundError):
                obstore.delete(self._objects, found[start : start + 1000])
        if self.location.is_local:
            for folder in {(self.location.path / key).parent for key in found}:
                with suppress(OSError):  # not empty
                    folder.rmdir()
                    folder.parent.rmdir()
        return len(found)

    def remove_unfinished(self, folder: str) -> None:
        """Remove what killed writers have left in a folder."""
        if self.location.is_local:
            for left in (self.location.path / folder).glob(".writing-*"):
                shutil.rmtree(left, ignore_errors=True)
            for staged in (self.location.path / folder).rglob("*#*"):  # a PUT killed midway
                staged.unlink(missing_ok=True)


class Turn:
    """Lets one writer publish: when two overlap, the later one goes on and the earlier one gives way."""

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree, self._key, self._name = tree, key, uuid.uuid4().hex

    def __enter__(self) -> "Turn":
        self._tree.write(self._key, {"writer": self._name})
        return self

    def __exit__(self, *raised: object) -> None:
        if self._is_mine():
            self._tree.remove([self._key])

    def check(self) -> None:
        """To be called before anything is published.

        Raises:
            StoreError: if another writer has begun meanwhile.
        """
        if not self._is_mine():
            raise StoreError(f"{self._tree.location}: another run has started to write the catalog; this one gives way")

    def _is_mine(self) -> bool:
        found = self._tree.document(self._key)
        return found is not None and found.get("writer") == self._name
