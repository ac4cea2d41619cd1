"""Points: uniform within strata, independent of other strata, the same for the same seed."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scipy.stats import kstest

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.sample_points import POINT_COLUMNS, draw_sample, expected_relative_error
from darts_assets.area_estimation.strata import STRATUM_COLUMNS
from tests.area_estimation.test_strata import CRS, square


def strata(*shapes: shapely.Geometry) -> gpd.GeoDataFrame:
    """Strata `a/0`, `a/1`, ..., the first one detected."""
    rows = [
        (f"a/{number}", "a", "not_detected" if number else "detected", f"{number}", shape.area / 1e4, 0.1)
        for number, shape in enumerate(shapes)
    ]
    return gpd.GeoDataFrame(rows, columns=list(STRATUM_COLUMNS), geometry=list(shapes), crs=CRS)


L_SHAPE = shapely.union(square(0, 0, 1000), square(1000, 0, 3000)) - square(200, 200, 600)
TWO = shapely.union(square(10_000, 0, 100), square(20_000, 0, 300))


def test_points_lie_in_their_strata_and_have_the_planned_numbers() -> None:
    points, drawn = draw_sample(strata(TWO, L_SHAPE), 2023, SampleParameters(points=400, min_points=60))
    assert list(points.columns) == [*POINT_COLUMNS, "geometry"]
    assert drawn["points"].tolist() == [60, 340]
    assert drawn["weight"].sum() == pytest.approx(1)
    for name, shape in (("a/0", TWO), ("a/1", L_SHAPE)):
        own = points[points["stratum"] == name]
        assert len(own) == drawn.set_index("stratum")["points"][name]
        assert own.within(shape).all()
    degrees = points.to_crs(4326)
    assert np.abs(degrees.geometry.x - points["lon"]).max() < 1e-7
    assert points["sample_id"].is_unique
    assert points["sample_id"].iloc[0].startswith("area-2023-1-")
    assert points["sample_id"].iloc[-1].endswith("-0400")
    # The order mixes the strata.
    assert np.flatnonzero(points["stratum"] == "a/0").max() - np.flatnonzero(points["stratum"] == "a/0").min() > 20
    assert np.flatnonzero(points["stratum"] == "a/0").mean() == pytest.approx(200, abs=60)
    assert expected_relative_error(drawn) == pytest.approx(
        np.sqrt((drawn["weight"] ** 2 * 0.09 / drawn["points"]).sum()) / 0.1
    )


def test_points_are_uniform() -> None:
    """Distances from the corner of two squares, by the distribution of a uniform coordinate."""
    points, _ = draw_sample(strata(square(0, 0, 500), TWO), 2023, SampleParameters(points=4000, min_points=1000))
    own = points[points["stratum"] == "a/1"]
    small = own[own.within(square(10_000, 0, 100))]
    assert len(small) / len(own) == pytest.approx(0.1, abs=0.025), "by area"
    large = own[~own.index.isin(small.index)]
    for axis, start in (("x", square(20_000, 0, 300).bounds[0]), ("y", square(20_000, 0, 300).bounds[1])):
        assert kstest((getattr(large.geometry, axis) - start) / 300, "uniform").pvalue > 0.01


def test_the_same_seed_gives_the_same_points_also_beside_other_strata() -> None:
    parameters = SampleParameters(points=120, min_points=40)
    one, _ = draw_sample(strata(TWO, L_SHAPE), 2023, parameters)
    again, _ = draw_sample(strata(TWO, L_SHAPE), 2023, parameters)
    assert one.equals(again)
    more, _ = draw_sample(strata(TWO, L_SHAPE, square(50_000, 0, 1000)), 2023, parameters)
    first, same = (set(table[table["stratum"] == "a/0"].geometry.to_wkt()) for table in (one, more))
    assert len(first) == len(same) == 40
    assert first == same
    other, _ = draw_sample(strata(TWO, L_SHAPE), 2023, parameters.replace(seed=1))
    assert not set(one.geometry.to_wkt()) & set(other.geometry.to_wkt())
    assert not set(one["sample_id"]) & set(other["sample_id"])
