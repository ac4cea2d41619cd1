"""The regions that scenes and slumps are in."""

import pytest

from darts_assets.geo.grid_zones import region_of


@pytest.mark.parametrize(
    ("tile", "lon", "lat", "expected"),
    [
        ("08WMB", 0, 0, "08W"),
        ("T8WMB", 0, 0, "08W"),
        ("4500474", -134.5, 69, "08W"),  # a cell of Planet's grid
        (None, -134.5, 69, "08W"),
        (None, 179.99, 71.9, "60W"),
        (None, -180, 72, "01X"),
        (None, 180, 72, "01X"),
        (None, 5, 60, "32V"),  # Norway
        (None, 2.9, 60, "31V"),
        (None, 20, 78, "33X"),  # Svalbard
        (None, 22, 78, "35X"),
        (None, 43, 78, "38X"),
        (None, 10, 83.9, "33X"),
        (None, 10, 84, "Z"),
        (None, -10, 88, "Y"),
        (None, 10, -85, "B"),
        (None, 0.5, -0.5, "31M"),
    ],
)
def test_regions_are_zones_of_the_military_grid(tile: str | None, lon: float, lat: float, expected: str) -> None:
    assert region_of(tile, lon, lat) == expected
