"""Coverage: on how many days of each year a place was seen clear, and the footprints of the images."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import rasterio.features
import rasterio.shutil
import shapely
from affine import Affine
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.antimeridian import lonlat_polygons
from darts_assets.geo.equal_area import EQUAL_AREA, to_equal_area
from darts_assets.geo.geodesic import geodesic_area

logger = logging.getLogger(__name__)

BLOCK = 512
"""Cells per side of a block, which is in memory only if a scene sees a part of it."""

CLASSES = ((1, 1), (2, 2), (3, 5), (6, 10), (11, None))
"""First and last number of days of the classes of the polygons."""

_MOST = np.iinfo(np.uint16).max
_STEP = 1000.0  # metres between the points of an edge, which is straight in the projection
_EVERY = 100  # scenes per line of progress

Block = tuple[int, int]
Days = npt.NDArray[np.uint16]


class SceneAreas(Protocol):
    """Reads the areas of scenes on demand, in a projected CRS in metres."""

    def valid(self, scene_id: str) -> gpd.GeoDataFrame:
        """The valid area, as polygons."""

    def observed(self, scene_id: str) -> gpd.GeoDataFrame:
        """The observed area: the clear part of the valid area."""


@dataclass
class ClearDays:
    """Days on which cells of a grid in EPSG:6931 were seen clear, in sparse blocks.

    Attributes:
        cell: side of a cell, metres; corners of cells are multiples of it.
        blocks: row and column of a block -> days of its cells, uint16 (BLOCK, BLOCK), from the north-west.
    """

    cell: float
    blocks: dict[Block, Days]

    def add_day(self, observed: Sequence[BaseGeometry]) -> None:
        """Count one day on which the areas (in EPSG:6931) were seen; overlapping ones count once."""
        seen: dict[Block, list[BaseGeometry]] = {}
        side = self.cell * BLOCK
        for area in shapely.get_parts(np.asarray(observed, dtype=object)):
            if area.is_empty:
                continue
            west, south, east, north = shapely.bounds(area)
            for row in range(math.floor(-north / side), math.floor(-south / side) + 1):
                for column in range(math.floor(west / side), math.floor(east / side) + 1):
                    seen.setdefault((row, column), []).append(area)
        for block, areas in seen.items():
            mask = rasterio.features.rasterize(
                areas, (BLOCK, BLOCK), transform=self.transform(block), dtype="uint8"
            )  # fmt: skip
            if mask.any():
                days = self.blocks.setdefault(block, np.zeros((BLOCK, BLOCK), np.uint16))
                np.add(days, mask, out=days, where=days < _MOST)

    def transform(self, block: Block) -> Affine:
        """Affine transform of a block."""
        side = self.cell * BLOCK
        return Affine(self.cell, 0, block[1] * side, 0, -self.cell, -block[0] * side)


@dataclass(frozen=True)
class YearCoverage:
    """Coverage of a year.

    Attributes:
        images: footprints of the scenes, columns `IMAGE_DESCRIPTIONS` and the valid area in EPSG:4326, by time.
        days: days per cell.
    """

    images: gpd.GeoDataFrame
    days: ClearDays


IMAGE_DESCRIPTIONS = {
    "image_id": "id of the image",
    "family": "sentinel2 or planet",
    "datetime": "sensing time, UTC",
    "year": "year of the sensing time",
    "valid_km2": "valid area of the image, km2",
    "clear_km2": "part of it without cloud, shadow or snow, km2",
    "data_version": "data version of the polygons made from the image",
}
CLASS_DESCRIPTIONS = {
    "year": "calendar year",
    "days_from": "least number of days (UTC) of the year on which the place was seen clear",
    "days_to": "largest number of days; 0 without an upper limit",
    "area_km2": "geodesic area, km2",
}
UNION_DESCRIPTIONS = {
    "years_seen": "number of years with at least one day on which the place was seen clear",
    "area_km2": "geodesic area, km2",
}


def year_coverage(scenes: pd.DataFrame, areas: SceneAreas, cell: float) -> YearCoverage:
    """Coverage of a year by its scenes.

    Args:
        scenes: `scene_id`, `family`, `datetime` (UTC) and `data_version`.
        areas: their valid and observed areas. A cell is seen if its centre is observed.
        cell: side of the cells, metres.
    """
    ordered = scenes.sort_values(["datetime", "scene_id"], ignore_index=True)
    days, seen = ClearDays(cell, {}), list[BaseGeometry]()
    valid, clear = np.empty((2, len(ordered)), dtype=object)
    dates = ordered["datetime"].dt.date
    for index, scene_id in enumerate(ordered["scene_id"]):
        if index and dates[index] != dates[index - 1]:
            days.add_day(seen)
            seen = []
        valid[index] = shapely.union_all(to_equal_area(areas.valid(scene_id)))
        clear[index] = shapely.union_all(to_equal_area(areas.observed(scene_id)))
        seen.append(clear[index])
        if (index + 1) % _EVERY == 0:
            logger.info("coverage: %d of %d scenes", index + 1, len(ordered))
    days.add_day(seen)
    table = pd.DataFrame(
        {
            "image_id": ordered["scene_id"],
            "family": ordered["family"],
            "datetime": ordered["datetime"],
            "year": ordered["datetime"].dt.year.astype("int64"),
            "valid_km2": shapely.area(valid) / 1e6,
            "clear_km2": shapely.area(clear) / 1e6,
            "data_version": ordered["data_version"],
        }
    )
    return YearCoverage(gpd.GeoDataFrame(table, geometry=_lonlat(valid), crs="EPSG:4326"), days)


def write_days(path: Path, days: Mapping[int, ClearDays]) -> None:
    """Write a COG in EPSG:6931 with a band of days (uint16; 0: not seen) for each year, in windows.

    Args:
        path: the file.
        days: at least one year with a block; all have the same cells.
    """
    blocks = {block for each in days.values() for block in each.blocks}
    rows, columns = ([block[axis] for block in blocks] for axis in (0, 1))
    first = min(rows), min(columns)
    grid = next(iter(days.values()))
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": "uint16", "count": len(days), "crs": EQUAL_AREA, "transform": grid.transform(first),
        "height": (max(rows) - first[0] + 1) * BLOCK, "width": (max(columns) - first[1] + 1) * BLOCK,
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "sparse_ok": True, "compress": "deflate",
        "interleave": "band", "bigtiff": "if_safer",
    }  # fmt: skip
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(plain, "w", **profile) as raster:
        raster.update_tags(AREA_OR_POINT="Area", cell=f"{grid.cell:g} m")
        for band, (year, counts) in enumerate(sorted(days.items()), start=1):
            raster.set_band_description(band, f"days_{year}")
            for (row, column), values in sorted(counts.blocks.items()):
                window = Window((column - first[1]) * BLOCK, (row - first[0]) * BLOCK, BLOCK, BLOCK)
                raster.write(values, band, window=window)
    rasterio.shutil.copy(
        plain,
        path,
        driver="COG",
        compress="deflate",
        blocksize=BLOCK,
        sparse_ok=True,
        bigtiff="if_safer",
        overview_resampling=Resampling.nearest.name,
    )
    plain.unlink()


def read_days(path: Path) -> dict[int, ClearDays]:
    """The content of a file of `write_days`, in its blocks; those without a day are left out."""
    with rasterio.open(path) as raster:
        cell = raster.transform.a
        first = round(-raster.transform.f / cell / BLOCK), round(raster.transform.c / cell / BLOCK)
        days = {}
        for band, name in enumerate(raster.descriptions, start=1):
            counts = ClearDays(cell, {})
            for row in range(raster.height // BLOCK):
                for column in range(raster.width // BLOCK):
                    values = raster.read(band, window=Window(column * BLOCK, row * BLOCK, BLOCK, BLOCK))
                    if values.any():
                        counts.blocks[row + first[0], column + first[1]] = values
            days[int(name.removeprefix("days_"))] = counts
    return days


def day_classes(days: Mapping[int, ClearDays]) -> gpd.GeoDataFrame:
    """Places by year and class of days (`CLASSES`): columns `CLASS_DESCRIPTIONS` and polygons in EPSG:4326."""
    rows, shapes = [], []
    for year, counts in sorted(days.items()):
        for low, high in CLASSES:
            area = _area_of(counts, low, high)
            if not area.is_empty:
                rows.append({"year": year, "days_from": low, "days_to": high or 0})
                shapes.append(area)
    return _polygon_table(rows, shapes, ["year", "days_from", "days_to"])


def seen_years(days: Mapping[int, ClearDays]) -> gpd.GeoDataFrame:
    """Places by the number of years in which they were seen: `UNION_DESCRIPTIONS` and polygons in EPSG:4326."""
    years = ClearDays(next((counts.cell for counts in days.values()), 1.0), {})
    for counts in days.values():
        for block, values in counts.blocks.items():
            sums = years.blocks.setdefault(block, np.zeros((BLOCK, BLOCK), np.uint16))
            sums += values > 0
    rows, shapes = [], []
    for number in range(1, len(days) + 1):
        area = _area_of(years, number, number)
        if not area.is_empty:
            rows.append({"years_seen": number})
            shapes.append(area)
    return _polygon_table(rows, shapes, ["years_seen"])


def _area_of(counts: ClearDays, low: int, high: int | None) -> BaseGeometry:
    """The cells with `low` to `high` days, as polygons in EPSG:6931."""
    return shapely.union_all(list(_cells(counts, low, high)))


def _cells(counts: ClearDays, low: int, high: int | None) -> Iterator[BaseGeometry]:
    for block, values in sorted(counts.blocks.items()):
        chosen = (values >= low) & (values <= (high or _MOST))
        for geometry, _ in rasterio.features.shapes(
            chosen.astype("uint8"), mask=chosen, transform=counts.transform(block)
        ):
            yield shapely.geometry.shape(geometry)


def _polygon_table(rows: list[dict[str, int]], shapes: list[BaseGeometry], columns: list[str]) -> gpd.GeoDataFrame:
    table = pd.DataFrame(rows, columns=columns).astype("int64")
    array = np.array(shapes, dtype=object)
    table["area_km2"] = geodesic_area(array, EQUAL_AREA) / 1e6
    return gpd.GeoDataFrame(table, geometry=_lonlat(shapes), crs="EPSG:4326")


def _lonlat(shapes: Sequence[BaseGeometry] | npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    array = shapely.segmentize(np.array(shapes, dtype=object), _STEP)
    return lonlat_polygons(array, CRS(EQUAL_AREA))
