"""Stores with the products of small scenes, exported and published as `products` does it."""

import datetime as dt
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.catalog.catalog_store import Tree, read_products
from darts_assets.detection import PostprocessParameters
from darts_assets.detection.export import describe, export
from darts_assets.detection.postprocess import postprocess
from darts_assets.detection.vectorize import extent_polygons, segments
from darts_assets.geo.product_tables import Origin, product_tables
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import ZARR, Place
from darts_assets.tiles import on_grid

SIDE = 96
PRODUCTS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail", "metadata")
MODELS = {"demo": "ab" * 32}


class Spot(NamedTuple):
    """Where a scene is: upper left corner in metres of a UTM zone."""

    epsg: int = 32608
    left: float = 450_000
    top: float = 7_720_000
    tile: str | None = "08WMB"


PEEL = Spot()
MACKENZIE = Spot(left=480_000)
YAMAL = Spot(32642, 450_000, 7_800_000, "42WWC")
ANTIMERIDIAN = Spot(32660, 617_000, 7_703_000, None)


def publish(
    root: StoreLocation,
    scene: str,
    spot: Spot = PEEL,
    *,
    seed: int = 0,
    objects: int = 6,
    when: str = "2023-07-15T20:09:01+00:00",
    threshold: float = 0.5,
    products: tuple[str, ...] = PRODUCTS,
    family: str = "sentinel2",
    facts: Mapping[str, Any] | None = None,
    standalone: bool = True,
    has_tiles: bool = False,
    raw: str = "",
    source: Mapping[str, Any] | None = None,
) -> int:
    """Publish the products of a scene of 96 x 96 pixels with up to `objects` slumps; returns how many there are.

    `standalone=False` writes tables as earlier versions did. `raw` is the key of the raw scene's version, `source` the
    registered item.
    """
    if source is not None:
        registered = root.path / "scenes" / family / f"{scene}.json"
        registered.parent.mkdir(parents=True, exist_ok=True)
        registered.write_text(json.dumps(source))
    grid = GeoBox((SIDE, SIDE), Affine(10, 0, spot.left, 0, -10, spot.top), f"EPSG:{spot.epsg}")
    rng = np.random.default_rng([seed, spot.epsg, int(spot.left)])
    values = np.full(grid.shape, 0.1, "float32")
    for row, column in rng.integers(16, SIDE - 24, (objects, 2)):
        values[row : row + 6, column : column + 6] = 0.9
    quality = np.full(grid.shape, 2, "uint8")
    colours = {name: np.full(grid.shape, 0.1, "float32") for name in ("red", "green", "blue")}
    features = on_grid({**colours, "quality_data_mask": quality}, grid)
    probabilities = on_grid({"probabilities": values}, grid)
    small = PostprocessParameters(mask_erosion_size=2, min_object_size=4, threshold=threshold)
    detections = postprocess(probabilities, on_grid({"q": quality}, grid)["q"], small)
    vectors = {"segments": segments(detections), "extent": extent_polygons(detections)}
    if standalone:
        origin = Origin(scene, dt.datetime.fromisoformat(when), list(MODELS), "0.1.0+1")
        vectors = product_tables(vectors, origin)
    version = f"{scene}-{seed}-{objects}-{threshold}"
    step = {"code_version": "0.1.0+1", "data_version": version, "parameters": {}}
    metadata = {
        "tile_id": scene, "scene_id": scene, "source": "cdse", "datetime": when, "crs": f"EPSG:{spot.epsg}",
        **({"tile": spot.tile} if spot.tile else {}), "terrain": "darts-2025", "threshold": threshold,
        "min_object_size": 4, "models": MODELS, "export_date": "2026-01-02T03:04:05+00:00", "code_version": "0.1.0+2",
        "data_version": f"products-{version}", "model_hash": "demo=abababab", "config_hash": "cafe",
        "item_hash": "beef", "steps": {"preprocessed_tile": step, "segmentation": step, "polygons": step},
    }  # fmt: skip
    key = f"tiles/{family}/segmentation/{scene}/20240101T000000Z-abcdef01.zarr"
    tiles: dict[str, Any] = {"segmentation": {"key": key, "bands": ["probabilities"]}} if has_tiles else {}
    tiles |= {"raw_scene": {"key": raw, "bands": ["red"]}} if raw else {}
    place = Place(root.child("products", family, scene))
    with place.new_version() as fresh:
        folder = fresh.location.path
        folder.mkdir(parents=True)
        export(folder, products, probabilities=probabilities, features=features, vectors=vectors, metadata=metadata)
        described = (
            {"metadata": metadata, "item": None, "tiles": tiles, **describe(folder, grid, vectors)}
            if facts is None
            else dict(facts)
        )
        names = sorted(path.name for path in folder.iterdir())
        place.publish(fresh, dict.fromkeys(names, fresh.id), {"provenance": {}, **described})
    return len(vectors["segments"])


def publish_raw(root: StoreLocation, scene: str, *bands: str) -> str:
    """Publish a raw scene, without pixels; returns the key of its version."""
    place = Place(root.child("raw", "cdse", scene))
    with place.new_version(ZARR) as fresh:
        place.publish(fresh, dict.fromkeys(bands, fresh.id), {})
    return f"raw/cdse/{scene}/{fresh.id}"


def clone(root: StoreLocation, scene: str, name: str, **changes: Any) -> None:
    """Publish the products of a scene as those of another one, with `changes` of its metadata."""
    source = root.path / "products" / "sentinel2" / scene
    pointer = json.loads((source / "current.json").read_text())
    place = Place(root.child("products", "sentinel2", name))
    with place.new_version() as fresh:
        shutil.copytree(source / next(iter(pointer["contents"].values())), fresh.location.path)
        facts = pointer["metadata"]
        steps = {step: {**old, "data_version": f"{name}-{changes}"} for step, old in facts["metadata"]["steps"].items()}
        facts["metadata"] |= {"scene_id": name, "tile_id": name, "steps": steps, **changes}
        place.publish(fresh, dict.fromkeys(pointer["contents"], fresh.id), facts)


@pytest.fixture
def root(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store"))


@pytest.fixture
def put(root: StoreLocation) -> Callable[..., int]:
    """Publishes a scene in `root`."""
    return lambda scene, *spot, **more: publish(root, scene, *spot, **more)


def products_of(root: StoreLocation, scene: str, family: str = "sentinel2") -> Any:
    products = read_products(Tree(root), family, scene)
    assert products is not None
    return products


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Files below a folder -> what changes when they are written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
