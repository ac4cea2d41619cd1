"""Updates of the STAC tree `catalog/stac`, which write only items of scenes with changed products or raw scenes.

Items are immutable and named by their content, `<scene>/<digest>.json`. The `collection.json` of a family links to the
current items and is written last. Items that it no longer links to are removed by the next update, so that readers of
the old collection still get its items. The links also hold the state of the update, which therefore always agrees with
the collection.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darts_assets.catalog.catalog_store import (
    BATCH,
    SingleWriter,
    Tree,
    concurrent_map,
    digest,
    pointers,
    raw_tag,
    read_products,
    with_current_raw,
)
from darts_assets.catalog.model_collection import Model, ModelCollection
from darts_assets.catalog.scene_item import scene_item
from darts_assets.catalog.stac_collections import TITLES, root_catalog, scenes_collection
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)

LAYOUT = "2"
"""Version of the items' layout; if it changes, all items are written again."""


@dataclass
class StacUpdate:
    """Result of an update.

    Attributes:
        items: number of scenes in the catalog, by family.
        written: number of new or changed items.
        removed: number of scenes removed from the catalog.
        unusable: scenes whose products lack the metadata that the catalog needs.
        deleted: number of deleted objects, of earlier catalogs or killed runs.
        hrefs: hrefs of all items; they contain a hash of the content.
        boxes: bounding boxes of all scenes (west, south, east, north; degrees).
        models: ids of the published models.
        version: hash of the content of all items.
    """

    items: dict[str, int] = field(default_factory=dict)
    written: int = 0
    removed: int = 0
    unusable: list[str] = field(default_factory=list)
    deleted: int = 0
    hrefs: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    version: str = ""


def update_stac(
    root: StoreLocation, families: Sequence[str], models: Sequence[Model], *, licence: str, rebuild: bool = False
) -> StacUpdate:
    """Update the STAC tree to the products in the store.

    Args:
        root: root of the store.
        families: families of scenes.
        models: models with a local checkpoint. Those used by a scene are copied into the catalog, and stay there.
        licence: licence of the results: SPDX identifier, or `other`.
        rebuild: read the products of all scenes again.

    Raises:
        StoreError: if another run has started to write the catalog.
        NotReadableError: if a collection is damaged.
    """
    store, tree, done = Tree(root), Tree(root.child("catalog")), StacUpdate()
    with SingleWriter(tree, ".stac.writer") as writer:
        collection = ModelCollection(tree, models, licence=licence, rebuild=rebuild)
        for family in families:
            _update_family(store, tree, writer, family, collection, done, licence=licence, rebuild=rebuild)
        write_root(tree)
        done.models = collection.published
    done.version = digest(dict.fromkeys([*done.hrefs, *done.models]))
    return done


def write_root(tree: Tree) -> None:
    """Write `catalog.json` if the set of collections has changed."""
    document = root_catalog([name for name in TITLES if tree.exists(f"stac/{name}/collection.json")])
    if tree.document("catalog.json") != document:
        tree.write("catalog.json", document)


def _update_family(
    store: Tree,
    tree: Tree,
    writer: SingleWriter,
    family: str,
    model_collection: ModelCollection,
    done: StacUpdate,
    *,
    licence: str,
    rebuild: bool,
) -> None:
    folder = f"stac/{family}"
    before = tree.document(f"{folder}/collection.json")
    entries = {item["title"]: item for item in (before or {}).get("links", []) if item["rel"] == "item"}
    done.deleted += _remove_garbage(tree, folder, entries)

    tags = pointers(store, family)
    rooms = dict(store.location.rooms)
    # Hrefs lead to rooms that lie elsewhere: if they move, all items are written again.
    layout = " ".join([LAYOUT, *(str(rooms[room]) for room in ("products", "raw") if room in rooms)])
    current = {scene: entry for scene, entry in entries.items() if scene in tags}

    def state(scene: str, raw: str) -> str:
        return f"{layout} {tags[scene]} {raw_tag(store, raw)}".rstrip()

    def is_current(scene: str) -> bool:
        entry = current.get(scene)
        return entry is not None and entry["darts:state"] == state(scene, entry.get("darts:raw", ""))

    scenes = sorted(tags)
    changed = scenes
    if not rebuild:
        changed = [
            scene for scene, is_same in zip(scenes, concurrent_map(is_current, scenes), strict=True) if not is_same
        ]
    _log.info("%s: %d scenes with products, %d new or changed", family, len(tags), len(changed))

    models = model_collection.available

    def write(scene: str) -> tuple[str, dict[str, Any] | None, set[str]]:
        products = read_products(store, family, scene)
        if products is None:
            return scene, None, set()
        seen = state(scene, products.raw)  # before the raw scene is read
        item = scene_item(with_current_raw(store, products), models)
        entry = _entry(item, seen, products.raw)
        if entry["href"] != current.get(scene, {}).get("href"):
            tree.write(f"{folder}/{scene}/{digest(item)}.json", item)
        return scene, entry, models.intersection(products.models)

    used_models: set[str] = set()
    for count, (scene, entry, used) in enumerate(concurrent_map(write, changed), start=1):
        used_models |= used
        old = current.pop(scene, None)
        if entry is None:
            done.unusable.append(scene)
        else:
            done.written += old is None or old["href"] != entry["href"]
            current[scene] = entry
        if count % (4 * BATCH) == 0:
            _log.info("%s: %d of %d items", family, count, len(changed))
    done.removed += len(entries.keys() - current.keys())
    done.items[family] = len(current)
    done.hrefs += sorted(entry["href"] for entry in current.values())
    done.boxes += [entry["bbox"] for entry in current.values()]

    writer.check()
    if not current:
        tree.remove([f"{folder}/collection.json"] if before else [])
        return
    model_collection.publish(used_models)
    related = sorted({*_related(before), *(f"../models/{name}.json" for name in used_models)})
    document = scenes_collection(family, dict(sorted(current.items())), related, licence)
    if document != before:
        tree.write(f"{folder}/collection.json", document)


def _entry(item: Mapping[str, Any], state: str, raw: str) -> dict[str, Any]:
    """The link to an item, with the values that collections summarize, and state and raw scene for the next update."""
    properties = item["properties"]
    return {
        "rel": "item", "href": f"./{item['id']}/{digest(item)}.json", "type": "application/geo+json",
        "title": item["id"], "datetime": properties["datetime"], "bbox": item["bbox"],
        "darts:crs": properties["proj:code"], "darts:objects": properties["darts:objects"], "darts:state": state,
        **({"darts:raw": raw} if raw else {}),
    }  # fmt: skip


def _related(collection: Mapping[str, Any] | None) -> list[str]:
    return [item["href"] for item in (collection or {}).get("links", []) if item["rel"] == "related"]


def _remove_garbage(tree: Tree, folder: str, entries: Mapping[str, Mapping[str, Any]]) -> int:
    """Remove items without a link in the published collection; returns their number."""
    tree.remove_unfinished(folder)
    linked = {f"{folder}/{entry['href'].removeprefix('./')}" for entry in entries.values()}
    return tree.remove(sorted(tree.tags(f"{folder}/").keys() - linked - {f"{folder}/collection.json"}))
