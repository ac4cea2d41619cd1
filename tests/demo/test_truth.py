import math

import geopandas as gpd
import pytest
from shapely.geometry import box

from darts_assets.demo import score

CRS = "EPSG:32608"


def frame(*shapes: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=list(shapes), crs=CRS)


def test_areas_and_objects_are_compared() -> None:
    truth = frame(box(0, 0, 10, 10), box(50, 0, 60, 10), box(80, 80, 90, 90))
    detected = frame(box(0, 0, 10, 5), box(50, 0, 60, 10), box(30, 30, 35, 35))
    result = score(detected, truth, frame(box(-5, -5, 100, 70)))
    assert (result.hits, result.misses, result.false_alarms) == (2, 0, 1)
    assert (result.true_area, result.detected_area) == (200, 175)
    assert result.iou == pytest.approx(150 / 225)


def test_what_lies_outside_the_extent_counts_for_nothing() -> None:
    truth = frame(box(0, 0, 10, 10), box(18, 0, 28, 10))
    detected = frame(box(0, 0, 10, 10), box(40, 0, 50, 10))
    result = score(detected, truth, frame(box(-5, -5, 20, 20)))
    # The second slump is mostly outside: no miss, but the sliver inside is area.
    assert (result.hits, result.misses, result.false_alarms) == (1, 0, 0)
    assert result.iou == pytest.approx(100 / 120)


def test_a_part_of_the_extent_may_be_missing() -> None:
    extent = frame(box(0, 0, 10, 10), box(20, 0, 30, 10))
    result = score(frame(), frame(box(21, 1, 25, 5), box(12, 0, 18, 5)), extent)
    assert (result.iou, result.hits, result.misses) == (0, 0, 1)


def test_nothing_to_find_and_nothing_found() -> None:
    result = score(frame(), frame(), frame(box(0, 0, 1, 1)))
    assert math.isnan(result.iou)
    assert (result.hits, result.misses, result.false_alarms) == (0, 0, 0)


def test_detections_may_be_in_another_crs() -> None:
    truth = frame(box(500000, 7650000, 500100, 7650100))
    result = score(truth.to_crs("EPSG:32609"), truth, frame(box(499000, 7649000, 501000, 7651000)))
    assert result.iou == pytest.approx(1, abs=1e-3)
