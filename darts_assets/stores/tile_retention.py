"""Release of the tiles of finished scenes, to save space.

The tile of a step is released once the products are made from it and from everything between. Its pointer then has a
mark and no contents; provenance, statistics and grid stay. Its version is kept like a replaced one: for the grace time,
and as long as an item of the catalog refers to it. Items made later do not refer to it.

Both changes of pointers are compare-and-swap, first that of the products (which no longer name the tile), then that of
the tile. A release that is killed between them leaves the tile whole. A place with an active writer is not released.
"""

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from darts_assets.errors import DartsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.replaced_versions import place_at
from darts_assets.stores.store_layout import products_folder, raw_folder

STEPS = ("raw_scene", "preprocessed_tile", "segmentation")
"""Steps whose tiles can be released, in order."""

SYNTAX = "all, until_products, a number of days such as 30d, or one of them per step: segmentation=30d,raw_scene=all"

_INPUTS = {
    "preprocessed_tile": ("raw_scene",),
    "segmentation": ("preprocessed_tile",),
    "polygons": ("preprocessed_tile", "segmentation"),
    "products": ("preprocessed_tile", "segmentation"),
}
"""Step -> steps whose tiles it reads."""

_REQUESTS, _BATCH = 16, 1000
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def parse_retention(text: str) -> dict[str, float]:
    """The steps whose tiles are released -> least age of a tile in days.

    Args:
        text: `all`, `until_products` or a number of days (`30d`) for all steps; `STEP=...` for one, which wins.

    Raises:
        ValueError: if a part is none of these.
    """
    days: dict[str, float | None] = {}
    for part in sorted(filter(None, (part.strip() for part in text.split(","))), key=lambda part: "=" in part):
        name, separator, value = (word.strip() for word in part.rpartition("="))
        steps = STEPS if not separator else (name,)
        limit = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)d", value)
        if not set(steps) <= set(STEPS) or not (limit or value in ("all", "until_products")):
            raise ValueError(f"{part!r}: expected {SYNTAX}; steps: {', '.join(STEPS)}")
        days |= dict.fromkeys(steps, float(limit[1]) if limit else 0.0 if value == "until_products" else None)
    return {step: days[step] for step in STEPS if (days.get(step)) is not None}  # type: ignore[misc]


def released_steps(root: StoreLocation, family: str, scene: str) -> list[str]:
    """The steps of a scene whose tiles were released, in order.

    Raises:
        NotReadableError: if a pointer is damaged.
        StoreError: if the store does not respond.
    """
    places = _tiles_of(root, family, scene, raw_folder(root).folders(), dt.timedelta(days=1))
    return [step for step, (_, manifest) in places.items() if manifest.released]


def released_inputs(root: StoreLocation, family: str, scene: str, step: str) -> list[str]:
    """The released steps of a scene that must run again before `step` can, in order; raises as `released_steps`."""
    released, needed, open_steps = set(released_steps(root, family, scene)), set[str](), [step]
    while open_steps:
        inputs = released.intersection(_INPUTS.get(open_steps.pop(), ())) - needed
        needed |= inputs
        open_steps += inputs
    return [name for name in STEPS if name in needed]


def require_tile(root: StoreLocation, place: Place, family: str, step: str, scene: str) -> Manifest:
    """The content of a tile whose values are stored.

    Raises:
        NotReadableError: if it is not published, or released; with the command that makes it and its released inputs.
    """
    manifest = place.require()
    if manifest.released is None:
        return manifest
    again = command(family, [*released_inputs(root, family, scene, step), step], scene)
    return place.require_values(manifest, again)


def command(family: str, steps: Iterable[str], scene: str) -> str:
    """The command that makes steps of a scene."""
    selection = " or ".join(f'key:"{family}/{step}"' for step in steps)
    return f"dagster asset materialize -m darts_assets --select '{selection}' --partition {scene}"


