import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ChunkData, Cube, arcticdem_spec
from darts_assets.stores.location import StoreLocation


def surface(geobox: GeoBox) -> np.ndarray:
    """A smooth surface of the coordinates, float32 metres: the same pixel has the same value in every tile."""
    height, width = geobox.shape
    x = geobox.affine.c + (np.arange(width) + 0.5) * geobox.affine.a
    y = geobox.affine.f + (np.arange(height) + 0.5) * geobox.affine.e
    return (300 + 200 * np.sin(x / 3000)[np.newaxis, :] + 100 * np.cos(y / 1700)[:, np.newaxis]).astype("float32")


def write_raster(path: Path, values: np.ndarray, geobox: GeoBox, **profile: Any) -> Path:
    values = values[np.newaxis] if values.ndim == 2 else values
    options = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", **profile}
    descriptions = options.pop("descriptions", None)
    with rasterio.open(
        path, "w", width=values.shape[2], height=values.shape[1], count=values.shape[0], dtype=values.dtype,
        crs=str(geobox.crs), transform=geobox.affine, **options,
    ) as file:  # fmt: skip
        file.write(values)
        if descriptions:
            file.descriptions = descriptions
    return path


def tile_box(left: float, top: float, width: int, height: int, resolution: float = 10) -> GeoBox:
    return GeoBox((height, width), Affine(resolution, 0, left, 0, -resolution, top), "EPSG:3413")


@dataclass
class Mosaic:
    """A folder of ArcticDEM mosaic tiles with items in the layout of the Polar Geospatial Center."""

    folder: Path

    def add(
        self, name: str, geobox: GeoBox, dem: np.ndarray | None = None, *, gsd: float | None = None, **changes: Any
    ) -> dict[str, Any]:
        dem = surface(geobox) if dem is None else dem
        write_raster(self.folder / f"{name}_dem.tif", np.nan_to_num(dem, nan=-9999), geobox, nodata=-9999, predictor=3)
        mask = np.isfinite(dem).astype("uint8")
        write_raster(self.folder / f"{name}_datamask.tif", mask, geobox, nodata=None)
        box = geobox.boundingbox
        resolution = gsd or float(geobox.resolution.x)
        item: dict[str, Any] = {
            "type": "Feature", "stac_version": "1.1.0", "id": name,
            "collection": f"arcticdem-mosaics-v4.1-{resolution:g}m",
            "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
            "geometry": None, "links": [],
            "properties": {
                "datetime": "2010-01-01T00:00:00Z", "gsd": resolution, "proj:code": "EPSG:3413",
                "proj:shape": list(geobox.shape), "proj:transform": list(geobox.affine),
                "proj:bbox": [box.left, box.bottom, box.right, box.top], **changes,
            },
            "assets": {
                "dem": {"href": f"./{name}_dem.tif", "nodata": -9999.0, "data_type": "float32"},
                "datamask": {"href": f"./{name}_datamask.tif", "nodata": 0, "data_type": "uint8"},
            },
        }  # fmt: skip
        (self.folder / f"{name}.json").write_text(json.dumps(item))
        return item


@pytest.fixture
def mosaic(tmp_path: Path) -> Mosaic:
    folder = tmp_path / "mosaic"
    folder.mkdir()
    return Mosaic(folder)


@pytest.fixture
def make_surface() -> Callable[[GeoBox], np.ndarray]:
    return surface


@pytest.fixture
def raster_writer() -> Callable[..., Path]:
    return write_raster


@pytest.fixture
def make_tile_box() -> Callable[..., GeoBox]:
    return tile_box


@pytest.fixture
def cube(tmp_path: Path) -> Cube:
    return Cube(StoreLocation(str(tmp_path / "aux" / "arcticdem_10m.icechunk")), arcticdem_spec(10))


@pytest.fixture
def read_surface() -> Callable[[GeoBox], ChunkData]:
    """A source that has the surface everywhere."""

    def read(geobox: GeoBox) -> ChunkData:
        values = {"dem": surface(geobox), "arcticdem_data_mask": np.ones(geobox.shape, dtype="uint8")}
        return ChunkData(values, ("surface",), 1.0)

    return read
