"""Whether two stores hold the same of a scene: every object, bit for bit, but for versions and times of writing."""

import io
import json
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import geopandas as gpd
import numpy as np
import obstore
from PIL import Image
from rasterio.io import MemoryFile

from darts_assets.stores.publish import Place
from tests.e2e.harness import Site


def assert_equal_stores(
    one: Site, other: Site, scene: str, places: int | None = None, *, attributes: bool = True
) -> None:
    """The raw scene, tiles, tables and products of a scene, or the first few of these places, are the same in both.

    `attributes`: those of tiles, too.
    """
    for parts in islice(_places(one, scene), places):
        here, there = (dict(_objects(site.place(*parts))) for site in (one, other))
        assert here.keys() == there.keys(), parts
        for name, content in here.items():
            if name.endswith("zarr.json"):
                documents = (_untimed(json.loads(each), attributes) for each in (content, there[name]))
                assert next(documents) == next(documents), f"{parts}: {name}"
            elif content != there[name]:
                assert parts[0] == "products", f"{parts}: {name}"
                _assert_equal_products(name, content, there[name])


def _places(site: Site, scene: str) -> Iterator[tuple[str, ...]]:
    family = site.family.name
    yield "raw", site.resource("scenes").scene(site.family, scene).source, scene
    yield from (("tiles", family, step, scene) for step in ("preprocessed_tile", "segmentation"))
    yield "vectors", family, "polygons", scene
    yield "products", family, scene


def _objects(place: Place) -> Iterator[tuple[str, bytes]]:
    """What the current versions of a place hold."""
    store, versions = place.location.objects(), set(place.require().contents.values())
    for key in place.location.keys():  # noqa: SIM118
        version, _, name = key.partition("/")
        if version in versions:
            yield name, bytes(obstore.get(store, f"{version}/{name}").bytes())


def _untimed(document: Any, attributes: bool) -> Any:
    """The metadata of a Zarr group or array without times of writing, and without attributes unless they count."""
    if not isinstance(document, dict):
        return document
    left_out = {"history", "date_created"} if attributes else {"attributes", "consolidated_metadata", "fill_value"}
    return {key: _untimed(value, attributes) for key, value in document.items() if key not in left_out}


def _assert_equal_products(name: str, one: bytes, other: bytes) -> None:
    """Files of products say when they were made; the rest of them is the same."""
    here, there = _decoded(name, one), _decoded(name, other)
    if isinstance(here, gpd.GeoDataFrame):
        assert here.equals(there), name
        assert here.crs == there.crs, name
    elif isinstance(here, tuple):
        np.testing.assert_array_equal(here[0], there[0], err_msg=name)
        assert here[1:] == there[1:], name
    else:
        assert here == there, name


def _decoded(name: str, content: bytes) -> Any:
    kind = name.rpartition(".")[2]
    if kind == "tif":
        with MemoryFile(content) as memory, memory.open() as raster:
            return raster.read(), raster.crs, raster.transform, raster.nodata, raster.dtypes
    if kind == "jpg":
        return np.asarray(Image.open(io.BytesIO(content))), None
    if kind == "json":
        return {key: value for key, value in json.loads(content).items() if key != "export_date"}
    if kind == "parquet":
        return gpd.read_parquet(io.BytesIO(content))
    with tempfile.NamedTemporaryFile(suffix=f".{kind}") as file:
        file.write(content)
        file.flush()
        return gpd.read_file(file.name)
