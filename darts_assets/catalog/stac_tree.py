"""Updates of the STAC tree `catalog/stac`, which write only items of scenes with changed products or raw scenes.

Items are immutable and named by their content, `<scene>/<digest>.json`. The `collection.json` of a family links to the
current items and is written last, after the table of all items (`items.parquet`). Items that it no longer links to are
removed by the next update, so that readers of the old collection still get its items. The links also hold the state of
the update, which therefore always agrees with the collection.
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
    registered_item,
    with_current_raw,
)
from darts_assets.catalog.inventory_items import update_inventory
from darts_assets.catalog.item_folder import Entry, ItemFolder
from darts_assets.catalog.items_table import update_items_table
from darts_assets.catalog.model_collection import Model, ModelCollection
from darts_assets.catalog.scene_item import scene_item
from darts_assets.catalog.stac_collections import TITLES, root_catalog, scenes_collection
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.store_layout import release_places

_log = logging.getLogger(__name__)

LAYOUT = "3"
"""Version of the items' layout; if it changes, all items are written again."""


_COLLECTION = "collection.json"


@dataclass
class StacUpdate:
    """Result of an update.

    Attributes:
        items: number of scenes in the catalog, by family.
        inventory: ids of the items of the inventory.
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
    inventory: list[str] = field(default_factory=list)
    written: int = 0
    removed: int = 0
    unusable: list[str] = field(default_factory=list)
    deleted: int = 0
    hrefs: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    version: str = ""


def update_stac(
    root: StoreLocation,
    families: Sequence[str],
    models: Sequence[Model],
    *,
    licence: str,
    rebuild: bool = False,
    publish_checkpoints: bool = True,
) -> StacUpdate:
    """Update the STAC tree to the products and the inventory in the store.

    Args:
        root: root of the store.
        families: families of scenes.
        models: models with a local checkpoint. Those used by a scene are described in the catalog, and stay there.
        licence: licence of the results: SPDX identifier, or `other`.
        rebuild: read the products of all scenes again.
        publish_checkpoints: whether the catalog has copies of the checkpoints; otherwise existing copies are removed.

    Raises:
        StoreError: if another run has started to write the catalog.
        NotReadableError: if a collection is damaged.
    """
    store, tree, done = Tree(root), Tree(root.child("catalog")), StacUpdate()
    with SingleWriter(tree, ".stac.writer") as writer:
        collection = ModelCollection(
            tree, models, licence=licence, rebuild=rebuild, publish_checkpoints=publish_checkpoints
        )
        for family in families:
            _update_family(store, tree, writer, family, collection, done, licence=licence, rebuild=rebuild)
        writer.check()
        collection.conform()
        inventory = update_inventory(store, tree, writer, licence=licence, rebuild=rebuild)
        done.inventory = sorted(inventory)
        done.hrefs += [inventory[name]["href"] for name in done.inventory]
        write_root(store, tree)
        done.models = collection.published
    withheld = (f"withheld {name}" for name in collection.withheld)
    done.version = digest(dict.fromkeys([*done.hrefs, *done.models, *withheld]))
    return done


def write_root(store: Tree, tree: Tree) -> None:
    """Write `catalog.json` if the set of collections, or of releases of the data set, has changed."""
    releases = {}
    for version, place in sorted(release_places(store.location).items()):
        if (manifest := place.manifest()) and _COLLECTION in manifest.contents:
            key = store.location.key_of(place.location.child(manifest.contents[_COLLECTION], _COLLECTION).url)
            releases[f"Data set, version {version}"] = f"../{key}"
    document = root_catalog([name for name in TITLES if tree.exists(f"stac/{name}/{_COLLECTION}")], releases)
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
    folder = ItemFolder(tree, family)
    done.deleted += folder.remove_garbage()

    tags = pointers(store, family)
    rooms = dict(store.location.rooms)
    # Hrefs lead to rooms that lie elsewhere: if they move, all items are written again.
    layout = " ".join([LAYOUT, *(str(rooms[room]) for room in ("products", "raw") if room in rooms)])
    current = {scene: entry for scene, entry in folder.entries.items() if scene in tags}

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

    def write(scene: str) -> tuple[str, Entry | None, set[str]]:
        products = read_products(store, family, scene)
        if products is None:
            return scene, None, set()
        seen = state(scene, products.raw)  # before the raw scene is read
        source = registered_item(store, family, scene)
        item = scene_item(with_current_raw(store, products), models, source)
        entry = folder.put(item, scene, **_facts(item, seen, products.raw))
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
    done.removed += len(folder.entries.keys() - current.keys())
    done.items[family] = len(current)
    done.hrefs += sorted(entry["href"] for entry in current.values())
    done.boxes += [entry["bbox"] for entry in current.values()]

    writer.check()
    if not current:
        folder.publish(None)
        return
    model_collection.publish(used_models)
    related = sorted({*folder.related("related"), *(f"../models/{name}.json" for name in used_models)})
    document = scenes_collection(family, dict(sorted(current.items())), related, licence)
    update_items_table(tree, folder.key, document, current.values())
    folder.publish(document)


def _facts(item: Mapping[str, Any], state: str, raw: str) -> dict[str, Any]:
    """Of the link to an item: values that collections summarize, and state and raw scene for the next update."""
    properties = item["properties"]
    return {
        "datetime": properties["datetime"], "bbox": item["bbox"], "darts:crs": properties["proj:code"],
        "darts:objects": properties["darts:objects"], "darts:state": state, **({"darts:raw": raw} if raw else {}),
    }  # fmt: skip
