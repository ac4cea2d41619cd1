"""What products say of themselves, for who publishes them without opening them."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import shape

from darts_assets.detection.product_description import describe, footprint
from darts_assets.geo.antimeridian import lonlat_area

GRID = GeoBox((1098, 1098), Affine(100, 0, 399_960, 0, -100, 7_700_040), "EPSG:32608")  # as large as a Sentinel-2 tile
NOTHING = gpd.GeoDataFrame({"npixel": []}, geometry=[], crs="EPSG:32608")


def extent_of(*areas: shapely.Geometry) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=list(areas), crs="EPSG:32608")


def test_the_footprint_is_the_hull_of_what_was_seen_with_the_arcs_of_its_edges() -> None:
    inside = GRID.extent.geom.buffer(-10_000, join_style="mitre")
    cloud = inside.centroid.buffer(20_000)
    found = shape(footprint(extent_of(inside - cloud), GRID))
    exact = lonlat_area(inside, GRID.crs.proj)
    assert found.symmetric_difference(exact).area < 1e-4 * exact.area
    assert len(found.exterior.coords) > 60, "straight edges of the projection are arcs in longitudes and latitudes"
    assert found.exterior.is_ccw
    two = shape(
        footprint(extent_of(shapely.box(4e5, 7.6e6, 4.1e5, 7.61e6), shapely.box(4.5e5, 7.65e6, 4.6e5, 7.66e6)), GRID)
    )
    assert two.geom_type == "Polygon"


def test_the_footprint_of_a_clouded_scene_is_its_grid() -> None:
    found = shape(footprint(NOTHING, GRID))
    assert found.symmetric_difference(lonlat_area(GRID.extent.geom, GRID.crs.proj)).area < 1e-4


def test_a_footprint_over_the_antimeridian_is_cut() -> None:
    grid = GeoBox((1098, 1098), Affine(100, 0, 560_000, 0, -100, 7_700_040), "EPSG:32660")
    found = shape(footprint(NOTHING, grid))
    assert found.geom_type == "MultiPolygon"
    assert {round(bound) for part in found.geoms for bound in part.bounds[::2]} >= {180, -180}


def test_files_are_described_as_they_are(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "slope.tif",
        "w",
        driver="GTiff",
        width=8,
        height=8,
        count=2,
        dtype="int16",
        nodata=-1,
        crs="EPSG:32608",
        transform=GRID.affine,
    ) as raster:
        raster.write(np.zeros((2, 8, 8), "int16"))
        raster.descriptions, raster.scales, raster.offsets = ("slope", "aspect"), (0.01, 0.1), (0.0, 5.0)
        raster.units = ("degree", "")
    table = extent_of(shapely.box(4e5, 7.6e6, 4.1e5, 7.61e6))
    table.to_parquet(tmp_path / "prediction_extent.parquet")
    table.to_file(tmp_path / "prediction_extent.gpkg", layer="prediction_extent")
    said = describe(tmp_path, GRID, {"segments": NOTHING, "extent": table})
    assert said["grid"] == {
        "crs": "EPSG:32608", "shape": [1098, 1098], "transform": [100.0, 0.0, 399960.0, 0.0, -100.0, 7700040.0]
    }  # fmt: skip
    assert said["summary"] == {"objects": 0, "area_ha": 0.0, "extent_km2": pytest.approx(100)}
    files = said["files"]
    assert files["slope.tif"]["bands"] == [
        {"name": "slope", "data_type": "int16", "nodata": -1, "scale": 0.01, "offset": 0.0, "unit": "degree"},
        {"name": "aspect", "data_type": "int16", "nodata": -1, "scale": 0.1, "offset": 5.0},
    ]
    assert files["prediction_extent.parquet"]["rows"] == 1
    assert [column["name"] for column in files["prediction_extent.parquet"]["columns"]] == ["geometry"]
    assert (files["prediction_extent.gpkg"]["rows"], files["prediction_extent.gpkg"]["layer"]) == (
        1,
        "prediction_extent",
    )
    assert all(facts["bytes"] == (tmp_path / name).stat().st_size for name, facts in files.items())
