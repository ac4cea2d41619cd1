"""Replaced versions of all places of a store: which of them are referred to, and their removal."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import obstore

from darts_assets.errors import DartsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import POINTER, VERSION, Place, Retention

ROOMS = ("raw", "tiles", "vectors", "products", "inventory", "training", "validation", "area_estimation", "dataset")
"""Folders of a store that have places."""

WITH_LATEST = ("products", "inventory", "validation", "area_estimation", "dataset")
"""Folders whose places have a stable path, `latest/`."""

_REQUESTS = 16
_MENTION = re.compile(rf"(?<![\w-]){VERSION.pattern}(?![\w-])")


def place_at(root: StoreLocation, *parts: str, grace: timedelta) -> Place:
    """The place of `parts` below the root of a store.

    Args:
        root: root of the store.
        parts: folder of a room, ..., partition.
        grace: time for which replaced versions are kept at least.
    """
    retention = Retention(grace, lambda: mentioned_versions(root, parts[-1]))
    return Place(root.child(*parts), retention, has_latest=parts[0] in WITH_LATEST)


def mentioned_versions(root: StoreLocation, scene: str) -> set[str]:
    """The versions in the STAC items of a scene: `catalog/stac/<family>/<scene>/<hash>.json`."""
    stac = root.child("catalog", "stac")
    if stac.is_local and not stac.path.is_dir():
        return set()
    store, versions = stac.objects(), set[str]()
    for family in obstore.list_with_delimiter(store)["common_prefixes"]:
        for batch in obstore.list(store, f"{family}/{scene}"):
            for entry in batch:
                with suppress(FileNotFoundError):  # removed by the catalog, which has moved on
                    text = bytes(obstore.get(store, entry["path"]).bytes()).decode(errors="replace")
                    versions.update(match[0] for match in _MENTION.finditer(text))
    return versions


def places(root: StoreLocation, rooms: tuple[str, ...] = ROOMS) -> Iterator[tuple[str, ...]]:
    """The parts of all places of a store, by listing folders."""
    for room in rooms:
        yield from _places(root, (room,))


def _places(root: StoreLocation, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    folder = root.child(*parts)
    if folder.is_local and not folder.path.is_dir():
        return  # listing would create the folder
    listing = obstore.list_with_delimiter(folder.objects())
    if POINTER in {entry["path"] for entry in listing["objects"]}:
        yield parts
        return
    for name in sorted(listing["common_prefixes"]):
        yield from _places(root, (*parts, name))


@dataclass
class Collected:
    """Result of a collection.

    Attributes:
        places: number of places.
        removed: number of removed versions.
        problems: place -> why its versions could not be removed.
    """

    places: int
    removed: int
    problems: dict[str, str]


def collect_replaced(root: StoreLocation, grace: timedelta, progress: Callable[[str], None]) -> Collected:
    """Remove the replaced versions of a store that are old enough and that no STAC item refers to.

    Readers and writers may use the store meanwhile. A place that cannot be read is reported; the others are processed.

    Args:
        root: root of the store.
        grace: time for which replaced versions are kept at least.
        progress: called with a line after each thousand places.
    """
    done = Collected(0, 0, {})

    def collect(parts: tuple[str, ...]) -> int | str:
        try:
            return place_at(root, *parts, grace=grace).collect()
        except DartsError as error:
            return str(error)

    with ThreadPoolExecutor(_REQUESTS) as pool:
        pending = []
        for parts in places(root):
            pending.append((parts, pool.submit(collect, parts)))
            done.places += 1
            if done.places % 1000 == 0:
                progress(f"{done.places} places examined")
        for parts, result in pending:
            removed = result.result()
            if isinstance(removed, str):
                done.problems["/".join(parts)] = removed
            else:
                done.removed += removed
    return done
