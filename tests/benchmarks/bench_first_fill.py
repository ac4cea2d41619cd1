"""The first fill of 10 x 10 km at 2 m from two overlapping mosaic tiles behind HTTP: time and memory.

Run: `pytest -n 0 -s tests/benchmarks/bench_first_fill.py`. Memory is that of a process which does nothing else.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy

from darts_assets.cubes import arcticdem_spec
from tests.servers.network.file_server import serve_folder

WINDOW = 5000
TILE = 6600
OVERLAP = 100  # pixels that neighbouring tiles of the mosaic share
CORNER = (2_000_300, 1_500_700)  # metres left and up of a window that meets both tiles and no lattice of chunks

READ = """
import resource, sys, time
import rasterio
started = time.perf_counter()
with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
    for href in sys.argv[1:]:
        url, left, top, width, height = href.rsplit(",", 4)
        with rasterio.open(url) as file:
            file.read(window=rasterio.windows.Window(int(left), int(top), int(width), int(height)))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""

FILL = """
import json, resource, sys, time
from affine import Affine
from odc.geo.geobox import GeoBox
from darts_assets.cubes import ArcticDemTiles, Cube, arcticdem_spec, ensure
from darts_assets.stores.location import StoreLocation
folder, items, transform, side = sys.argv[1:]
started = time.perf_counter()
cube = Cube(StoreLocation(folder), arcticdem_spec(2))
box = GeoBox((int(side), int(side)), Affine(*json.loads(transform)), "EPSG:3413")
filled = ensure(cube, cube.spec.grid.chunks_for(box), ArcticDemTiles(items).read_chunk, message="benchmark")
seconds = time.perf_counter() - started
assert all(chunk.fill_fraction > 0 for chunk in filled)
cube.window(box)
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, len(filled))
"""


def write_tile(folder: Path, name: str, box: GeoBox, write_raster: Callable[..., Path]) -> dict[str, Any]:
    """A mosaic tile as its provider has it: COGs with blocks of 512, and its item."""
    rng = np.random.default_rng(len(name))
    knots = rng.standard_normal((box.shape[0] // 64 + 1, box.shape[1] // 64 + 1)).astype("float32")
    dem = 500 + 40 * cv2.resize(knots, tuple(box.shape)[::-1], interpolation=cv2.INTER_CUBIC)
    dem += 0.05 * rng.standard_normal(dem.shape, dtype="float32")
    for kind, values, nodata, predictor in (("dem", dem, -9999, 3), ("datamask", np.ones(dem.shape, "u1"), None, 2)):
        plain = write_raster(folder / "plain.tif", values, box, nodata=nodata, compress="none")
        options = {"compress": "lzw", "predictor": predictor, "blocksize": 512, "overviews": "none"}
        copy(plain, folder / f"{name}_{kind}.tif", driver="COG", **options)
        plain.unlink()
    edges = box.boundingbox
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": None, "links": [],
        "properties": {
            "datetime": "2010-01-01T00:00:00Z", "gsd": 2.0, "proj:code": "EPSG:3413",
            "proj:bbox": [edges.left, edges.bottom, edges.right, edges.top],
        },
        "assets": {kind: {"href": f"{name}_{kind}.tif"} for kind in ("dem", "datamask")},
    }  # fmt: skip


def measured(code: str, *arguments: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def test_first_fill(tmp_path: Path, write_raster: Callable[..., Path], machine: str) -> None:
    tiles, left, top = tmp_path / "tiles", *CORNER
    tiles.mkdir()
    window = GeoBox((WINDOW, WINDOW), Affine(2, 0, left, 0, -2, top), "EPSG:3413")
    half = TILE // 2 * 2
    west = GeoBox((TILE, half), Affine(2, 0, left + WINDOW - 2 * half, 0, -2, top + 1600), "EPSG:3413")
    east = GeoBox((TILE, half), Affine(2, 0, left + WINDOW - 2 * OVERLAP, 0, -2, top + 1600), "EPSG:3413")
    items = {name: write_tile(tiles, name, box, write_raster) for name, box in (("a", west), ("bb", east))}
    chunks = arcticdem_spec(2).grid.chunks_for(window)
    with serve_folder(tiles) as url:
        for item in items.values():
            for asset in item["assets"].values():
                asset["href"] = f"{url}/{asset['href']}"
        (tiles / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": list(items.values())}))
        reads = []
        for name, box in (("a", west), ("bb", east)):
            col, row = (round(n) for n in ~box.affine @ (left, top))
            first, last = max(col, 0), min(col + WINDOW, box.shape[1])
            reads += [f"{url}/{name}_{kind}.tif,{first},{row},{last - first},{WINDOW}" for kind in ("dem", "datamask")]
        once, once_memory = measured(READ, *reads)
        transform = json.dumps(list(window.affine)[:6])
        seconds, memory, filled = measured(
            FILL, str(tmp_path / "cube"), str(tiles / "items.json"), transform, str(WINDOW)
        )
    area = len(chunks) * 1024**2 / WINDOW**2
    print(
        f"\n{machine}; {WINDOW} x {WINDOW} at 2 m from two tiles by HTTP; {len(chunks)} chunks, {area:.2f} of the area"
    )
    print(f"reading the window's pixels once, one thread   {once:6.2f} s  {once_memory:.2f} GiB")
    print(
        f"filling the cube                               {seconds:6.2f} s  {memory:.2f} GiB  ratio {seconds / once:.2f}"
    )
    assert filled == len(chunks)
    assert memory < 2
