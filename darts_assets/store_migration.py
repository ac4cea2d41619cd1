"""Conversion of a store that a former release wrote: tiles, and stable paths of products and inventories."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from darts_assets.errors import DartsError
from darts_assets.stores.former_tiles import former_tiles, migrate_tile
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import WITH_LATEST, place_at, places


@dataclass
class MigratedStore:
    """Result of a conversion.

    Attributes:
        tiles: number of converted raw scenes and tiles.
        problems: what could not be converted -> why.
    """

    tiles: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def migrate_store(root: StoreLocation, progress: Callable[[str], None]) -> MigratedStore:
    """Convert a store that a former release wrote; a converted one is left unchanged.

    Nothing is fetched or computed again. What is damaged is reported, and the rest is converted.

    Args:
        root: root of the store.
        progress: called with a line for each converted part.

    Raises:
        StoreError: if the store does not respond.
    """
    done = MigratedStore()
    for former in former_tiles(root):
        try:
            migrate_tile(former)
        except DartsError as error:
            done.problems[str(former)] = str(error)
        else:
            done.tiles += 1
            progress(f"{former} converted")
    for parts in places(root, WITH_LATEST):
        try:
            place_at(root, *parts, grace=timedelta(days=1)).refresh_latest()
        except DartsError as error:
            done.problems["/".join(parts)] = str(error)
    return done
