"""The layout of the DARTS database: detections of a year that touch become one feature."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.dataset.yearly_extents import (
    LEVEL1_DESCRIPTIONS,
    LEVEL2_DESCRIPTIONS,
    darts_level1,
    darts_level2,
)


def footprints(shapes: list[shapely.Geometry], crs: int = 32608, **columns: object) -> gpd.GeoDataFrame:
    count = len(shapes)
    table = {
        "id": [f"s/{number}" for number in range(count)], "year": 2023,
        "scene": [f"s{number}" for number in range(count)],
        "datetime": pd.date_range("2023-07-01", periods=count, tz="UTC"), "area_m2": 1.0, "npixel": 100, "min": 0.5,
        "max": 0.9, "mean": 0.7, "std": 0.1, **columns,
    }  # fmt: skip
    return gpd.GeoDataFrame(table, geometry=shapes, crs=crs).to_crs(4326)


def box(x: float, y: float, width: float, height: float | None = None) -> shapely.Polygon:
    west, south = 500_000 + x, 7_600_000 + y
    return shapely.box(west, south, west + width, south + (height or width))


def test_touching_footprints_of_a_year_are_dissolved() -> None:
    shapes = [box(0, 0, 100), box(50, 0, 100), box(140, 0, 100), box(1000, 0, 100), box(1000, 0, 100)]
    level1 = footprints(shapes, year=[2023, 2023, 2023, 2023, 2022])
    table = darts_level2(level1)
    assert table.columns.tolist() == [*LEVEL2_DESCRIPTIONS, "geometry"]
    assert table["id"].tolist() == [1, 2, 3]
    by_size = table.sort_values(["year", "images"])
    assert by_size[["year", "images"]].to_numpy().tolist() == [[2022, 1], [2023, 1], [2023, 3]]
    assert by_size["area_m2"].to_numpy() == pytest.approx([10_000, 10_000, 24_000], rel=1e-3)
    assert by_size["first_date"].dt.day.tolist() == [5, 4, 1]
    assert by_size["last_date"].dt.day.tolist() == [5, 4, 3]


def test_probabilities_are_those_of_all_pixels() -> None:
    random = np.random.default_rng(0)
    samples = [random.uniform(0.5, 0.8, 200), random.uniform(0.6, 1.0, 50)]
    statistics = {name: [getattr(values, name)() for values in samples] for name in ("min", "max", "mean", "std")}
    level1 = footprints([box(0, 0, 100), box(50, 50, 100)], npixel=[200, 50], **statistics)
    (row,) = darts_level2(level1).to_dict("records")
    pixels = np.concatenate(samples)
    assert [row[f"pval_{name}"] for name in statistics] == pytest.approx(
        [getattr(pixels, name)() for name in statistics]
    )


def test_footprints_across_the_antimeridian_are_one_feature() -> None:
    left = gpd.GeoSeries([shapely.box(179.99, 68, 180, 68.01)], crs=4326).to_crs(32660).iloc[0]
    right = gpd.GeoSeries([shapely.box(-180, 68, -179.99, 68.01)], crs=4326).to_crs(32660).iloc[0]
    level1 = footprints([left, right], 32660)
    level1.geometry = [shapely.box(179.99, 68, 180, 68.01), shapely.box(-180, 68, -179.99, 68.01)]
    (row,) = darts_level2(level1).to_dict("records")
    assert row["images"] == 2
    assert shapely.bounds(row["geometry"])[[0, 2]].tolist() == pytest.approx([-180, 180])


def test_level1_is_numbered_and_empty_tables_have_all_columns() -> None:
    level1 = footprints([box(0, 0, 100), box(50, 0, 100)])
    assert darts_level1(level1).columns.tolist() == [*LEVEL1_DESCRIPTIONS, "geometry"]
    assert darts_level1(level1)["id"].tolist() == [1, 2]
    assert darts_level2(level1[:0]).columns.tolist() == [*LEVEL2_DESCRIPTIONS, "geometry"]
