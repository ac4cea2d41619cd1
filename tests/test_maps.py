"""The map of where a scene lies."""

import numpy as np
import pytest
import shapely

from darts_assets.maps.locator_map import location_map

MARK = np.array((214, 62, 38))


def mark(footprint: shapely.Geometry) -> tuple[float, float]:
    """The middle of the mark, in pixels to the right of and below the middle of the left map."""
    image = np.asarray(location_map(footprint)).astype(int)
    assert image.shape == (256, 516, 3)
    rows, columns = np.nonzero((np.abs(image[:, :256] - MARK) < 12).all(axis=-1))
    assert len(rows) > 10
    return columns.mean() - 127.5, rows.mean() - 127.5


@pytest.mark.parametrize(
    ("lon", "lat", "right", "down"),
    [(-90, 60, 0, 1), (90, 60, 0, -1), (0, 60, 1, 0), (-179.8, 60, -1, 0), (179.8, 60, -1, 0), (20, 89.9, 0, 0)],
)
def test_the_pole_is_in_the_middle_and_america_below(lon: float, lat: float, right: int, down: int) -> None:
    x, y = mark(shapely.box(lon - 0.1, lat - 0.1, lon + 0.1, min(lat + 0.1, 90)))
    assert (round(x / 85), round(y / 85)) == (right, down)


def test_a_footprint_across_the_antimeridian_is_in_one_piece() -> None:
    halves = shapely.MultiPolygon([shapely.box(179, 69, 180, 70), shapely.box(-180, 69, -179, 70)])
    near = np.asarray(location_map(halves))[:, 260:].astype(int)
    green = (near[..., 1] > near[..., 0] + 20).any(axis=0)
    assert green.sum() > 120
    assert np.diff(np.flatnonzero(green)).max() <= 2


def test_a_scene_of_the_south_has_the_globe_around_it() -> None:
    x, y = mark(shapely.box(13, -33, 14, -32))
    assert abs(x) < 3
    assert abs(y) < 3
