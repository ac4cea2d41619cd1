"""How well detections agree with the true outlines."""

from dataclasses import dataclass

import geopandas as gpd
import shapely


@dataclass(frozen=True, slots=True)
class Score:
    """Agreement of detections with the truth inside the area that was looked at.

    Attributes:
        iou: area of the intersection over area of the union; NaN where there is neither.
        hits: true slumps that a detection touches; slumps with less than half their area in the extent do not count.
        misses: true slumps that no detection touches.
        false_alarms: detections that touch no true slump.
        true_area: m2 of true slumps inside the extent.
        detected_area: m2 of detections inside the extent.
    """

    iou: float
    hits: int
    misses: int
    false_alarms: int
    true_area: float
    detected_area: float


def score(segments: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, extent: gpd.GeoDataFrame) -> Score:
    """Compare detections of one scene with the true outlines of that scene.

    Args:
        segments: detected polygons, any number.
        truth: true outlines; its CRS must be metric, and areas are measured in it.
        extent: the valid area; what lies outside counts for nothing.
    """
    looked_at = shapely.union_all(extent.to_crs(truth.crs).geometry.values)
    detected = shapely.intersection(segments.to_crs(truth.crs).geometry.values, looked_at)
    detected = detected[shapely.area(detected) > 0]
    outlines = truth.geometry.values
    inside = shapely.intersection(outlines, looked_at)
    all_detected, all_true = shapely.union_all(detected), shapely.union_all(inside)
    union = shapely.area(shapely.union(all_detected, all_true))
    seen = inside[shapely.area(inside) >= 0.5 * shapely.area(outlines)]
    hits = int(shapely.intersects(seen, all_detected).sum())
    return Score(
        iou=float(shapely.area(shapely.intersection(all_detected, all_true)) / union) if union else float("nan"),
        hits=hits,
        misses=len(seen) - hits,
        false_alarms=int((~shapely.intersects(detected, shapely.union_all(outlines))).sum()),
        true_area=float(shapely.area(all_true)),
        detected_area=float(shapely.area(all_detected)),
    )
