"""Which scene shows a point best."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.area_estimation.clear_views import clear_shares, ranked_views

POINTS = gpd.GeoSeries([shapely.Point(0, 0), shapely.Point(1000, 0), shapely.Point(299, 0)], crs=6931)


def test_the_share_of_the_surroundings_that_a_scene_sees() -> None:
    west, east = shapely.box(-5000, -5000, 0, 5000), shapely.box(0, -5000, 300, 5000)
    shares = clear_shares(POINTS, np.array([west, east]))
    assert shares.tolist() == [pytest.approx(1), 0, pytest.approx(301 / 600)]
    assert clear_shares(POINTS, np.array([], dtype=object)).tolist() == [0, 0, 0]
    hole = shapely.box(-5000, -5000, 5000, 5000) - shapely.box(-10, -10, 10, 10)
    assert clear_shares(POINTS, np.array([hole])).tolist() == [0, 1, pytest.approx(1 - 220 / 600**2)], "a cloud on it"


def test_the_clearest_scene_comes_first_and_of_equal_ones_that_of_the_season() -> None:
    times = pd.Series(pd.to_datetime(["2023-06-01", "2023-08-10", "2023-07-20", "2023-09-30"], utc=True))
    shares = np.array([[0.999, 0, 0.5], [0.996, 0, 0.4], [0.5, 0, 0.4], [1, 0, 0]])
    assert ranked_views(shares, times) == [[1, 3, 0, 2], [], [0, 1, 2]]
