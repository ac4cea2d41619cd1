"""Conversion of the tiles of a store that a former release wrote.

Former releases kept a tile in `<partition>.zarr`: a Zarr group with the pointer as its attributes, whose bands were
spread over versions. The bands are brought into one new version (hard links on a path, copies by the server), so that
nothing is fetched or computed again, and their attributes become those that a band has now. The former place is removed
after the new one is published.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import obstore

from darts_assets.bands import MASKS, stored_band
from darts_assets.errors import NotReadableError
from darts_assets.stores.bring_in import bring_in
from darts_assets.stores.group_attributes import band_description, group_attributes
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import Pointer
from darts_assets.stores.publish import FORMER_POINTER, POINTER, ZARR, Manifest, Place, parse_pointer
from darts_assets.stores.tiles import finish_version, read_geobox

_ROOMS = ("raw", "tiles")
_REQUESTS = 16
_ARRAY = "zarr.json"


def former_tiles(root: StoreLocation) -> Iterator[StoreLocation]:
    """The tiles of a store that a former release wrote."""
    with ThreadPoolExecutor(_REQUESTS) as pool:
        folders = [root.child(room) for room in _ROOMS]
        while folders:
            below = [child for children in pool.map(_children, folders) for child in children]
            zarrs = [child for child in below if child.url.endswith(ZARR)]
            yield from (child for child, body in zip(zarrs, pool.map(_body, zarrs), strict=True) if body is not None)
            folders = [child for child in below if not child.url.endswith(ZARR)]


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
                _describe(version.location.child(band), band, manifest.metadata["attrs"])
            attributes = group_attributes(manifest.metadata, manifest.metadata["attrs"], manifest.contents)
            finish_version(version, read_geobox(place, manifest), attributes)
            place.publish(version, dict.fromkeys(manifest.contents, version.id), manifest.metadata)
    _remove(former)


def _children(folder: StoreLocation) -> list[StoreLocation]:
    """The folders in a folder, by name; none in a place of this release."""
    if folder.is_local and not folder.path.is_dir():
        return []  # listing would create the folder
    listing = obstore.list_with_delimiter(folder.objects())
    if POINTER in {entry["path"] for entry in listing["objects"]}:
        return []
    return [folder.child(name) for name in sorted(listing["common_prefixes"])]


def _describe(location: StoreLocation, name: str, attrs: Mapping[str, Any]) -> None:
    """Give a band of a former release the attributes that describe it now; scale, offset and fill value stay.

    The former band, with which a path shares the file, is not changed.

    Raises:
        NotReadableError: if the metadata of the band are damaged.
    """
    store, base = location.objects(), name.partition("-")[0]
    try:
        array = json.loads(bytes(obstore.get(store, _ARRAY).bytes()))
        dtype, former = np.dtype(array["data_type"]), dict(array.get("attributes", {}))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotReadableError(f"{location}: {_ARRAY} is damaged: {error}") from error
    try:
        codec = stored_band(base if base in MASKS else name, dtype)
    except KeyError:
        return  # this release has no such band
    array["attributes"] = former | band_description(codec, attrs) | {"grid_mapping": "spatial_ref"}
    obstore.put(store, _ARRAY, json.dumps(array).encode())


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
