"""The regions that scenes and slumps are in."""

import numpy as np
import pytest

from darts_assets.geo.grid_zones import grid_zones, region_of


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


def test_the_zones_as_boxes_agree_with_the_regions_of_places() -> None:
    zones = grid_zones()
    assert len({zone.name for zone in zones}) == len(zones)
    area = sum((zone.east - zone.west) * (zone.north - zone.south) for zone in zones)
    assert area == pytest.approx(360 * 180), "no gap and no overlap"
    random = np.random.default_rng(0)
    for zone in zones:
        for lon, lat in random.uniform((zone.west, zone.south), (zone.east, zone.north), (20, 2)).tolist():
            assert region_of(None, lon, lat) == zone.name
    boxes = {zone.name: zone[1:] for zone in zones}
    assert boxes["32V"] == (3, 56, 12, 64)
    assert boxes["33X"] == (9, 72, 21, 84)
