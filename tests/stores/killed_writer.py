"""A process that publishes a tile and a product again and again, with collections in between, until it is killed."""

import json
import multiprocessing
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from multiprocessing.connection import Connection

import numpy as np
import obstore
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.stores.latest import LATEST
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.replaced_versions import collect_replaced, place_at
from darts_assets.stores.tiles import write_tile
from darts_assets.tiles import TileStream, on_grid

GRID = GeoBox.from_bbox((500_000, 7_700_000, 500_640, 7_707_000), crs="EPSG:32608", resolution=10)
SCENE = "scene"
FILES = ("a.txt", "b.txt")


def tile_place(root: StoreLocation) -> Place:
    return place_at(root, "tiles", "sentinel2", "segmentation", SCENE, grace=timedelta(0))


def product_place(root: StoreLocation) -> Place:
    return place_at(root, "products", "sentinel2", SCENE, grace=timedelta(0))


def constant(name: str, value: int) -> TileStream:
    tile = on_grid({name: np.full(GRID.shape, value, "uint8")}, GRID)
    return TileStream(GRID, (name,), iter([tile]))


def write_all(roots: list[StoreLocation], start: int, ready: Connection, keys: dict[str, str]) -> None:
    """Write to several stores at the same time; `ready` gets a message once each has been written to."""
    os.environ.update(keys)
    written = threading.Barrier(len(roots), lambda: ready.send(None))
    with ThreadPoolExecutor(len(roots)) as pool:
        for done in [pool.submit(_write_forever, root, start, written) for root in roots]:
            done.result()


def _write_forever(root: StoreLocation, start: int, written: threading.Barrier) -> None:
    """Band `tc_wetness` counts up; `tc_greenness` is brought in from version to version and never changes."""
    tile, product = tile_place(root), product_place(root)
    for number in count(start):
        value = number % 200 + 1
        kept = tile.manifest()
        if kept is None:
            write_tile(tile, constant("tc_greenness", 7), metadata={})
            kept = tile.require()
        keep = {"tc_greenness": kept.contents["tc_greenness"]}
        write_tile(tile, constant("tc_wetness", value), metadata={"value": value}, keep=keep)
        with product.new_version() as version:
            for name in FILES:
                obstore.put(version.location.objects(), name, str(value).encode())
            product.publish(version, dict.fromkeys(FILES, version.id), {"value": value})
        if number % 2:
            collect_replaced(root, timedelta(0), lambda line: None)
        if number == start:
            written.wait(timeout=120)


def mention(root: StoreLocation, *hrefs: str) -> None:
    """The STAC item of the scene, as the catalog writes it."""
    item = {"id": SCENE, "assets": {str(n): {"href": href} for n, href in enumerate(hrefs)}}
    obstore.put(root.objects(), f"catalog/stac/sentinel2/{SCENE}/0123456789abcdef.json", json.dumps(item).encode())


def kill_writers(roots: list[StoreLocation], kills: int, longest: float = 0.5) -> int:
    """Kill a process that writes to all `roots`, `kills` times, and check after each what it has left.

    Args:
        roots: of stores, each with its own writer.
        kills: number of SIGKILLs.
        longest: seconds between the first results of all writers and the kill, at most.

    Returns:
        The number of versions that were current after a kill.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.stores.killed_writer"])
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    moments, seen = random.Random(17), set[str]()
    mentioned: list[dict[str, int]] = [{} for _ in roots]
    for number in range(kills):
        ready, inner = processes.Pipe(duplex=False)
        writer = processes.Process(target=write_all, args=(roots, 1000 * number, inner, keys))
        writer.start()
        inner.close()
        ready.recv()
        writer.join(moments.uniform(0.0, longest))
        assert writer.is_alive(), "it ends only by the kill"
        writer.kill()
        writer.join()
        for index, root in enumerate(roots):
            for url, value in check(root, mentioned[index]):
                seen.add(url)
                if number % 5 == 0:  # the catalog moves on
                    mentioned[index] = {url: value}
                    mention(root, *mentioned[index])
    return len(seen)


def check(root: StoreLocation, mentioned: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Whatever is published or mentioned is complete; yields the current version and its value."""
    options = None if root.is_local else {"endpoint_url": root.endpoint, "use_listings_cache": False}
    manifest = tile_place(root).manifest()
    if manifest is not None and "value" in manifest.metadata:
        current = tile_place(root).current_url(manifest), int(manifest.metadata["value"])
        for url, value in {**mentioned, current[0]: current[1]}.items():
            with xr.open_zarr(url, storage_options=options) as opened:
                assert (opened["tc_wetness"].values == value).all(), url
                assert (opened["tc_greenness"].values == 7).all(), url
        yield current
    product = product_place(root)
    if (published := product.manifest()) is not None:
        store = root.child("products", "sentinel2", SCENE).objects()
        for name, version in published.contents.items():
            assert int(bytes(obstore.get(store, f"{version}/{name}").bytes())) == published.metadata["value"]
        keys = {entry["path"] for batch in obstore.list(store, LATEST) for entry in batch}
        assert not keys or keys >= {f"{LATEST}/{name}" for name in FILES} or not root.is_local
        for key in keys:
            assert bytes(obstore.get(store, key).bytes())
