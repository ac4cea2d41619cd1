"""A box of the polar grid and its polygons in longitudes and latitudes hold the same points."""

import numpy as np
import pytest
import shapely
from odc.geo.geom import BoundingBox
from pyproj import CRS, Transformer

from darts_assets.errors import SettingsError
from darts_assets.geo.antimeridian import lonlat_area

TO_LONLAT = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)


@pytest.mark.parametrize(
    ("left", "bottom"),
    [
        (100_000, -2_100_000),  # an ordinary place
        (-1_650_000, 1_240_000),  # across the antimeridian, which leaves the pole to the upper left
        (-1_450_000, 1_440_000),  # its corner just past it
        (-200_000, -150_000),  # around the pole
        (-399_000, -150_000),  # the pole just inside
        (20_000, -150_000),  # the pole just outside
        (-450_000, 30_000),  # the pole just outside, across the antimeridian
        (3_700_000, 3_700_000),  # the corner of the cube
    ],
)
def test_same_points(left: float, bottom: float) -> None:
    box = BoundingBox(left, bottom, left + 400_000, bottom + 400_000, crs="EPSG:3413")
    area = lonlat_area(shapely.box(*box.bbox), CRS(3413))
    assert area.is_valid
    west, south, east, north = area.bounds
    assert (west, east) >= (-180, -180)
    assert east <= 180
    assert -90 <= south < north <= 90
    x, y = np.random.default_rng(1).uniform(-100_000, 500_000, (2, 5000)) + np.array([[left], [bottom]])
    inside = (x > box.left) & (x < box.right) & (y > box.bottom) & (y < box.top)
    near_edge = shapely.distance(shapely.box(*box.bbox).exterior, shapely.points(x, y)) < 50
    found = shapely.intersects(area, shapely.points(*TO_LONLAT.transform(x, y)))
    np.testing.assert_array_equal(found[~near_edge], inside[~near_edge])
    assert 1000 < inside.sum() < 4000
    (pole_inside,) = shapely.intersects(shapely.box(*box.bbox), [shapely.Point(0, 0)])
    assert (north == 90) == pole_inside


@pytest.mark.parametrize("side", [1e9, 1e13, 1e300])
def test_an_area_that_is_larger_than_the_earth(side: float) -> None:
    with pytest.raises(SettingsError, match=r"the edges of the area have a length of .* in the units of .*: check"):
        lonlat_area(shapely.box(0, 0, side, side), CRS("EPSG:3413"))
