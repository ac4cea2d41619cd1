"""The immutable items of a collection, `catalog/stac/<collection>/<folder>/<digest>.json`, and the links to them."""

from collections.abc import Collection, Mapping
from typing import Any

from darts_assets.catalog.catalog_store import Tree, digest

ITEMS_TABLE = "items.parquet"
"""File of a collection with all its items, beside `collection.json`."""

Entry = dict[str, Any]
"""The link of a collection to an item, with facts about the item for the collection and for the next update."""


class ItemFolder:
    """Items that are written before the collection that links to them, so that readers see whole collections.

    Args:
        tree: the catalog.
        name: id of the collection.

    Attributes:
        key: key of the folder of the collection.
        collection: the published collection, None if there is none.
        entries: id of each published item -> its link.
    """

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree = tree
        self.key = f"stac/{name}"
        self.collection = tree.document(f"{self.key}/collection.json")
        links = (self.collection or {}).get("links", [])
        self.entries: dict[str, Entry] = {link["title"]: link for link in links if link["rel"] == "item"}

    def remove_garbage(self) -> int:
        """Remove items without a link in the published collection; returns their number."""
        self._tree.remove_unfinished(self.key)
        linked = {f"{self.key}/{entry['href'].removeprefix('./')}" for entry in self.entries.values()}
        kept = {*linked, f"{self.key}/collection.json", f"{self.key}/{ITEMS_TABLE}"}
        return self._tree.remove(sorted(self._tree.tags(f"{self.key}/").keys() - kept))

    def put(self, item: Mapping[str, Any], folder: str, **facts: Any) -> Entry:
        """Write an item, unless the same one is published.

        Args:
            item: the item; its hrefs are relative to `catalog/stac/<collection>/<folder>/`.
            folder: last part of the place that the item describes. The versions that items in a folder of this name
                refer to are not collected.
            facts: further keys of the link.

        Returns:
            The link to the item.
        """
        entry = {
            "rel": "item", "href": f"./{folder}/{digest(item)}.json", "type": "application/geo+json",
            "title": item["id"], **facts,
        }  # fmt: skip
        if entry["href"] != self.entries.get(item["id"], {}).get("href"):
            self._tree.write(f"{self.key}/{entry['href'].removeprefix('./')}", dict(item))
        return entry

    def publish(self, document: dict[str, Any] | None) -> None:
        """Replace the collection, if it has changed; None removes it and the table of its items."""
        if document is None:
            gone = [f"{self.key}/collection.json", f"{self.key}/{ITEMS_TABLE}"]
            self._tree.remove(gone if self.collection else [])
        elif document != self.collection:
            self._tree.write(f"{self.key}/collection.json", document)

    def related(self, rel: str) -> Collection[str]:
        """The hrefs of the published links with a relation."""
        return [link["href"] for link in (self.collection or {}).get("links", []) if link["rel"] == rel]
