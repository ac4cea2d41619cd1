"""The STAC tree `catalog/stac`, brought up to date: only items of scenes whose products have changed are written.

Items have names of their own for each content, `<scene>/<digest>.json`, and are never changed. A family's
`collection.json` names the items that are current, and is put last: a reader that holds the old one still finds its
items, until the run after this one removes what is no longer named. What a run must know of earlier ones stands in the
links of the collection, so that it cannot disagree with it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darts_assets.catalog import collections
from darts_assets.catalog.catalog_store import BATCH, Tree, Turn, side_by_side
from darts_assets.catalog.model_collection import ModelShelf
from darts_assets.catalog.model_item import Model, model_id
from darts_assets.catalog.published_products import pointers, read_products
from darts_assets.catalog.scene_item import scene_item
from darts_assets.catalog.vocabulary import digest, link
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)

LAYOUT = "1"
"""Of items: a change writes all of them anew."""


@dataclass
class StacUpdate:
    """What an update has done.

    Attributes:
        items: scenes in the catalog, by family.
        written: items that are new or have changed.
        removed: scenes that are no longer in the catalog.
        unusable: scenes whose products do not tell what the catalog needs.
        deleted: objects that earlier catalogs named, or killed runs left.
        hrefs: of all items, which name their content.
        boxes: bounding boxes of all scenes (west, south, east, north; degrees).
        models: ids of the models that are told.
        version: of the content of all items.
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
    """Bring the STAC tree up to date with the products in the store.

    Args:
        root: of the store.
        families: of scenes.
        models: whose checkpoints are at hand; they are told, and copied into the catalog, if a scene was mapped by
            them. Models that were told once stay.
        licence: of the results: SPDX identifier, or `other`.
        rebuild: read the products of all scenes again.

    Raises:
        StoreError: if another run has begun to write the catalog meanwhile.
        NotReadableError: if a collection is damaged.
    """
    store, tree, done = Tree(root), Tree(root.child("catalog")), StacUpdate()
    with Turn(tree, ".stac.writer") as turn:
        shelf = ModelShelf(tree, models, licence=licence, rebuild=rebuild)
        for family in families:
            _update_family(store, tree, turn, family, shelf, done, licence=licence, rebuild=rebuild)
        write_root(tree)
        done.models = shelf.kept
    done.version = digest(dict.fromkeys([*done.hrefs, *done.models]))
    return done


def write_root(tree: Tree) -> None:
    """Write `catalog.json`, if the collections that there are have changed."""
    children = [name for name in collections.TITLES if tree.exists(f"stac/{name}/collection.json")]
    wanted = collections.root_catalog(children)
    if tree.document("catalog.json") != wanted:
        tree.write("catalog.json", wanted)


def _update_family(
    store: Tree,
    tree: Tree,
    turn: Turn,
    family: str,
    shelf: ModelShelf,
    done: StacUpdate,
    *,
    licence: str,
    rebuild: bool,
) -> None:
    folder = f"stac/{family}"
    before = tree.document(f"{folder}/collection.json")
    entries = {item["title"]: item for item in (before or {}).get("links", []) if item["rel"] == "item"}
    done.deleted += _remove_garbage(tree, folder, entries)

    there = pointers(store, family)
    current = {scene: entry for scene, entry in entries.items() if scene in there}
    changed = [
        scene
        for scene, tag in sorted(there.items())
        if rebuild or scene not in current or current[scene]["darts:state"] != f"{LAYOUT} {tag}"
    ]
    _log.info("%s: %d scenes have products, %d of them new or changed", family, len(there), len(changed))

    models = shelf.known

    def write(scene: str) -> tuple[str, dict[str, Any] | None, set[str]]:
        products = read_products(store, family, scene)
        if products is None:
            return scene, None, set()
        item = scene_item(products, models)
        entry = _entry(item, f"{LAYOUT} {there[scene]}")
        if entry["href"] != current.get(scene, {}).get("href"):
            tree.write(f"{folder}/{scene}/{digest(item)}.json", item)
        used = {model_id(name, sha256) for name, sha256 in item["properties"]["darts:models"].items()}
        return scene, entry, used & models

    used_models: set[str] = set()
    for count, (scene, entry, used) in enumerate(side_by_side(write, changed), start=1):
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

    turn.check()
    if not current:
        tree.remove([f"{folder}/collection.json"] if before else [])
        return
    shelf.keep(used_models)
    named = sorted({*_related(before), *(f"../models/{name}.json" for name in used_models)})
    wanted = collections.scenes_collection(family, dict(sorted(current.items())), named, licence)
    if wanted != before:
        tree.write(f"{folder}/collection.json", wanted)


def _entry(item: Mapping[str, Any], state: str) -> dict[str, Any]:
    """The link to an item, with what collections summarize and what the next update must know."""
    properties = item["properties"]
    return link(
        "item", f"./{item['id']}/{digest(item)}.json", "application/geo+json", title=item["id"],
        datetime=properties["datetime"], bbox=item["bbox"],
        **{"darts:crs": properties["proj:code"], "darts:objects": properties["darts:objects"], "darts:state": state},
    )  # fmt: skip


def _related(collection: Mapping[str, Any] | None) -> list[str]:
    return [item["href"] for item in (collection or {}).get("links", []) if item["rel"] == "related"]


def _remove_garbage(tree: Tree, folder: str, entries: Mapping[str, Mapping[str, Any]]) -> int:
    """Remove the items that the published collection does not name: a reader of it needs none of them."""
    tree.remove_unfinished(folder)
    named = {f"{folder}/{entry['href'].removeprefix('./')}" for entry in entries.values()}
    found = tree.tags(f"{folder}/").keys()
    return tree.remove(sorted(found - named - {f"{folder}/collection.json"}))
