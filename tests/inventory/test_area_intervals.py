"""Intervals of areas: variances, priors and sums by hand."""

import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.inventory.area_intervals import (
    BOUNDARY_DEGREES,
    BOUNDARY_ERROR,
    MOST_DEGREES,
    area_by_year,
    combined,
    prior_displacement,
    with_intervals,
)
from darts_assets.inventory.table_schemas import AREA_COLUMNS


def table(*rows: tuple[int, float, float]) -> pd.DataFrame:
    """Sites of 100 m x 100 m: days, mean and standard deviation of their areas in hectares."""
    columns = pd.DataFrame(rows, columns=["area_days", "area_mean_ha", "area_sd_ha"])
    return columns.assign(geometry=[shapely.box(0, 0, 100, 100)] * len(rows))


def test_a_lonely_day_has_the_error_of_half_a_pixel() -> None:
    (site,) = with_intervals(table((1, 1.0, math.nan))).itertuples()
    assert site.area_se_ha == pytest.approx(5 * 400 / 1e4)
    assert site.area_df == BOUNDARY_DEGREES == 6
    assert (site.area_low_ha, site.area_high_ha) == pytest.approx((1 - 0.2 * 2.4469, 1 + 0.2 * 2.4469), abs=1e-4)


def test_the_variance_of_a_site_is_moderated() -> None:
    (site,) = with_intervals(table((4, 1.0, 0.08))).itertuples()  # 0.08 ha over 400 m: 2 m
    variance = (6 * 5**2 + 3 * 2**2) / 9
    assert site.area_se_ha == pytest.approx(math.sqrt(variance / 4) * 400 / 1e4)
    assert site.area_df == 9


def test_sites_of_equal_variance_share_it() -> None:
    """Without a spread beyond chance the prior has any number of degrees of freedom."""
    displacement, degrees = prior_displacement(np.full(3, 4.0), np.full(3, 4.0))
    digamma_of_2 = 1 - 0.5772156649
    assert displacement == pytest.approx(4 * math.exp((math.log(2) - digamma_of_2) / 2))
    assert degrees == MOST_DEGREES


def test_a_spread_of_variances_gives_the_degrees_of_its_trigamma() -> None:
    """Logs of variances at -a and a (three times each), of infinite degrees of freedom: spread 6 a^2 / 5."""
    # trigamma(2) = pi^2 / 6 - 1, which belongs to 4 degrees of freedom.
    a = math.sqrt(5 / 6 * (math.pi**2 / 6 - 1))
    _, degrees = prior_displacement(np.exp([-a / 2, a / 2] * 3), np.full(6, 1e9))
    assert degrees == pytest.approx(4, rel=1e-6)


def test_fewer_than_three_sites_show_no_prior() -> None:
    both = prior_displacement(np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 0.0]))
    assert both == (BOUNDARY_ERROR, BOUNDARY_DEGREES)


def test_sites_without_a_whole_day_have_no_interval_and_none_begins_below_zero() -> None:
    none, wide = with_intervals(table((0, math.nan, math.nan), (1, 0.1, math.nan))).itertuples()
    assert np.isnan([none.area_se_ha, none.area_df, none.area_low_ha, none.area_high_ha]).all()
    assert wide.area_low_ha == 0
    assert wide.area_high_ha == pytest.approx(0.1 + 0.2 * 2.4469, abs=1e-4)
    assert with_intervals(table()).empty


def test_sums_of_t_distributions() -> None:
    alone = combined([np.array([2.0])], [np.array([10.0])])
    assert np.array(alone).ravel() == pytest.approx([2, 10])
    # Variance 1.25 each, kurtosis half of one's: 16 degrees of freedom.
    error, degrees = combined([np.array(1.0), np.array(1.0)], [np.array(10.0), np.array(10.0)])
    assert (float(error), float(degrees)) == pytest.approx((math.sqrt(2.5 * 14 / 16), 16))


def test_areas_of_years_and_regions() -> None:
    sites = pd.DataFrame(
        {
            "site_id": ["a", "b", "c", "d", "e"],
            "year": [2022, 2022, 2022, 2023, 2022],
            "lon": [-135.0, -135.0, -141.0, -135.0, -135.0],
            "lat": 68.5,
            "area_ha": [1.1, 2.1, 5.0, 1.0, 9.0],
            "area_mean_ha": [1.0, 2.0, np.nan, 1.5, 9.0],
            "area_se_ha": [0.3, 0.4, np.nan, 0.1, 1.0],
            "area_df": [MOST_DEGREES, MOST_DEGREES, np.nan, MOST_DEGREES, MOST_DEGREES],
            "verdict": ["", "yes", "", "", "no"],
        }
    )
    made = area_by_year(gpd.GeoDataFrame(sites, geometry=[shapely.Point(0, 0)] * 5, crs=EQUAL_AREA))
    assert made.dtypes.astype(str).to_dict() == AREA_COLUMNS
    rows = made.set_index(["year", "region"])
    assert list(rows.index) == [(2022, "all"), (2022, "07W"), (2022, "08W"), (2023, "all"), (2023, "08W")]
    assert rows.loc[(2022, "08W")].tolist() == pytest.approx([2, 0, 3.2, 3, 3 - 0.98, 3 + 0.98], abs=2e-3)
    # The site without an interval counts with its outline, as if that were exact.
    assert rows.loc[(2022, "all")].tolist() == pytest.approx([3, 1, 8.2, 8, 8 - 0.98, 8 + 0.98], abs=2e-3)
    assert rows.loc[(2022, "07W")].tolist() == pytest.approx([1, 1, 5, 5, np.nan, np.nan], nan_ok=True)
    every = area_by_year(
        gpd.GeoDataFrame(sites, geometry=[shapely.Point(0, 0)] * 5, crs=EQUAL_AREA), with_rejected=True
    )
    assert every["sites"].tolist() == [4, 1, 3, 1, 1]
