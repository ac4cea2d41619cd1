"""STAC items from a static source: a catalog, an item collection, one item, or a folder of item files."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pystac

from darts_assets.errors import CubeError


def items_at(href: str) -> Iterator[pystac.Item]:
    """All items at a path or URL, with asset hrefs that can be made absolute.

    Raises:
        CubeError: if there is nothing, or nothing that is STAC.
    """
    is_local = not urlsplit(href).scheme
    if is_local and Path(href).is_dir():
        paths = sorted(Path(href).glob("*.json"))
        catalog = [p for p in paths if p.name in ("catalog.json", "collection.json")]
        if not paths:
            raise CubeError(f"{href}: the folder has no STAC item files (*.json)")
        for path in catalog[:1] or paths:
            yield from items_at(str(path))
        return
    href = str(Path(href).expanduser().resolve()) if is_local else href
    try:
        found = pystac.StacIO.default().read_json(href)
        yield from _items(found, href)
    except CubeError:
        raise
    # pystac lets pass whatever its JSON parser, urllib and its own parsing raise.
    except Exception as error:
        raise CubeError(f"{href} cannot be read as STAC: {error}") from error


def _items(document: dict[str, Any], href: str) -> Iterator[pystac.Item]:
    kind = document.get("type")
    if kind == "Feature":
        yield pystac.Item.from_dict(document, href=href, preserve_dict=False)
    elif kind == "FeatureCollection":
        for feature in document["features"]:
            item = pystac.Item.from_dict(feature, preserve_dict=False)
            # Relative hrefs of an item without a place of its own are relative to the collection's file.
            if item.get_self_href() is None:
                item.set_self_href(posixpath.join(posixpath.dirname(href), f"{item.id}.json"))
            yield item
    elif kind in ("Catalog", "Collection"):
        root = pystac.read_file(href)
        assert isinstance(root, pystac.Catalog)
        yield from root.get_items(recursive=True)
    else:
        raise CubeError(f"{href} is no STAC catalog, collection, item collection or item (its type is {kind!r})")
