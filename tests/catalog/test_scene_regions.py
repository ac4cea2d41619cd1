"""Boxes over the antimeridian."""

import pytest
import shapely

from darts_assets.catalog.scene_regions import box_of, covering


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([[10, 60, 20, 70]], [10, 60, 20, 70]),
        ([[-140, 60, -130, 70], [60, 65, 80, 72]], [60, 60, -130, 72]),  # over the Pacific it is nearer
        ([[-140, 60, -130, 70], [10, 65, 20, 72]], [-140, 60, 20, 72]),
        ([[170, 60, 175, 70], [-175, 60, -170, 70]], [170, 60, -170, 70]),
        ([[170, 60, -160, 70], [-175, 60, -170, 70], [-150, 60, -140, 70]], [170, 60, -140, 70]),
        ([[179, 60, 180, 70], [-180, 60, -179, 70]], [179, 60, -179, 70]),
        ([[-180, -90, 180, 90], [10, 60, 20, 70]], [-180, -90, 180, 90]),
        ([[-180, 80, -60, 84], [-70, 80, 60, 84], [50, 80, 180, 84]], [-180, 80, 180, 84]),
    ],
)
def test_the_smallest_box_around_all(boxes: list[list[float]], expected: list[float]) -> None:
    assert covering(boxes) == expected
    assert covering(boxes[::-1]) == expected


def test_the_box_of_a_geometry_that_is_cut_at_the_antimeridian() -> None:
    cut = shapely.MultiPolygon([shapely.box(179.5, 68, 180, 69), shapely.box(-180, 68.2, -179, 69.5)])
    assert box_of(cut) == [179.5, 68, -179, 69.5]
    assert box_of(shapely.box(-135, 68, -134, 69)) == [-135, 68, -134, 69]
