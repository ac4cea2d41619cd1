"""A small Arctic to preprocess: a scene in UTM, elevations in EPSG:3413, trends in EPSG:4326, all lazy."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Transformer

from darts_assets.bands import TCVIS, VISIBLE_NIR

CHUNK = 256
TCVIS_RESOLUTION = 0.00026949458523585647


def utm_tile(height: int, width: int, longitude: float = -93.0, latitude: float = 70.0, zone: int = 16) -> GeoBox:
    """10 m grid whose top left corner lies there; at -93 degrees it is at 48 degrees to EPSG:3413."""
    crs = f"epsg:{32600 + zone}"
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(longitude, latitude)
    return GeoBox((height, width), Affine(10, 0, round(x, -1), 0, -10, round(y, -1)), crs)


def scene(grid: GeoBox, **attrs: object) -> xr.Dataset:
    height, width = grid.shape
    ramp = da.linspace(0, 0.4, width, chunks=CHUNK, dtype=np.float32) * da.ones((height, 1), chunks=CHUNK, dtype="f4")
    bands = {name: ramp + np.float32(step / 10) for step, name in enumerate(VISIBLE_NIR)}
    masks = {"quality_data_mask": da.full((height, width), 2, chunks=CHUNK, dtype=np.uint8)}
    return _dataset(bands | masks, grid, attrs)


def rolling(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hills of a few hundred metres' length and tens of metres' height."""
    return 300 + 30 * np.sin(x / 400) * np.cos(y / 330) + 5 * np.sin(x / 70) + 4 * np.cos(y / 60)


def elevations(
    grid: GeoBox, height_of: Callable[[np.ndarray, np.ndarray], np.ndarray] = rolling, buffer: int = 20
) -> xr.Dataset:
    """ArcticDEM-like window under `grid`; `height_of` takes EPSG:3413 coordinates."""
    box = GeoBox.from_bbox(grid.footprint("epsg:3413", npoints=50).boundingbox, resolution=10).pad(buffer)
    rows, columns = box.shape
    a = box.transform
    x = a.c + a.a * (da.arange(columns, chunks=CHUNK) + 0.5)
    y = a.f + a.e * (da.arange(rows, chunks=CHUNK) + 0.5)
    dem = da.map_blocks(height_of, *da.broadcast_arrays(x[None, :], y[:, None]), dtype=np.float64).astype(np.float32)
    return _dataset({"dem": dem, "arcticdem_data_mask": da.ones((rows, columns), chunks=CHUNK, dtype="u1")}, box, {})


def trends(grid: GeoBox) -> xr.Dataset:
    """TCVIS-like window under `grid`, as the cubes have it: dims y, x."""
    box = GeoBox.from_bbox(grid.footprint("epsg:4326", npoints=50).boundingbox, resolution=0.00026949458523585647).pad(
        5
    )
    rows, columns = box.shape
    values = (da.arange(rows, chunks=64)[:, None] + da.arange(columns, chunks=64)[None, :]) % 200 + 1
    return _dataset({name: (values + 10 * i).astype(np.uint8) for i, name in enumerate(TCVIS)}, box, {})


def _dataset(bands: dict[str, da.Array], grid: GeoBox, attrs: dict[str, object]) -> xr.Dataset:
    data = {name: (("y", "x"), values) for name, values in bands.items()}
    return xr.Dataset(data, coords=xr_coords(grid, dims=("y", "x")), attrs=attrs)


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    return SimpleNamespace(tile=utm_tile, scene=scene, elevations=elevations, trends=trends)


@pytest.fixture(scope="session")
def reference(shared: Path) -> Callable[[str], xr.Dataset]:
    """Opens a part of the peer's run, lazily."""

    def opened(name: str) -> xr.Dataset:
        store = zarr.storage.ZipStore(shared / "reference" / f"{name}.zarr.zip", mode="r")
        return xr.open_zarr(store, consolidated=False)

    return opened
