"""Conversion of the tiles of a store that a former release wrote.

Former releases kept a tile in `<partition>.zarr`: a Zarr group with the pointer as its attributes, whose bands were
spread over versions. The bands are brought into one new version (hard links on a path, copies by the server), so that
nothing is fetched or computed again, and the former place is removed after the new one is published.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import obstore

from darts_assets.errors import NotReadableError
from darts_assets.stores.bring_in import bring_in
from darts_assets.stores.group_attributes import group_attributes
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import Pointer
from darts_assets.stores.publish import FORMER_POINTER, POINTER, ZARR, Manifest, Place, parse_pointer
from darts_assets.stores.tiles import finish_version, read_geobox

_ROOMS = ("raw", "tiles")


def former_tiles(root: StoreLocation) -> Iterator[StoreLocation]:
    """The tiles of a store that a former release wrote, by name."""
    for room in _ROOMS:
        yield from _former(root.child(room))


def migrate_tile(former: StoreLocation) -> None:
    """Convert one tile, then remove its former place.

    Raises:
        NotReadableError: if the tile is damaged.
        StoreError: if the store does not respond, or another run writes the tile.
    """
    manifest = former_manifest(former)
    place = Place(replace(former, url=former.url.removesuffix(ZARR)), refuses_former=False)
    if manifest is not None and place.manifest() is None:
        with place.new_version(ZARR) as version:
            for band, old in manifest.contents.items():
                bring_in(former.child(old), version.location, band)
            attributes = group_attributes(manifest.metadata, manifest.metadata["attrs"], manifest.contents)
            finish_version(version, read_geobox(place, manifest), attributes)
            place.publish(version, dict.fromkeys(manifest.contents, version.id), manifest.metadata)
    _remove(former)


def _former(folder: StoreLocation) -> Iterator[StoreLocation]:
    if folder.is_local and not folder.path.is_dir():
        return  # listing would create the folder
    listing = obstore.list_with_delimiter(folder.objects())
    if POINTER in {entry["path"] for entry in listing["objects"]}:
        return
    for name in sorted(listing["common_prefixes"]):
        child = folder.child(name)
        if not name.endswith(ZARR):
            yield from _former(child)
        elif _body(child) is not None:
            yield child


def _body(former: StoreLocation) -> dict[str, Any] | None:
    """The pointer of a former place, None if a folder is something else."""
    content = Pointer(former, FORMER_POINTER).read().content
    try:
        return None if content is None else dict(json.loads(content)["attributes"]["darts_assets"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def former_manifest(former: StoreLocation) -> Manifest | None:
    """The content of a former place, None if nothing was published.

    Raises:
        NotReadableError: if the pointer is damaged.
    """
    try:
        return parse_pointer(_body(former) or {})[0]
    except (ValueError, KeyError, TypeError) as error:
        raise NotReadableError(f"{former}: the pointer {FORMER_POINTER} is damaged: {error}") from error


def _remove(former: StoreLocation) -> None:
    """Remove a former place; its pointer last, so that an interrupted removal is repeated."""
    if former.is_local:
        for path in former.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        (former.path / FORMER_POINTER).unlink()
        shutil.rmtree(former.path)  # with the lock of the pointer
        return
    store = former.objects()
    keys = sorted(set(former.keys()) - {FORMER_POINTER})
    if keys:
        obstore.delete(store, keys)
    obstore.delete(store, FORMER_POINTER)
