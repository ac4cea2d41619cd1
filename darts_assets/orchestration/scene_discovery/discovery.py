"""Search for scenes, their registration, and the summary that jobs report."""

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
from darts_assets.orchestration.core.resources import Provider, SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registration import Registered, register_stac_items
from darts_assets.orchestration.scene_discovery.selection import (
    SceneChoice,
    search_by_place,
    search_items,
    searches_by_id,
)

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.scene import Scene
    from darts_assets.sources.stac.scene_selection import Selection

_SHOWN_TILES = 50
_SHOWN = 20  # unusable items
_LISTED = 100  # scenes
_THREADS = 16
_BATCH = 256


@dataclass
class DiscoveredScenes:
    """The scenes of a selection.

    Attributes:
        registered: the ids of the scenes, and of the new ones.
        problems: problems that did not end the search, one sentence each.
        notes: what else a user should know, one sentence each.
        unknown_cover: property -> number of scenes left out because they lack this cover.
        searched: the catalogs or folders that were searched.
        by_tile: tile -> year -> number of scenes.
        new_by_tile: tile -> number of new scenes.
        labels: id -> label and whether the scene is new, of the first scenes.
        footprints: tile -> the largest footprint of its scenes.
        area: the requested area, if the scenes are selected by one; EPSG:4326.
    """

    registered: Registered = field(default_factory=Registered)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown_cover: Counter[str] = field(default_factory=Counter)
    searched: list[str] = field(default_factory=list)
    by_tile: dict[str, Counter[int]] = field(default_factory=dict)
    new_by_tile: Counter[str] = field(default_factory=Counter)
    labels: dict[str, tuple[str, bool]] = field(default_factory=dict)
    footprints: "dict[str, BaseGeometry]" = field(default_factory=dict)
    area: "BaseGeometry | None" = None

    def add(self, scene: "Scene", is_new: bool) -> None:
        """Count a scene."""
        from darts_assets.geo.antimeridian import footprint

        if len(self.labels) < _LISTED:
            self.labels[scene.id] = (scene.label, is_new)
        tile = scene.tile or scene.id
        self.by_tile.setdefault(tile, Counter())[scene.datetime.year] += 1
        self.new_by_tile[tile] += is_new
        shape = footprint(scene.geometry)
        if shape is not None and (tile not in self.footprints or shape.area > self.footprints[tile].area):
            self.footprints[tile] = shape

    @property
    def summary(self) -> str:
        """One-line summary."""
        count = len(self.registered.scene_ids)
        matches = "scene matches" if count == 1 else "scenes match"
        summary = f"{count} {matches} ({self.registered.known} already registered, {len(self.registered.new)} new)."
        if twins := len(self.registered.twins):
            summary += (
                f" {twins} of another source are the same acquisitions and are left out (see repeat_acquisitions)."
            )
        if not self.unknown_cover:
            return summary
        counts = ", ".join(f"{number} without {name}" for name, number in sorted(self.unknown_cover.items()))
        return f"{summary} Left out because their cover is unknown: {counts} (a limit of 100 includes them)."

    def metadata(self) -> dict[str, dg.MetadataValue[Any]]:
        """Counts, tables by tile and year and of the scenes, and a map, for Dagster's UI."""
        facts: dict[str, Any] = {
            "result": self.summary,
            "matched": len(self.registered.scene_ids),
            "known": self.registered.known,
            "new": len(self.registered.new),
            "searched": ", ".join(self.searched) or "nothing: all scenes are registered",
        }
        if self.problems:
            facts["problems"] = self.problems
        if self.unknown_cover:
            facts["unknown_cover"] = dict(self.unknown_cover)
        if twins := self.registered.twins:
            facts["same_acquisitions"] = {"count": len(twins), **dict(itertools.islice(twins.items(), _SHOWN))}
        if unusable := self.registered.unusable:
            facts["unusable"] = {"count": len(unusable), **dict(itertools.islice(unusable.items(), _SHOWN))}
        if self.footprints:
            facts["Map"] = self._map()
        if self.by_tile:
            facts["scenes"] = self._table()
            facts["Names"] = self._names()
        return as_metadata(facts)

    def _table(self) -> dg.TableMetadataValue:
        years = sorted({year for counts in self.by_tile.values() for year in counts})
        ordered = sorted(self.by_tile, key=lambda tile: (-self.by_tile[tile].total(), tile))
        rows = [("all", ordered)] if len(ordered) > 1 else []
        rows += [(tile, [tile]) for tile in ordered[:_SHOWN_TILES]]
        if remaining := ordered[_SHOWN_TILES:]:
            rows.append((f"{len(remaining)} other tiles", remaining))
        return dg.MetadataValue.table([
            dg.TableRecord({
                "tile": name,
                **{str(year): sum(self.by_tile[tile][year] for tile in tiles) for year in years},
                "scenes": sum(self.by_tile[tile].total() for tile in tiles),
                "new": sum(self.new_by_tile[tile] for tile in tiles),
            })
            for name, tiles in rows
        ])  # fmt: skip

    def _names(self) -> dg.TableMetadataValue:
        """Date, tile and satellite of the first scenes, by name."""
        rows = sorted((label, scene_id, is_new) for scene_id, (label, is_new) in self.labels.items())
        return dg.MetadataValue.table(
            [dg.TableRecord({"scene": label, "new": is_new, "id": scene_id}) for label, scene_id, is_new in rows]
        )

    def _map(self) -> dg.MetadataValue[Any]:
        from darts_assets.maps import footprint_map

        counts = {tile: self.by_tile[tile].total() for tile in self.footprints}
        image = footprint_map([(shape, counts[tile]) for tile, shape in self.footprints.items()], self.area)
        legend = f"green: {len(counts)} footprints, darker with more scenes (up to {max(counts.values())})"
        legend += "; red: the requested area" if self.area is not None else ""
        return dg.MetadataValue.md(f"{image_link(image, 'webp', quality=80)}\n\n{legend}")


