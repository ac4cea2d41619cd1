"""Strata: disjoint, together the observed area, by region and probability."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.strata import strata_of
from darts_assets.errors import SettingsError
from darts_assets.geo.grid_zones import region_of

CRS = "EPSG:6931"
X, Y = -1_700_000.0, 1_700_000.0  # 135 degrees west


def sites(*rows: tuple[float, shapely.Geometry]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"mean_probability": [probability for probability, _ in rows]},
        geometry=[shape for _, shape in rows], crs=CRS,
    )  # fmt: skip


def square(x: float, y: float, side: float) -> shapely.Polygon:
    return shapely.box(X + x, Y + y, X + x + side, Y + y + side)


def test_strata_by_probability_with_exact_areas() -> None:
    """A strong and a weak outline that overlap, one half outside the observed area, and one without probability."""
    table = sites(
        (0.9, square(1000, 1000, 100)),
        (0.6, square(1050, 1000, 100)),
        (0.55, square(-50, 3000, 100)),
        (np.nan, square(3000, 3000, 100)),
    )
    strata = strata_of(square(0, 0, 5000), table, SampleParameters(by_region=False)).set_index("kind")
    assert strata.index.tolist() == ["detected-0.7-1", "detected-0-0.7", "near", "rest"]
    assert strata["area_ha"]["detected-0.7-1"] == pytest.approx(1)
    assert strata["area_ha"]["detected-0-0.7"] == pytest.approx(0.5 + 0.5 + 1), "the strong one counts"
    assert strata["map_class"].tolist() == ["detected", "detected", "not_detected", "not_detected"]
    assert strata["expected_share"].tolist() == [
        pytest.approx(0.9), pytest.approx((0.6 + 0.55 + 0) / 3), 0.05, 0.001,
    ]  # fmt: skip
    assert strata["area_ha"].sum() == pytest.approx(2500)
    circle = shapely.area(shapely.buffer(shapely.Point(0, 0), 100))
    both, alone, half = 100 * 2 * 250 + circle, 100 * 2 * 200 + circle, (100 * 2 * 200 + circle) / 2
    assert strata["area_ha"]["near"] * 1e4 == pytest.approx(both + alone + half)
    for one, other in ((one, other) for one in strata.geometry for other in strata.geometry if one is not other):
        assert shapely.area(shapely.intersection(one, other)) < 1e-6


def test_an_area_across_regions_is_divided_at_their_limits() -> None:
    """132 degrees west is the limit between zones 8 and 9, and 72 degrees north that of the bands W and X."""
    corners = [(-133, 71.5), (-131, 71.5), (-131, 72.5), (-133, 72.5)]
    box = shapely.segmentize(shapely.Polygon(corners), 0.01)
    (area,) = gpd.GeoSeries([box], crs=4326).to_crs(CRS)
    strata = strata_of(area, sites(), SampleParameters())
    assert strata["stratum"].tolist() == ["08W/rest", "08X/rest", "09W/rest", "09X/rest"]
    assert strata["area_ha"].sum() * 1e4 == pytest.approx(shapely.area(area), rel=1e-12)
    lower = abs(
        Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(shapely.box(-133, 71.5, -132, 72), 0.01))[0]
    )
    assert strata["area_ha"].iloc[0] * 1e4 == pytest.approx(lower, rel=1e-6)
    random = np.random.default_rng(1)
    for row in strata.itertuples():
        bounds = gpd.GeoSeries([row.geometry], crs=CRS).to_crs(4326).total_bounds
        places = random.uniform(bounds[:2], bounds[2:], (50, 2))
        inside = shapely.contains_xy(
            row.geometry,
            *gpd.GeoSeries(gpd.points_from_xy(*places.T), crs=4326).to_crs(CRS).get_coordinates().to_numpy().T,
        )
        assert {region_of(None, *place) for place in places[inside]} == {row.region}


def test_a_small_region_counts_to_the_nearest_other_one() -> None:
    box = shapely.segmentize(shapely.box(-132.005, 71, -130, 71.5), 0.01)
    (area,) = gpd.GeoSeries([box], crs=4326).to_crs(CRS)
    strata = strata_of(area, sites(), SampleParameters())
    assert strata["region"].tolist() == ["09W"]
    assert strata["area_ha"].sum() * 1e4 == pytest.approx(shapely.area(area), rel=1e-9)
    apart = strata_of(area, sites(), SampleParameters(least_region_share=0))
    assert apart["region"].tolist() == ["08W", "09W"]


def test_an_area_around_the_pole_and_across_the_antimeridian() -> None:
    area = shapely.Point(0, 0).buffer(100_000)
    strata = strata_of(area, sites(), SampleParameters())
    assert strata["region"].tolist() == ["Y", "Z"]
    assert strata["area_ha"].to_numpy() == pytest.approx(shapely.area(area) / 2e4, rel=1e-6)
    (crossing,) = gpd.GeoSeries([shapely.segmentize(shapely.box(179, 70, 181, 71), 0.01)], crs=4326).to_crs(CRS)
    assert strata_of(crossing, sites(), SampleParameters())["region"].tolist() == ["01W", "60W"]


def test_nothing_observed_is_an_error() -> None:
    with pytest.raises(SettingsError, match="the observed area is empty"):
        strata_of(shapely.Polygon(), sites(), SampleParameters())
