"""Tiles that a static STAC source lists: a catalog, a collection, an item collection, one item, a folder of items."""

import posixpath
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pystac
from odc.geo.geom import BoundingBox

from darts_assets.cubes._stac_io import StaticStacIO, stac_errors
from darts_assets.cubes.mosaic import MosaicTile, tile_of
from darts_assets.errors import CubeError


class StaticCatalog:
    """All tiles of a static source; read, all of it, when the first one is asked for.

    Args:
        where: path or URL of a document, or a local folder: of item files, or with a `catalog.json` or
            `collection.json`.
        document: the document at `where`, if it has been read.
    """

    def __init__(self, where: str, document: dict[str, Any] | None = None) -> None:
        self.where = where.removeprefix("file://")
        self._document = document
        self._lock = threading.Lock()
        self._tiles: list[MosaicTile] | None = None

    def under(self, box: BoundingBox, resolution: float) -> list[MosaicTile]:
        """See `TileCatalog`."""
        with self._lock:
            if self._tiles is None:
                self._tiles = [tile_of(item) for item in self._items()]
        known = {tile.resolution for tile in self._tiles}
        if resolution not in known:
            listed = f"only tiles of {', '.join(f'{metres:g}' for metres in sorted(known))} m" if known else "no items"
            raise CubeError(f"{self.where} lists {listed}, expected ArcticDEM mosaic tiles of {resolution:g} m")
        return [tile for tile in self._tiles if tile.resolution == resolution and tile.intersects(box)]

    def _items(self) -> Iterator[pystac.Item]:
        folder = Path(self.where).expanduser()
        if self._document is not None or not folder.is_dir():
            yield from _items_at(self.where, self._document)
            return
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise CubeError(f"{self.where}: the folder has no STAC item files (*.json)")
        catalog = [path for path in paths if path.name in ("catalog.json", "collection.json")]
        for path in catalog[:1] or paths:
            yield from _items_at(str(path), None)


def _items_at(where: str, document: dict[str, Any] | None) -> Iterator[pystac.Item]:
    """All items at a path or URL, with asset hrefs that can be made absolute."""
    io = StaticStacIO()
    href = where if "://" in where else str(Path(where).expanduser().resolve())
    with stac_errors(where):
        found = io.read_json(href) if document is None else document
        kind = found.get("type")
        if kind == "Feature":
            yield pystac.Item.from_dict(found, href=href)
        elif kind == "FeatureCollection":
            for feature in found["features"]:
                item = pystac.Item.from_dict(feature)
                # Relative hrefs of an item without a place of its own are relative to the collection's file.
                if item.get_self_href() is None:
                    item.set_self_href(posixpath.join(posixpath.dirname(href), f"{item.id}.json"))
                yield item
        elif kind in ("Catalog", "Collection"):
            root = pystac.read_file(href, stac_io=io)
            assert isinstance(root, pystac.Catalog)
            yield from root.get_items(recursive=True)
        else:
            raise CubeError(f"{where} is no STAC catalog, collection, item collection or item (its type is {kind!r})")
