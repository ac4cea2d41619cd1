"""Published polygons in the store: scenes, acquisition times and data versions."""

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
from darts_assets.stores.publish import Manifest, Place

if TYPE_CHECKING:
    import geopandas as gpd

_INDEX = "inventory/polygons.json"
_POINTER = "current.json"
_READERS = 16


@dataclass(frozen=True)
class PublishedPolygons:
    """Scenes with published polygons.

    Attributes:
        scenes: usable scenes, sorted by id.
        unusable: reason for each unusable scene id.
    """

    scenes: list[SceneRecord]
    unusable: dict[str, str]


def published_polygons(store: Store, registry: SceneRegistry, families: Iterable[SceneFamily]) -> PublishedPolygons:
    """List the scenes with published polygons.

    A listing of the pointers shows which polygons changed since the last call; only these are read. The others come
    from an index in the store (`inventory/polygons.json`).
    """
    objects = store.root.objects()
    index = _read_index(objects)
    entries: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    for family in families:
        folder = f"vectors/{family.name}/polygons/"
        tags = _pointers(objects, folder)
        indexed = index.get(family.name, {})
        changed = [scene for scene, tag in tags.items() if indexed.get(scene, {}).get("tag") != tag]

        def read(scene: str, family: SceneFamily = family, folder: str = folder) -> dict[str, str] | DartsError | None:
            try:
                version = _data_version(objects, f"{folder}{scene}/{_POINTER}")
                acquired = registry.scene(family, scene).datetime
                return None if version is None else {"datetime": acquired.isoformat(), "data_version": version}
            except DartsError as error:
                return error

        with ThreadPoolExecutor(_READERS) as pool:
            results = dict(zip(changed, pool.map(read, changed), strict=True))
        unusable |= {scene: str(result) for scene, result in results.items() if isinstance(result, DartsError)}
        fresh = {scene: {"tag": tags[scene], **result} for scene, result in results.items() if isinstance(result, dict)}
        kept = {scene: entry for scene, entry in indexed.items() if scene in tags and scene not in results}
        entries[family.name] = kept | fresh
    obstore.put(objects, _INDEX, json.dumps(index | entries, sort_keys=True).encode())
    records = [
        SceneRecord(scene, family, dt.datetime.fromisoformat(entry["datetime"]), entry["data_version"])
        for family, by_scene in entries.items()
        for scene, entry in by_scene.items()
    ]
    return PublishedPolygons(sorted(records, key=lambda record: record.scene_id), unusable)


def records_of(scenes: "gpd.GeoDataFrame") -> list[SceneRecord]:
    """The scenes of an inventory."""
    columns = [scenes[name] for name in ("scene_id", "family", "datetime", "data_version")]
    return [SceneRecord(*values) for values in zip(*columns, strict=True)]


class StoredPolygons:
    """Reads the polygons of scenes.

    Attributes:
        missing: scenes without polygons in the store, of those requested from `current_observed`.
    """

    def __init__(self, store: Store, scenes: Sequence[SceneRecord]) -> None:
        self._store = store
        self._scenes = {scene.scene_id: scene for scene in scenes}
        self.missing: list[str] = []

    def segments(self, scene_id: str) -> "gpd.GeoDataFrame":
        """The detections of a scene in the data version of its record."""
        return self._table(scene_id, "segments")

    def valid(self, scene_id: str) -> "gpd.GeoDataFrame":
        """The valid area of a scene, likewise."""
        return self._table(scene_id, "extent")

    def observed(self, scene_id: str) -> "gpd.GeoDataFrame":
        """The clear part of the valid area of a scene, likewise.

        Polygons of earlier versions have no such table: their whole valid area counts as clear.
        """
        return self._table(scene_id, "clear")

    def current_observed(self, scene_id: str) -> "gpd.GeoDataFrame":
        """As `observed`, in the current data version; empty if the scene no longer has polygons."""
        import geopandas as gpd

        place = self._place(scene_id)
        if manifest := place.manifest():
            return _read(place, manifest, "clear")
        self.missing.append(scene_id)
        return gpd.GeoDataFrame(geometry=[], crs="EPSG:6931")

    def _table(self, scene_id: str, name: str) -> "gpd.GeoDataFrame":
        place = self._place(scene_id)
        manifest = place.manifest()
        if manifest is None or manifest.metadata["provenance"]["data_version"] != self._scenes[scene_id].data_version:
            raise StoreError(f"polygons of {scene_id} were replaced during reading; run the inventory again")
        return _read(place, manifest, name)

    def _place(self, scene_id: str) -> Place:
        return self._store.place("vectors", self._scenes[scene_id].family, "polygons", scene_id)


def _read(place: Place, manifest: Manifest, name: str) -> "gpd.GeoDataFrame":
    from darts_assets.stores.vectors import read_table

    old = name == "clear" and "clear.parquet" not in manifest.contents
    return read_table(place, manifest, "extent" if old else name)


def _pointers(objects: Any, folder: str) -> dict[str, str]:
    """Entity tag of the pointer of each scene; it changes whenever polygons are published."""
    tags = {}
    for batch in obstore.list(objects, folder):
        for entry in batch:
            scene, _, name = entry["path"].removeprefix(folder).partition("/")
            if name == _POINTER:
                tags[scene] = f"{entry['e_tag'] or entry['last_modified']}"
    return tags


def _data_version(objects: Any, key: str) -> str | None:
    """The data version of published polygons; None if their first run has not published any yet."""
    try:
        pointer = json.loads(bytes(obstore.get(objects, key).bytes()))
        return None if pointer["contents"] is None else str(pointer["metadata"]["provenance"]["data_version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise NotReadableError(f"{key} is damaged: {error}") from error


def _read_index(objects: Any) -> dict[str, dict[str, dict[str, str]]]:
    try:
        index: dict[str, dict[str, dict[str, str]]] = json.loads(bytes(obstore.get(objects, _INDEX).bytes()))
    except (FileNotFoundError, ValueError):
        return {}
    return index
