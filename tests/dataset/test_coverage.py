"""Days on which places were seen clear, on a grid around the pole."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import Transformer

from darts_assets.dataset.coverage import (
    BLOCK,
    ClearDays,
    day_classes,
    read_days,
    seen_years,
    write_days,
    year_coverage,
)
from tests.dataset.published_world import Areas
from tests.inventory.planted import Planted, square

CELL = 100.0
SIDE = CELL * BLOCK


def table(scenes: list[Planted]) -> pd.DataFrame:
    records = [scene.record for scene in scenes]
    return pd.DataFrame(
        {
            "scene_id": [record.scene_id for record in records],
            "family": [record.family for record in records],
            "datetime": pd.to_datetime([record.datetime for record in records]),
            "data_version": [record.data_version for record in records],
        }
    )


def days_at(days: ClearDays, x: float, y: float, epsg: int = 32608) -> int:
    """Days of the cell with a point of a UTM zone."""
    east, north = Transformer.from_crs(epsg, 6931, always_xy=True).transform(x, y)
    block = int(np.floor(-north / SIDE)), int(np.floor(east / SIDE))
    column, row = ~days.transform(block) @ (east, north)
    return int(days.blocks[block][int(row), int(column)]) if block in days.blocks else 0


def test_a_day_counts_once_and_clouds_do_not_count() -> None:
    area, cloud = square(0, 0, 4000), square(0, 0, 1500)
    scenes = [
        Planted(180, [], area, clouds=cloud),
        Planted(180, [], area, clouds=cloud, family="planet"),
        Planted(190, [], square(2000, 0, 4000), clouds=shapely.Polygon()),
    ]
    coverage = year_coverage(table(scenes), Areas(scenes), CELL)
    x, y = 500_000, 7_600_000
    places = [(700, 700), (1000, 3000), (3000, 2000), (5000, 2000), (9000, 2000)]
    assert [days_at(coverage.days, x + east, y + north) for east, north in places] == [0, 1, 2, 1, 0]
    images = coverage.images
    assert images["image_id"].tolist() == [scenes[index].id for index in (1, 0, 2)]
    assert images["valid_km2"].to_numpy() == pytest.approx([16, 16, 16], rel=2e-3)
    assert images["clear_km2"].to_numpy() == pytest.approx([16 - 2.25, 16 - 2.25, 16], rel=2e-3)
    assert images.crs == "EPSG:4326"
    seen = day_classes({2023: coverage.days})
    assert seen[["year", "days_from", "days_to"]].to_numpy().tolist() == [[2023, 1, 1], [2023, 2, 2]]
    assert seen["area_km2"].sum() == pytest.approx(24 - 2.25, rel=0.02)


def test_scenes_on_both_sides_of_the_antimeridian_meet() -> None:
    # Zones 60 and 1, whose border is the antimeridian: 180 degrees lies about 123 km from both central meridians.
    west = Planted(180, [], shapely.box(615_000, 7_600_000, 630_000, 7_610_000), epsg=32660)
    east = Planted(181, [], shapely.box(370_000, 7_600_000, 385_000, 7_610_000), epsg=32601)
    coverage = year_coverage(table([west, east]), Areas([west, east]), CELL)
    classes = day_classes({2023: coverage.days})
    assert classes["area_km2"].sum() < 300
    lows, highs = classes.geometry.bounds["minx"], classes.geometry.bounds["maxx"]
    assert (lows.min(), highs.max()) == (pytest.approx(-180, abs=0.5), pytest.approx(180, abs=0.5))
    assert classes.geometry.is_valid.all()


def test_days_are_written_and_read_again(tmp_path: Path) -> None:
    block = np.zeros((BLOCK, BLOCK), np.uint16)
    block[3, 5] = 7
    more = np.full((BLOCK, BLOCK), 2, np.uint16)
    days = {
        2022: ClearDays(CELL, {(-2, 3): block}),
        2023: ClearDays(CELL, {(-2, 3): more, (0, -1): block}),
    }
    path = tmp_path / "days.tif"
    write_days(path, days)
    again = read_days(path)
    assert {year: counts.blocks.keys() for year, counts in again.items()} == {2022: {(-2, 3)}, 2023: {(-2, 3), (0, -1)}}
    assert all((again[year].blocks[key] == values).all() for year in days for key, values in days[year].blocks.items())
    assert again[2022].cell == CELL
    with rasterio.open(path) as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        x, y = days[2022].transform((-2, 3)) @ (5.5, 3.5)
        assert [int(value) for value in next(raster.sample([(x, y)]))] == [7, 2]


def test_years_in_which_places_were_seen() -> None:
    one, two = np.zeros((2, BLOCK, BLOCK), np.uint16)
    one[:10, :10], two[:10, :5] = 3, 1
    union = seen_years({2022: ClearDays(CELL, {(0, 0): one}), 2023: ClearDays(CELL, {(0, 0): two})})
    assert union["years_seen"].tolist() == [1, 2]
    assert union["area_km2"].to_numpy() == pytest.approx([0.5, 0.5], rel=1e-3)
    assert len(seen_years({})) == len(day_classes({})) == 0
