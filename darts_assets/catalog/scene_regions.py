"""Bounding boxes in degrees that may cross the antimeridian."""

from collections.abc import Iterable, Sequence

import shapely
from shapely.geometry.base import BaseGeometry

Box = list[float]
"""West, south, east, north in degrees; west > east across the antimeridian (RFC 7946, section 5.2)."""

_TURN = 360.0
_DIGITS = 6


def box_of(geometry: BaseGeometry) -> Box:
    """The bounding box of a geometry that is cut at the antimeridian."""
    return covering(shapely.bounds(shapely.get_parts(geometry)).tolist())


def covering(boxes: Iterable[Sequence[float]]) -> Box:
    """The smallest box that covers all boxes; it excludes the widest gap between them along the parallel."""
    boxes = list(boxes)
    spans = sorted((west, east if east >= west else east + _TURN) for west, _, east, _ in boxes)
    end = max(east for _, east in spans) - _TURN  # eastern end of the boxes so far, one turn earlier
    widest, box_west, box_east = 0.0, -180.0, 180.0
    for west, east in spans:
        if west - end > widest:
            widest, box_west, box_east = west - end, west, end
        end = max(end, east)
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return [round(side, _DIGITS) for side in (box_west, south, _normal(box_east), north)]


def _normal(lon: float) -> float:
    return lon + _TURN if lon < -180 else lon - _TURN if lon > 180 else lon
