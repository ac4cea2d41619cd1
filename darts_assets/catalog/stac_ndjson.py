"""The collections and items of the catalog as lines of JSON with absolute hrefs, as loaders of STAC APIs read them."""

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_assets.catalog.catalog_store import Tree, concurrent_map
from darts_assets.catalog.item_folder import ITEMS_TABLE
from darts_assets.catalog.items_table import read_items
from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation

COLLECTIONS_FILE, ITEMS_FILE = "collections.ndjson", "items.ndjson"

_OF_UPDATES = ("darts:state", "darts:parts", "darts:layout")
"""Fields of collections that only updates of the catalog read."""


def write_ndjson(root: StoreLocation, folder: Path, url: str) -> dict[str, int]:
    """Write `collections.ndjson` and `items.ndjson`.

    Args:
        root: root of the store.
        folder: destination; is created.
        url: URL or path at which readers find the folders of the store.

    Returns:
        The number of items of each collection.

    Raises:
        NotReadableError: if the store has no catalog.
    """
    tree = Tree(root.child("catalog"))
    catalog = tree.document("catalog.json")
    if catalog is None:
        raise NotReadableError(f"{tree.location}: no catalog; materialize catalog/stac first")
    # Hrefs lead to `stac/<collection>` of the catalog, or to a release of the data set beside it.
    keys = [posixpath.normpath(f"catalog/{link['href']}") for link in catalog["links"] if link["rel"] == "child"]
    store = Tree(root)
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    with (folder / COLLECTIONS_FILE).open("w") as collections, (folder / ITEMS_FILE).open("w") as items:
        for key in map(posixpath.dirname, keys):
            base, document = f"{url.rstrip('/')}/{key}", store.document(f"{key}/collection.json")
            if document is None:
                raise NotReadableError(f"{root}: {key}/collection.json does not exist; rebuild the catalog")
            collections.write(_line(_collection(document, base)))
            counts[document["id"]] = 0
            for item in _items(store, key, document, base):
                items.write(_line(item))
                counts[document["id"]] += 1
    return counts


def _collection(document: Mapping[str, Any], base: str) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if name not in _OF_UPDATES}
    kept["links"] = [link for link in document["links"] if link["rel"] not in ("item", "root", "parent")]
    return _absolute(kept, base)


def _items(tree: Tree, key: str, collection: Mapping[str, Any], base: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    location, file = tree.location, f"{key}/{ITEMS_TABLE}"
    if tree.exists(file):
        table = pq.read_table(location.file(file), filesystem=location.filesystem())
        yield from (_absolute(_without_upward_links(item), base) for item in read_items(table))
        return
    hrefs = [link["href"].removeprefix("./") for link in collection["links"] if link["rel"] == "item"]
    for href, item in zip(hrefs, concurrent_map(lambda href: tree.document(f"{key}/{href}"), hrefs), strict=True):
        if item is not None:
            yield _absolute(_without_upward_links(item), posixpath.dirname(f"{base}/{href}"))


def _without_upward_links(item: dict[str, Any]) -> dict[str, Any]:
    upwards = ("self", "root", "parent", "collection")
    return {**item, "links": [link for link in item["links"] if link["rel"] not in upwards]}


def _absolute(document: dict[str, Any], base: str) -> dict[str, Any]:
    """A document of the folder `base` with absolute hrefs of its links and assets."""
    scheme, separator, path = base.rpartition("://")
    for linked in (*document["links"], *document.get("assets", {}).values()):
        href = linked["href"]
        if "://" not in href and not href.startswith("/"):
            linked["href"] = f"{scheme}{separator}{posixpath.normpath(posixpath.join(path, href))}"
    return document


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"
