"""The comparison of two sensors: which scenes, which places, and the differences that were planted."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.inventory.sensor_agreement import (
    AGREEMENT_COLUMNS,
    BANDS,
    agreement,
    common_points,
    pairs_of,
    values_at,
)
from darts_assets.tiles import on_grid

from .planted import Planted, built, square


def scene(day: int, family: str = "sentinel2", x: float = 0) -> Planted:
    return Planted(day, [square(x, 0)], extent=square(x - 2000, -2000, 4000), family=family)


def tile(value: float, pixel: float, quality: int = 2, epsg: int = 32608):
    """A tile of 3 km whose bands have `value` in the west and `value` + 0.1 in the east; nothing in the first rows."""
    side = int(3000 / pixel)
    values = np.full((side, side), value, "float32")
    values[:, side // 2 :] += 0.1
    clear = np.full((side, side), quality, "uint8")
    clear[: side // 10] = 0
    grid = GeoBox((side, side), Affine(pixel, 0, 499_000, 0, -pixel, 7_602_000), f"EPSG:{epsg}")
    return on_grid({**dict.fromkeys(BANDS, values), "quality_data_mask": clear}, grid).chunk(100)


def test_pairs_are_of_one_month_and_overlap() -> None:
    scenes = built(
        [
            scene(180), scene(181, "planet"), scene(182, "planet", x=3000),  # 30 June, 1 July, 2 July
            scene(185), scene(186, "planet", x=9000), scene(210, "planet"),
        ]
    ).scenes  # fmt: skip
    days = {name: name.split("-")[1][4:] for name in scenes["scene_id"]}
    pairs = pairs_of(scenes, 10)
    assert [(days[other], days[one]) for one, other in pairs] == [("0705", "0701"), ("0705", "0730"), ("0705", "0702")]
    assert pairs_of(scenes, 1) == pairs[:1]
    assert pairs_of(scenes[scenes["family"] == "planet"], 10) == []
    assert pairs_of(built([]).scenes, 10) == []


def test_places_are_in_both_hulls() -> None:
    points = common_points(shapely.box(0, 0, 1000, 1000), shapely.box(500, 0, 2000, 1000), 200)
    assert len(points) == pytest.approx(200, rel=0.1)
    assert points[:, 0].min() > 500
    assert points[:, 0].max() < 1000
    assert common_points(shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6), 200).shape == (0, 2)


def test_values_are_those_of_the_pixels_at_the_places() -> None:
    places = gpd.GeoSeries.from_xy([499_100, 501_900, 501_900, 400_000], [7_600_000] * 2 + [7_601_999] + [7_600_000])
    places = places.set_crs(32608).to_crs("EPSG:6931")
    values = values_at(tile(0.2, 10), np.column_stack([places.x, places.y]))
    assert list(values.columns) == list(BANDS)
    np.testing.assert_allclose(values["nir"], [0.2, 0.3, np.nan, np.nan], rtol=1e-6)
    assert values_at(tile(0.2, 10, quality=1), np.column_stack([places.x, places.y])).isna().all().all()


def test_a_planted_difference_is_measured_whatever_the_grids() -> None:
    hull = gpd.GeoSeries([shapely.box(499_000, 7_599_000, 502_000, 7_602_000)], crs=32608).to_crs("EPSG:6931")[0]
    places = common_points(hull, hull, 2000)
    one, other = values_at(tile(0.23, 3), places), values_at(tile(0.2, 10), places)
    table = agreement({("planet", "sentinel2"): [(one, other)]})
    assert list(table.columns) == list(AGREEMENT_COLUMNS)
    assert table["band"].tolist() == list(BANDS)
    np.testing.assert_allclose(table["bias"], 0.03, atol=1e-6)
    np.testing.assert_allclose(table["one_p10"], 0.23, atol=1e-6)
    np.testing.assert_allclose(table["other_p90"], 0.3, atol=1e-6)
    assert table["points"].between(1600, 1900).all(), "without the tenth that is not valid"


def test_too_few_places_are_no_evidence() -> None:
    few = pd.DataFrame({band: np.full(99, 0.1, "float32") for band in BANDS})
    table = agreement({("planet", "sentinel2"): [(few, few)]})
    assert len(table) == 0
    assert table.dtypes.astype(str).to_dict()["bias"] == "float64"
