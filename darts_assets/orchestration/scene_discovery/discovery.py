"""Finding scenes for a choice and registering them, and what people are told of that."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.dynamic_partitions import registered
from darts_assets.orchestration.core.metadata import as_metadata, image_link
from darts_assets.orchestration.core.partitions import SENTINEL2, SceneFamily
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registration import Registered, register_found
from darts_assets.orchestration.scene_discovery.scene_id_file import read_ids
from darts_assets.orchestration.scene_discovery.selection import SceneChoice, Searches, by_ids, by_place

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.scene import Scene

_SHOWN_TILES = 50
_SHOWN = 20  # problems
_AT_ONCE = 16
_BATCH = 256


@dataclass
class FoundScenes:
    """What was found for a choice.

    Attributes:
        registered: which scenes, and which of them are new.
        problems: what was wrong; everything else went on.
        providers: who was asked.
        by_tile: tile -> year -> scenes.
        new_by_tile: tile -> new scenes.
        footprints: tile -> the largest footprint of its scenes.
        area: that was asked for.
    """

    registered: Registered = field(default_factory=Registered)
    problems: list[str] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    by_tile: dict[str, Counter[int]] = field(default_factory=dict)
    new_by_tile: Counter[str] = field(default_factory=Counter)
    footprints: "dict[str, BaseGeometry]" = field(default_factory=dict)
    area: "BaseGeometry | None" = None

    def see(self, scene: "Scene", is_new: bool) -> None:
        """Count a scene."""
        from darts_assets.geo.antimeridian import footprint

        tile = scene.tile or scene.id
        self.by_tile.setdefault(tile, Counter())[scene.datetime.year] += 1
        self.new_by_tile[tile] += is_new
        shape = footprint(scene.geometry)
        if shape is not None and (tile not in self.footprints or shape.area > self.footprints[tile].area):
            self.footprints[tile] = shape

    @property
    def sentence(self) -> str:
        """What came of it."""
        count = len(self.registered.scene_ids)
        if not count:
            return "Nothing matched."
        return f"{count} scenes matched: {self.registered.known} were known, {len(self.registered.new)} are new."

    def metadata(self) -> dict[str, dg.MetadataValue[Any]]:
        """For the UI: counts, a table by tile and year, and a map."""
        facts: dict[str, Any] = {
            "result": self.sentence,
            "matched": len(self.registered.scene_ids),
            "known": self.registered.known,
            "new": len(self.registered.new),
            "asked": ", ".join(self.providers) or "nobody: all scenes are registered",
        }
        if self.problems:
            facts["problems"] = self.problems
        if unusable := self.registered.unusable:
            facts["unusable"] = {"count": len(unusable), **dict(itertools.islice(unusable.items(), _SHOWN))}
        if self.footprints:
            facts["map"] = self._map()
        if self.by_tile:
            facts["scenes"] = self._table()
        return as_metadata(facts)

    def _table(self) -> dg.TableMetadataValue:
        years = sorted({year for counts in self.by_tile.values() for year in counts})
        ordered = sorted(self.by_tile, key=lambda tile: (-self.by_tile[tile].total(), tile))
        rows = [("all" if len(ordered) > 1 else "", ordered)] if len(ordered) > 1 else []
        rows += [(tile, [tile]) for tile in ordered[:_SHOWN_TILES]]
        if rest := ordered[_SHOWN_TILES:]:
            rows.append((f"{len(rest)} other tiles", rest))
        return dg.MetadataValue.table([
            dg.TableRecord({
                "tile": name,
                **{str(year): sum(self.by_tile[tile][year] for tile in tiles) for year in years},
                "scenes": sum(self.by_tile[tile].total() for tile in tiles),
                "new": sum(self.new_by_tile[tile] for tile in tiles),
            })
            for name, tiles in rows
        ])  # fmt: skip

    def _map(self) -> dg.MetadataValue[Any]:
        from darts_assets.maps import footprint_map

        counts = {tile: self.by_tile[tile].total() for tile in self.footprints}
        image = footprint_map([(shape, counts[tile]) for tile, shape in self.footprints.items()], self.area)
        legend = f"green: {len(counts)} footprints, the darker the more scenes (up to {max(counts.values())})"
        legend += "; red: the area that was asked for" if self.area is not None else ""
        return dg.MetadataValue.md(f"{image_link(image, 'webp', quality=80)}\n\n{legend}")


def find_and_register(
    choice: SceneChoice,
    *,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    catalogs: SceneCatalogs,
    dry_run: bool,
    log: Callable[[str], None],
) -> FoundScenes:
    """Find the scenes of a choice and register them; registered ids are not asked for again.

    Raises:
        SettingsError: if the choice contradicts itself, its file or area cannot be read, or a catalog refuses.
        SceneError: if no tile is one, or a catalog refuses the request itself.
        SourceUnavailableError: if a service does not answer; no partition is added then.
    """
    way, found = choice.check(), FoundScenes()
    by_id = way in ("scene_ids", "ids_file")
    if by_id:
        items = items_of_ids(
            wanted_ids(choice.scene_ids, choice.ids_file, scenes),
            family=SENTINEL2,
            instance=instance,
            scenes=scenes,
            search=lambda asked: _items_of(by_ids(asked, choice.source), choice, found, catalogs),
        )
    else:
        searches = by_place(choice, catalogs, scenes.access)
        found.area = searches.area
        items = _items_of(searches, choice, found, catalogs)
    found.registered = register_found(instance, scenes, SENTINEL2, items, dry_run=dry_run, seen=found.see, log=log)
    if by_id:
        found.problems += found.registered.unusable.values()
    return found


def _items_of(
    searches: Searches, choice: SceneChoice, found: FoundScenes, catalogs: SceneCatalogs
) -> Iterator[dict[str, Any]]:
    found.providers = [search.provider for search in searches.searches]
    yield from searches.items(catalogs, choice.earth_engine_collection)
    found.problems += searches.problems


def wanted_ids(scene_ids: Sequence[str], ids_file: str, scenes: SceneRegistry) -> list[str]:
    """Ids as they are given, or as a file has them; each once.

    Raises:
        SettingsError: if there is no such file, or it is not a list of ids.
    """
    return list(dict.fromkeys(scene_ids or read_ids(ids_file, scenes.store)))


def items_of_ids(
    ids: Sequence[str],
    *,
    family: SceneFamily,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    search: Callable[[list[str]], Iterator[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The items of registered scenes from the registry, then the others from where they are searched for."""
    partitions = registered(instance, family.partitions, ids)
    asked = [scene_id for scene_id in ids if scene_id not in partitions]
    there = iter([scene_id for scene_id in ids if scene_id in partitions])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="items") as pool:
        while batch := list(itertools.islice(there, _BATCH)):
            for scene_id, item in zip(batch, pool.map(partial(kept_item, family, scenes), batch), strict=True):
                if item is None:
                    asked.append(scene_id)
                else:
                    yield item
    if asked:
        yield from search(asked)


def kept_item(family: SceneFamily, scenes: SceneRegistry, scene_id: str) -> dict[str, Any] | None:
    """The item of a scene that has a partition; None if there is no item."""
    try:
        return scenes.scene(family, scene_id).item
    except SceneError:
        return None  # somebody has added the partition by hand
