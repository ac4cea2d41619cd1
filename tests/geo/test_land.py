"""The background land of small maps."""

import pytest
import shapely

from darts_assets.geo.land import land


def test_land_covers_the_arctic_coasts() -> None:
    shapes = land()
    assert shapes.is_valid
    west, south, east, north = shapes.bounds
    assert (west, east) == (-180, 180)
    assert -60 < south < -50
    assert 83 < north < 84


@pytest.mark.parametrize(
    ("place", "lon", "lat", "on_land"),
    [
        ("Peel Plateau", -135.0, 67.5, True),
        ("Yamal", 70.0, 70.0, True),
        ("Beaufort Sea", -140.0, 71.5, False),
        ("North Pole", 0.0, 90.0, False),
    ],
)
def test_places_are_on_land_or_at_sea(place: str, lon: float, lat: float, on_land: bool) -> None:
    assert land().contains(shapely.Point(lon, lat)) == on_land, place
