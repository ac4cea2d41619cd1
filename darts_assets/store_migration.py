"""Conversion of a store that a former release wrote: tiles, cubes, and stable paths of products and inventories."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import obstore

from darts_assets.cubes import migrate_cube
from darts_assets.errors import DartsError
from darts_assets.stores.former_tiles import former_tiles, migrate_tile
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import WITH_LATEST, place_at, places


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
    for name in _cubes(root):
        location = root.child("aux", name)
        try:
            if migrate_cube(location):
                done.cubes += 1
                progress(f"{location} converted")
        except DartsError as error:
            done.problems[str(location)] = str(error)
    for parts in places(root, WITH_LATEST):
        try:
            place_at(root, *parts, grace=timedelta(days=1)).refresh_latest()
        except DartsError as error:
            done.problems["/".join(parts)] = str(error)
    return done


def _cubes(root: StoreLocation) -> list[str]:
    """Names of the folders of the cubes."""
    aux = root.child("aux")
    if aux.is_local and not aux.path.is_dir():
        return []  # listing would create the folder
    names = obstore.list_with_delimiter(aux.objects())["common_prefixes"]
    return sorted(name for name in names if name.endswith(".icechunk"))
