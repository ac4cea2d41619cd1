import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import on_grid
from darts_assets.training.set_store import TrainingSetStore

GRID = GeoBox((100, 130), Affine(10, 0, 500_000, 0, -10, 7_600_000), "EPSG:32608")


def make_tile(grid: GeoBox = GRID, seed: int = 0) -> xr.Dataset:
    """Every feature, random within its range; nothing is unknown and all of high quality."""
    rng = np.random.default_rng(seed)
    bands = {
        name: rng.integers(0, 255, grid.shape).astype(np.uint8) if name.startswith("tc_")
        else rng.uniform(0.01, 0.4, grid.shape).astype(np.float32)
        for name in FEATURES
    }  # fmt: skip
    bands["quality_data_mask"] = np.full(grid.shape, 2, dtype=np.uint8)
    attrs = {"terrain": "darts-2026", "tpi_outer_radius": 100.0, "tpi_inner_radius": 0.0}
    return on_grid(bands, grid, attrs)


def pixels(rows: slice, cols: slice, grid: GeoBox = GRID) -> shapely.Polygon:
    """The rectangle of some pixels."""
    left, top = grid.affine @ (cols.start, rows.start)
    right, bottom = grid.affine @ (cols.stop, rows.stop)
    return shapely.box(left, bottom, right, top)


def outlines(*shapes: shapely.Polygon, label: int = 1) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"label": [label] * len(shapes)}, geometry=list(shapes), crs="EPSG:32608")


@pytest.fixture
def tile() -> xr.Dataset:
    return make_tile()


@pytest.fixture
def store(tmp_path) -> TrainingSetStore:
    return TrainingSetStore(StoreLocation(str(tmp_path / "training" / "demo")))
