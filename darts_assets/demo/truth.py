"""Agreement of detections with the true outlines."""

from dataclasses import dataclass

import geopandas as gpd
import shapely


@dataclass(frozen=True, slots=True)
class Score:
    """Agreement of detections with the truth inside the valid area.

    Attributes:
        iou: intersection over union of the areas; NaN if both are empty.
        hits: true slumps that intersect a detection, of those with at least half of their area in the extent.
        misses: true slumps without a detection.
        false_alarms: detections that intersect no true slump.
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
        extent: valid area; everything outside is ignored.
    """
    valid = shapely.union_all(extent.to_crs(truth.crs).geometry.values)
    detected = shapely.intersection(segments.to_crs(truth.crs).geometry.values, valid)
    detected = detected[shapely.area(detected) > 0]
    outlines = truth.geometry.values
    inside = shapely.intersection(outlines, valid)
    all_detected, all_true = shapely.union_all(detected), shapely.union_all(inside)
    union = shapely.area(shapely.union(all_detected, all_true))
    visible = inside[shapely.area(inside) >= 0.5 * shapely.area(outlines)]
    hits = int(shapely.intersects(visible, all_detected).sum())
    return Score(
        iou=float(shapely.area(shapely.intersection(all_detected, all_true)) / union) if union else float("nan"),
        hits=hits,
        misses=len(visible) - hits,
        false_alarms=int((~shapely.intersects(detected, shapely.union_all(outlines))).sum()),
        true_area=float(shapely.area(all_true)),
        detected_area=float(shapely.area(all_detected)),
    )