def find_and_register(
    config: SceneChoice,
    *,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    catalogs: SceneCatalogs,
    dry_run: bool,
    log: Callable[[str], None],
) -> DiscoveredScenes:
    """Search for the selected scenes and register them; registered ids are not searched for.

    Raises:
        SettingsError: if the config is contradictory, its file or area cannot be read, or a catalog refuses access.
        SceneError: if all tiles are malformed, or a catalog refuses the request.
        SourceUnavailableError: if a service does not answer; no partition is added.
    """
    by_id, result = config.check() in ("scene_ids", "ids_file"), DiscoveredScenes()

    def search(searches: "dict[Provider, Selection]") -> Iterator[dict[str, Any]]:
        result.searched = list(searches)
        return search_items(searches, catalogs, config.earth_engine_collection, result.problems, result.unknown_cover)

    if by_id:
        items = items_of_ids(
            config.requested_ids(scenes.store),
            family=SENTINEL2,
            instance=instance,
            scenes=scenes,
            search=lambda ids: search(searches_by_id(ids, config.source, result.problems)),
        )
    else:
        searches = search_by_place(config, catalogs, scenes.access, result.problems)
        result.area = next(iter(searches.values())).area
        items = search(searches)
    result.registered = register_stac_items(
        instance,
        scenes,
        SENTINEL2,
        items,
        dry_run=dry_run,
        repeat_acquisitions=config.repeat_acquisitions,
        on_scene=result.add,
        log=log,
    )
    if by_id:
        result.problems += result.registered.unusable.values()
    return result


def items_of_ids(
    ids: Sequence[str],
    *,
    family: SceneFamily,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    search: Callable[[list[str]], Iterator[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The stored items of registered scenes, then the results of `search` for the other ids."""
    partitions = registered(instance, family.partitions, ids)
    unregistered = [scene_id for scene_id in ids if scene_id not in partitions]
    stored = iter([scene_id for scene_id in ids if scene_id in partitions])
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="items") as pool:
        while batch := list(itertools.islice(stored, _BATCH)):
            for scene_id, item in zip(batch, pool.map(partial(stored_item, family, scenes), batch), strict=True):
                if item is None:
                    unregistered.append(scene_id)
                else:
                    yield item
    if unregistered:
        yield from search(unregistered)


def stored_item(family: SceneFamily, scenes: SceneRegistry, scene_id: str) -> dict[str, Any] | None:
    """The item of a registered scene; None if its partition was added by hand, without an item."""
    try:
        return scenes.scene(family, scene_id).item
    except SceneError:
        return None
