"""Conversion of a store that a former release wrote: tiles, cubes, and stable paths of products and inventories."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from obstore.exceptions import BaseError

from darts_assets.cubes import migrate_cube
from darts_assets.errors import DartsError
from darts_assets.stores.former_tiles import former_tiles, migrate_tile
from darts_assets.stores.latest import LATEST
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import WITH_LATEST, place_at, places
from darts_assets.stores.service_errors import in_words

T = TypeVar("T")

AT_ONCE = 8
"""Parts of a store that are converted at once; a tile copies eight objects at a time."""

_EVERY = 1000  # stable paths between two lines of progress


@dataclass
class MigratedStore:
    """Result of a conversion.

    Attributes:
        tiles: number of converted raw scenes and tiles.
        cubes: number of auxiliary cubes that got metadata for other programs.
        problems: what could not be converted -> why.
    """

    tiles: int = 0
    cubes: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def migrate_store(root: StoreLocation, progress: Callable[[str], None]) -> MigratedStore:
    """Convert a store that a former release wrote; a converted one is left unchanged.

    Nothing is fetched or computed again. What is damaged is reported, and the rest is converted. After an interruption
    the next call continues.

    Args:
        root: root of the store.
        progress: called with a line for each converted part.

    Raises:
        StoreError: if the store does not respond.
    """
    done = MigratedStore()
    formers = list(former_tiles(root))
    if formers:
        progress(f"{len(formers)} tiles of a former release")
    for number, (former, problem) in enumerate(_concurrent(migrate_tile, formers), start=1):
        if problem:
            done.problems[str(former)] = problem
        else:
            done.tiles += 1
        progress(f"{number} of {len(formers)}: {former} {'failed' if problem else 'converted'}")
    for name in root.child("aux").folders():
        location = root.child("aux", name)
        try:
            if name.endswith(".icechunk") and migrate_cube(location):
                done.cubes += 1
                progress(f"{location} converted")
        except DartsError as error:
            done.problems[str(location)] = str(error)

    def refresh(parts: tuple[str, ...]) -> None:
        place = place_at(root, *parts, grace=timedelta(days=1))
        manifest = place.manifest()
        present = None if place.location.is_local else set(place.location.child(LATEST).keys())
        if manifest and present != manifest.contents.keys():
            place.refresh_latest()

    for number, (parts, problem) in enumerate(_concurrent(refresh, places(root, WITH_LATEST)), start=1):
        if problem:
            done.problems["/".join(parts)] = problem
        if number % _EVERY == 0:
            progress(f"stable paths of {number} products and inventories")
    return done


def _concurrent(work: Callable[[T], None], parts: Iterable[T]) -> Iterator[tuple[T, str]]:
    """Each part with the reason of its failure, empty if it succeeded, as they end; at most `AT_ONCE` are under way.

    An interruption waits for those, so that none is left half done.
    """

    def outcome(part: T) -> str:
        try:
            work(part)
        except DartsError as error:
            return str(error)
        except (BaseError, OSError) as error:
            return in_words(error)
        return ""

    pending: dict[Future[str], T] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for part in parts:
            pending[pool.submit(outcome, part)] = part
            if len(pending) >= AT_ONCE:
                yield from _ended(pending)
        while pending:
            yield from _ended(pending)


def _ended(pending: dict[Future[str], T]) -> list[tuple[T, str]]:
    """The parts that have ended, at least one; they are pending no more."""
    ended, _ = wait(pending, return_when=FIRST_COMPLETED)
    return [(pending.pop(future), future.result()) for future in ended]
