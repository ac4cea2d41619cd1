"""Points, outlines and scenes of the map, against the inventory that they are made from."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer

from darts_assets.web_map.map_tables import MAP_CRS, UNKNOWN, observed_areas, ordered, outlines, points
from tests.web_map.arctic_inventory import EQUAL_AREA, generated_scenes, generated_sites

YEARS = [2021, 2022, 2023]


@pytest.fixture(scope="module")
def sites() -> gpd.GeoDataFrame:
    return generated_sites(60, YEARS)


def test_sites_are_numbered_by_slump_along_a_curve(sites: gpd.GeoDataFrame) -> None:
    table = ordered(sites.sample(frac=1, random_state=1))
    assert table.crs == MAP_CRS
    assert len(table) == len(sites)
    assert sorted(set(table["slump"])) == list(range(60))
    assert table.groupby("slump")["slump_id"].nunique().eq(1).all()
    assert list(table["slump"]) == sorted(table["slump"])
    assert all(years.is_monotonic_increasing for _, years in table.groupby("slump")["year"])
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(ordered(sites)))
    first = table.drop_duplicates("slump").geometry.centroid
    mixed = first.sample(frac=1, random_state=1).reset_index(drop=True)
    steps, leaps = (places.distance(places.shift()).median() for places in (first.reset_index(drop=True), mixed))
    assert steps < 0.2 * leaps, "slumps of a region follow each other"


def test_points_hold_the_values_of_their_sites(sites: gpd.GeoDataFrame) -> None:
    table = ordered(sites)
    table.loc[0, "mean_probability"] = np.nan
    table["verdict"] = ["", "no", "redraw", *[""] * (len(table) - 3)]
    rows = points(table)
    assert set(rows.dtypes) == {np.dtype("int32")}
    x, y = Transformer.from_crs(4326, MAP_CRS, always_xy=True).transform(table["lon"], table["lat"])
    assert np.abs(rows["x"] - x).max() <= 0.5
    assert np.abs(rows["y"] - y).max() <= 0.5
    assert table.geometry.distance(gpd.GeoSeries(gpd.points_from_xy(rows["x"], rows["y"]), crs=MAP_CRS)).max() < 1
    assert rows["probability"][0] == UNKNOWN
    assert rows["probability"][5] == round(100 * table["mean_probability"][5])
    assert list(rows["verdict"][:4]) == [0, 2, 4, 0]
    assert rows[["seen", "observable", "year"]].equals(table[["seen", "observable", "year"]].astype("int32"))
    assert list(points(ordered(sites))["verdict"]) == [0] * len(sites), "an inventory without reviews"


def test_a_site_carries_the_pictures_of_its_slump(sites: gpd.GeoDataFrame) -> None:
    first, other = sites["slump_id"].iloc[[0, 1]]
    chips = pd.DataFrame(
        {
            "slump_id": [first, first, other],
            "year": [2022, 2021, 2021],
            "site_id": ["s", "", "t"],
            "scene": ["b", "a", "c"],
            "datetime": pd.to_datetime(["2022-07-01T20:00Z", "2021-08-02T20:00Z", "2021-08-02T20:00Z"]),
            "detected": [True, False, True],
            "key": ["k2", "k1", "k3"],
            "offset": [10, 0, 0],
            "length": [5, 10, 7],
            "width_m": [600.0, 640.0, 600.0],
        }
    )
    table = outlines(ordered(sites), chips)
    own = table[table["slump_id"] == first]
    assert own["chips"].nunique() == 1
    assert json.loads(own["chips"].iloc[0]) == [
        {"year": 2021, "scene": "a", "datetime": "2021-08-02", "detected": False, "key": "k1", "offset": 0,
         "length": 10, "width_m": 640.0},
        {"year": 2022, "scene": "b", "datetime": "2022-07-01", "detected": True, "key": "k2", "offset": 10,
         "length": 5, "width_m": 600.0},
    ]  # fmt: skip
    assert set(table[~table["slump_id"].isin([first, other])]["chips"]) == {"[]"}
    assert own["first_date"].iloc[0] == f"{own['year'].iloc[0]}-07-01"
    assert "predecessors" not in table
    assert set(outlines(ordered(sites))["chips"]) == {"[]"}


def test_scenes_that_observe_nothing_are_left_out() -> None:
    scenes = {year: generated_scenes(year) for year in YEARS}
    scenes[2022].loc[3, "geometry"] = shapely.Polygon()
    some = scenes[2021]["scene_id"][0]
    table = observed_areas(scenes, {("sentinel2", some): "../stac/sentinel2/a/1.json"})
    assert table.crs == MAP_CRS
    assert len(table) == 3 * len(scenes[2021]) - 1
    assert table.set_index("scene_id").loc[some, "item"] == "../stac/sentinel2/a/1.json"
    assert (table["item"] != "").sum() == 1
    assert table["datetime"][0] == "2021-07-01T20:18:51Z"
    hull = scenes[2021].to_crs(MAP_CRS).geometry[0]
    assert table.geometry[0].symmetric_difference(hull).area < 1
    nothing = observed_areas({}, {})
    assert len(nothing) == len(observed_areas({2021: scenes[2021][:0]}, {})) == 0
    assert nothing.crs == MAP_CRS


def test_an_empty_inventory_has_empty_tables() -> None:
    sites = generated_sites(3, YEARS)[:0]
    assert sites.crs == EQUAL_AREA
    table = ordered(sites)
    assert len(points(table)) == len(outlines(table)) == 0