@dataclass
class Released:
    """Result of `release_tiles`.

    Attributes:
        scenes: number of scenes with products.
        tiles: (family, step, scene) of each released tile.
        removed: number of versions removed, of tiles that were released before.
        problems: scene -> why its tiles could not be released.
    """

    scenes: int = 0
    tiles: list[tuple[str, str, str]] = field(default_factory=list)
    removed: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def release_tiles(
    root: StoreLocation,
    families: Iterable[str],
    days: Mapping[str, float],
    grace: dt.timedelta,
    *,
    busy: Collection[str] = (),
    progress: Callable[[str], None],
) -> Released:
    """Release the tiles of finished scenes, and remove those that were released longer ago than the grace time.

    Readers and writers may use the store meanwhile. A scene that cannot be read is reported; the others are processed.

    Args:
        root: root of the store.
        families: families of scenes.
        days: result of `parse_retention`.
        grace: time for which the values of released tiles are kept at least.
        busy: scenes that are being processed, which are left alone.
        progress: called with a line after each thousand scenes.
    """
    done, sources = Released(), raw_folder(root).folders()

    def release(family: str, scene: str) -> tuple[list[str], int] | str:
        try:
            return release_scene(root, family, scene, days, grace, sources=sources)
        except DartsError as error:
            return str(error)

    for family in families:
        scenes = iter([scene for scene in products_folder(root, family).folders() if scene not in busy])
        with ThreadPoolExecutor(_REQUESTS) as pool:
            while batch := list(islice(scenes, _BATCH)):
                results = pool.map(lambda scene, family=family: release(family, scene), batch)
                for scene, result in zip(batch, results, strict=True):
                    if isinstance(result, str):
                        done.problems[scene] = result
                    else:
                        done.tiles += [(family, step, scene) for step in result[0]]
                        done.removed += result[1]
                done.scenes += len(batch)
                progress(f"{done.scenes} scenes examined, {len(done.tiles)} tiles released")
    return done


def release_scene(
    root: StoreLocation,
    family: str,
    scene: str,
    days: Mapping[str, float],
    grace: dt.timedelta,
    *,
    sources: Iterable[str] | None = None,
) -> tuple[list[str], int]:
    """Release the tiles of one scene that are old enough; see `release_tiles`.

    Returns:
        The released steps, and the number of removed versions.
    """
    products = place_at(root, "products", family, scene, grace=grace)
    made = products.manifest()
    released: list[str] = []
    removed = 0
    if made is None:
        return released, removed
    tiles = _tiles_of(root, family, scene, raw_folder(root).folders() if sources is None else sources, grace)
    polygons = place_at(root, "vectors", family, "polygons", scene, grace=grace).manifest()
    for step, (place, manifest) in tiles.items():
        if manifest.released:
            removed += place.collect()
            continue
        if step not in days or not _is_finished(step, tiles, polygons, made, days[step]):
            continue
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        mark = {"since": now, "again": command(family, [step], scene)}

        def marked(current: Manifest, seen: Manifest = manifest, mark: dict[str, str] = mark) -> Manifest:
            if current != seen:
                return current
            replaced = current.replaced | dict.fromkeys(current.versions, mark["since"])
            return Manifest({}, {**current.metadata, "released": mark}, replaced)

        def without(current: Manifest, step: str = step) -> Manifest:
            named = {name: tile for name, tile in current.metadata.get("tiles", {}).items() if name != step}
            return replace(current, metadata={**current.metadata, "tiles": named})

        if products.amend(without) is not None and (after := place.amend(marked)) is not None and after.released:
            released.append(step)
    return released, removed


def _is_finished(
    step: str, tiles: Mapping[str, tuple[Place, Manifest]], polygons: Manifest | None, made: Manifest, days: float
) -> bool:
    """Whether the products were made from the current results of all steps from `step` on, and the tile is old enough.

    A result that is newer than the products belongs to a run that has not made products yet.
    """
    upstream: dict[str, dict[str, Any]] = made.metadata.get("metadata", {}).get("steps", {})
    current = {name: manifest.metadata.get("provenance") for name, (_, manifest) in tiles.items()}
    current["polygons"] = polygons.metadata.get("provenance") if polygons else None
    chain = [*STEPS[max(1, STEPS.index(step)) :], "polygons"]
    if any(name not in upstream or current.get(name) != upstream[name] for name in chain):
        return False
    if step == "raw_scene":
        version = (current[step] or {}).get("data_version")
        if version is None or upstream["preprocessed_tile"]["inputs"].get(step) != version:
            return False
    assert polygons is not None
    later = [*(tiles[name][1] for name in chain[:-1]), polygons]
    finished = _time_of(made)
    return (
        len(tiles[step][1].versions) == 1
        and all(_time_of(each) <= finished for each in later)
        and dt.datetime.now(dt.UTC) - _time_of(tiles[step][1]) >= dt.timedelta(days=days)
    )


def _time_of(manifest: Manifest) -> dt.datetime:
    """When the newest version of a content was begun, from its name; a released one has none."""
    times = (dt.datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC) for name in manifest.versions)
    return max(times, default=_EARLIEST)


def _tiles_of(
    root: StoreLocation, family: str, scene: str, sources: Iterable[str], grace: dt.timedelta
) -> dict[str, tuple[Place, Manifest]]:
    """Step -> place and content, for the steps that have published a tile."""
    places = [("raw_scene", place_at(root, "raw", source, scene, grace=grace)) for source in sources]
    places += [(step, place_at(root, "tiles", family, step, scene, grace=grace)) for step in STEPS[1:]]
    return {step: (place, manifest) for step, place in places if (manifest := place.manifest()) is not None}
