"""Parts of an earlier version become part of a new one without being read: hard links on a path, copies by the server.

Versions never change, so that two of them can share files.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore

from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation

_REQUESTS = 8
"""Concurrent requests to copy objects; a band of a full scene has 22 objects."""


def bring_in(source: StoreLocation, target: StoreLocation, band: str) -> None:
    """Add a band of the version `source` to the version `target` of the same store.

    Raises:
        NotReadableError: if the source does not have the band.
        StoreError: if the object store does not respond.
        OSError: if the disk is full.
    """
    before, after = source.child(band), target.child(band)
    if source.is_local:
        keys = [path.relative_to(before.path).as_posix() for path in before.path.rglob("*") if path.is_file()]
    else:
        keys = list(before.keys())
    if "zarr.json" not in keys:
        raise NotReadableError(f"{before} does not exist or was replaced during reading")
    if source.is_local:
        for key in keys:
            _link(before.path / key, after.path / key)
        return
    root, store = len(source.root.url) + 1, source.root.objects()
    with ThreadPoolExecutor(_REQUESTS) as pool:
        copies = [
            pool.submit(obstore.copy, store, f"{before.url[root:]}/{key}", f"{after.url[root:]}/{key}") for key in keys
        ]
        for copied in copies:
            copied.result()


def bring_in_file(source: StoreLocation, target: StoreLocation, name: str) -> None:
    """Add a file of the version `source` to the version `target` of the same store.

    Raises:
        NotReadableError: if the source does not have the file.
    """
    try:
        if source.is_local:
            _link(source.path / name, target.path / name)
            return
        root = len(source.root.url) + 1
        obstore.copy(source.root.objects(), f"{source.url[root:]}/{name}", f"{target.url[root:]}/{name}")
    except FileNotFoundError as error:
        raise NotReadableError(f"{source}/{name} does not exist or was replaced during reading") from error


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links, or the file has too many
        shutil.copy2(source, target)
