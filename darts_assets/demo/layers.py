"""Static layers of the demo world in the formats of their providers: elevation tiles and vegetation trends."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from darts_assets.bands import TCVIS
from darts_assets.cubes.tcvis import CRS, RESOLUTION
from darts_assets.demo.noise import Field, fractal, pixel_centres
from darts_assets.demo.thaw_slumps import Disturbed

DEM_NODATA = -9999.0
_SUPERTILE = 100_000
"""Side of a PGC supertile in metres; the lower left corner of tile 41_41 is the pole."""
_TILE_OVERLAP = 100
_HOLE_RADIUS = 120.0
# No change is 128. Trends of a full-grown slump and of a burn, in units of the stored bytes.
_SLUMP_TREND = {"tc_brightness": 70.0, "tc_greenness": -55.0, "tc_wetness": -50.0}
_BURN_TREND = {"tc_brightness": 30.0, "tc_greenness": -38.0, "tc_wetness": -34.0}


@dataclass(frozen=True, slots=True, eq=False)
class DemTile:
    """One tile of the elevation mosaic.

    Attributes:
        supertile: `row_column` in the provider's grid.
        geobox: 10 m grid in EPSG:3413, the supertile with its overlap, cropped to the world.
        dem: metres, float32, -9999 where nothing is known.
        datamask: 1 where the elevation is known, uint8.
    """

    supertile: str
    geobox: GeoBox
    dem: Field
    datamask: npt.NDArray[np.uint8]


def dem_tiles(elevation: Field, geobox: GeoBox, hole: tuple[float, float]) -> Iterator[DemTile]:
    """Cut the terrain into supertiles that overlap by 100 m, with a data gap at `hole`."""
    x, y = pixel_centres(geobox)
    unknown = np.hypot(x[None, :] - hole[0], y[:, None] - hole[1]) < _HOLE_RADIUS
    # Centimetres, as the cubes keep them; a shorter mantissa also compresses better.
    dem = np.where(unknown, np.float32(DEM_NODATA), np.round(elevation, 2)).astype(np.float32)
    box = geobox.boundingbox
    for row in range(math.floor(box.bottom / _SUPERTILE), math.ceil(box.top / _SUPERTILE)):
        for column in range(math.floor(box.left / _SUPERTILE), math.ceil(box.right / _SUPERTILE)):
            rows = _within(y, row * _SUPERTILE, (row + 1) * _SUPERTILE)
            columns = _within(x, column * _SUPERTILE, (column + 1) * _SUPERTILE)
            yield DemTile(
                supertile=f"{row + 41}_{column + 41}",
                geobox=geobox[rows, columns],
                dem=dem[rows, columns],
                datamask=(~unknown[rows, columns]).astype(np.uint8),
            )


def trends(ground: Disturbed, grid: GeoBox, vintage: int, seed: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Tasselled cap trends up to a vintage.

    Args:
        ground: what changed.
        grid: where, see `tcvis_grid`.
        vintage: last year of the trend; slumps grow and noise changes a little from one to the next.
        seed: of the world.

    Returns:
        `tc_*` -> uint8 on the grid, 0 where there is nothing.
    """
    land = ground.landscape
    grown = 0.8 + 0.04 * (vintage - 2019)
    values = {}
    for number, name in enumerate(TCVIS):
        key = seed * 1000 + 60 + number
        change = 4 * fractal(land.geobox, {1500: 1.0, 400: 0.8}, key)
        change += 3 * fractal(land.geobox, {40: 0.8, 25: 0.8}, key * 10 + vintage)
        change += _SLUMP_TREND[name] * grown * ground.trend * (1 - land.water)
        change = change + _BURN_TREND[name] * ground.burn * (1 - ground.trend)
        # Landsat's pixels are 30 m.
        landsat = cv2.GaussianBlur(change, (0, 0), 1.2)
        bytes_ = np.full(grid.shape, -128, dtype=np.float32)
        reproject(
            landsat, bytes_, src_transform=land.geobox.affine, src_crs=str(land.geobox.crs),
            dst_transform=grid.affine, dst_crs=str(grid.crs), dst_nodata=-128, resampling=Resampling.bilinear,
        )  # fmt: skip
        missing = bytes_ == -128
        values[name] = np.where(missing, 0, np.clip(np.rint(bytes_ + 128), 1, 255)).astype(np.uint8)
    return values


def no_trends(grid: GeoBox) -> dict[str, npt.NDArray[np.uint8]]:
    """Trends without data: `tc_*` -> 0."""
    return {name: np.zeros(grid.shape, dtype=np.uint8) for name in TCVIS}


def tcvis_grid(area: GeoBox) -> GeoBox:
    """The grid in EPSG:4326, on the lattice of the provider, that covers 10 m pixels and 300 m around them."""
    box = area.pad(30).extent.to_crs(CRS, resolution=1000).boundingbox
    left, right = (math.floor((edge + 180) / RESOLUTION) for edge in (box.left, box.right))
    top, bottom = (math.floor((90 - edge) / RESOLUTION) for edge in (box.top, box.bottom))
    corner = Affine(RESOLUTION, 0, left * RESOLUTION - 180, 0, -RESOLUTION, 90 - top * RESOLUTION)
    return GeoBox((bottom - top + 1, right - left + 1), corner, CRS)


def _within(centres: npt.NDArray[np.float64], low: float, high: float) -> slice:
    """Indices of the pixels between two coordinates, plus the overlap of tiles."""
    inside = np.flatnonzero((centres > low - _TILE_OVERLAP) & (centres < high + _TILE_OVERLAP))
    return slice(int(inside[0]), int(inside[-1]) + 1)
