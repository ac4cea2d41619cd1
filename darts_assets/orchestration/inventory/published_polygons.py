"""The polygons that chains have published in the store: of which scenes, from when, in which version."""

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore

from darts_assets.errors import DartsError, NotReadableError, StoreError
from darts_assets.inventory.table_schemas import SceneRecord
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry

if TYPE_CHECKING:
    import geopandas as gpd

_INDEX = "inventory/polygons.json"
_POINTER = "current.json"
_READERS = 16


@dataclass(frozen=True)
class PublishedPolygons:
    """What is published.

    Attributes:
        scenes: all that can be used, by id.
        unusable: id -> why it cannot.
    """

    scenes: list[SceneRecord]
    unusable: dict[str, str]


def published_polygons(store: Store, registry: SceneRegistry, families: Iterable[SceneFamily]) -> PublishedPolygons:
    """The scenes whose polygons the store has.

    One listing tells which polygons were published since the last time; only these scenes are looked at. What is known
    of the others is kept in the store (`inventory/polygons.json`).
    """
    objects = store.root.objects()
    index = _read_index(objects)
    now: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    for family in families:
        folder = f"vectors/{family.name}/polygons/"
        tags = _pointers(objects, folder)
        known = index.get(family.name, {})
        news = [scene for scene, tag in tags.items() if known.get(scene, {}).get("tag") != tag]

        def look(scene: str, family: SceneFamily = family, folder: str = folder) -> dict[str, str] | DartsError:
            try:
                return {
                    "datetime": registry.scene(family, scene).datetime.isoformat(),
                    "data_version": _data_version(objects, f"{folder}{scene}/{_POINTER}"),
                }
            except DartsError as error:
                return error

        with ThreadPoolExecutor(_READERS) as pool:
            seen = dict(zip(news, pool.map(look, news), strict=True))
        unusable |= {scene: str(found) for scene, found in seen.items() if isinstance(found, DartsError)}
        fresh = {scene: {"tag": tags[scene], **found} for scene, found in seen.items() if isinstance(found, dict)}
        kept = {scene: entry for scene, entry in known.items() if scene in tags and scene not in seen}
        now[family.name] = kept | fresh
    obstore.put(objects, _INDEX, json.dumps(index | now, sort_keys=True).encode())
    records = [
        SceneRecord(scene, family, dt.datetime.fromisoformat(entry["datetime"]), entry["data_version"])
        for family, entries in now.items()
        for scene, entry in entries.items()
    ]
    return PublishedPolygons(sorted(records, key=lambda record: record.scene_id), unusable)


class StoredPolygons:
    """The polygons of scenes, read from the store in the versions that the records name."""

    def __init__(self, store: Store, scenes: Sequence[SceneRecord]) -> None:
        self._store = store
        self._scenes = {scene.scene_id: scene for scene in scenes}

    def segments(self, scene_id: str) -> "gpd.GeoDataFrame":
        """The detections of a scene."""
        return self._table(scene_id, "segments")

    def extent(self, scene_id: str) -> "gpd.GeoDataFrame":
        """The valid area of a scene."""
        return self._table(scene_id, "extent")

    def _table(self, scene_id: str, name: str) -> "gpd.GeoDataFrame":
        from darts_assets.stores.vectors import read_table

        scene = self._scenes[scene_id]
        place = self._store.place("vectors", scene.family, "polygons", scene_id)
        manifest = place.manifest()
        if manifest is None or manifest.metadata["provenance"]["data_version"] != scene.data_version:
            raise StoreError(f"the polygons of {scene_id} were replaced while they were read; run it again")
        return read_table(place, manifest, name)


def _pointers(objects: Any, folder: str) -> dict[str, str]:
    """Scenes with a pointer -> its entity tag, which changes whenever polygons are published."""
    found = {}
    for batch in obstore.list(objects, folder):
        for entry in batch:
            scene, _, name = entry["path"].removeprefix(folder).partition("/")
            if name == _POINTER:
                found[scene] = f"{entry['e_tag'] or entry['last_modified']}"
    return found


def _data_version(objects: Any, key: str) -> str:
    try:
        return str(json.loads(bytes(obstore.get(objects, key).bytes()))["metadata"]["provenance"]["data_version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise NotReadableError(f"{key} is damaged: {error}") from error


def _read_index(objects: Any) -> dict[str, dict[str, dict[str, str]]]:
    try:
        index: dict[str, dict[str, dict[str, str]]] = json.loads(bytes(obstore.get(objects, _INDEX).bytes()))
    except (FileNotFoundError, ValueError):
        return {}
    return index
