"""The share of real slumps that a minimum mapping unit lets a sensor see.

Outlines that people have drawn are drawn on the grid of a sensor as a perfect model would detect them: pixels whose
centre is inside, 8-connected, in their largest part. An outline is visible if these are at least as many as the
smallest object.

Usage: python -m tests.benchmarks.mapping_unit [FOLDER]   (default: DARTS_ASSETS_TEST_DATA)
"""

import os
import sys
from pathlib import Path

import cc3d
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio.features
from affine import Affine

from darts_assets.geo.geodesic import geodesic_areas

PIXELS = {"sentinel2": 10.0, "planet": 3.0}
"""Family -> metres."""

SETTINGS: list[tuple[str, float]] = [
    ("min_object_size", 32), ("min_object_area_m2", 300), ("min_object_area_m2", 500), ("min_object_area_m2", 900),
    ("min_object_area_m2", 1000), ("min_object_area_m2", 2000), ("min_object_area_m2", 3200),
]  # fmt: skip


def outlines(folder: Path) -> dict[str, gpd.GeoDataFrame]:
    """Outlines of slumps by source, in an equal-area projection."""
    data = folder / "data"
    arts = gpd.read_file(data / "arts_curated" / "ARTS_main_dataset_v.5.0.0.geojson")
    labels = sorted((data / "ml_training_labels").rglob("TrainingLabel*.gpkg"))
    runge = sorted((data / "arts_curated" / "Runge2022").rglob("*.shp"))
    tables = {
        "ARTS": [arts[arts["TrainClass"] == "Positive"]],
        "labels of DARTS": [gpd.read_file(path) for path in labels],
        "Runge et al. 2022": [gpd.read_file(path) for path in runge],
    }
    found = {}
    for name, parts in tables.items():
        geometry = np.concatenate([part.geometry.to_crs("EPSG:6931").to_numpy() for part in parts])
        table = gpd.GeoDataFrame(geometry=geometry, crs="EPSG:6931")
        found[name] = table[~(table.geometry.isna() | table.is_empty)].explode(ignore_index=True)
    return found


def drawn_sizes(table: gpd.GeoDataFrame, pixel: float) -> npt.NDArray[np.int64]:
    """Pixels of the largest part of each outline on a grid: int64 (n,)."""
    sizes = np.zeros(len(table), dtype=np.int64)
    for row, outline in enumerate(table.geometry):
        west, south, east, north = outline.bounds
        left, top = np.floor(west / pixel) * pixel, np.ceil(north / pixel) * pixel
        shape = (int((top - south) / pixel) + 1, int((east - left) / pixel) + 1)
        drawn = rasterio.features.rasterize([outline], shape, transform=Affine(pixel, 0, left, 0, -pixel, top))
        if drawn.any():
            sizes[row] = np.bincount(cc3d.connected_components(drawn[None], connectivity=26)[0][drawn > 0]).max()
    return sizes


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DARTS_ASSETS_TEST_DATA", "../shared"))
    found = outlines(folder)
    areas = {name: geodesic_areas(table) for name, table in found.items()}
    for name, each in areas.items():
        quantiles = ", ".join(f"{part} %: {np.percentile(each, part):,.0f}" for part in (1, 5, 10, 25, 50, 75, 99))
        print(f"{name}: {len(each)} outlines, m2 at {quantiles}")
    print("\n| setting | sensor | " + " | ".join(found) + " |")
    drawn = {(family, name): drawn_sizes(found[name], PIXELS[family]) for family in PIXELS for name in found}
    for setting, value in SETTINGS:
        for family, pixel in PIXELS.items():
            least = int(value) if setting == "min_object_size" else int(np.ceil(value / pixel**2))
            seen = [f"{100 * np.mean(drawn[family, name] >= max(least, 1)):.1f} %" for name in found]
            print(
                f"| `{setting}` {value:g} | {family}: {least} px, {least * pixel**2:,.0f} m2 | "
                + " | ".join(seen)
                + " |"
            )
    pooled = np.concatenate(list(areas.values()))
    print(
        "\nall:",
        {limit: round(float(np.mean(pooled < limit)), 4) for limit in (100, 200, 300, 500, 900, 1000, 2000, 3200)},
    )


if __name__ == "__main__":
    main()
