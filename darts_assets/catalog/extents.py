"""Bounding boxes in longitudes and latitudes; of one that crosses the antimeridian, west is east of east."""

from collections.abc import Iterable, Sequence

import shapely
from shapely.geometry.base import BaseGeometry

_TURN = 360.0
_DIGITS = 6

Box = list[float]
"""West, south, east, north in degrees, as GeoJSON has it (RFC 7946, section 5.2)."""


def box_of(geometry: BaseGeometry) -> Box:
    """The box of a geometry that is cut at the antimeridian."""
    return covering(shapely.bounds(shapely.get_parts(geometry)).tolist())


def covering(boxes: Iterable[Sequence[float]]) -> Box:
    """The smallest box that covers all: what it leaves out is the widest gap between them, anywhere on the parallel."""
    given = list(boxes)
    spans = sorted((west, east if east >= west else east + _TURN) for west, _, east, _ in given)
    end = max(east for _, east in spans) - _TURN  # of what the sweep has seen so far, from one turn before
    widest, box_west, box_east = 0.0, -180.0, 180.0
    for west, east in spans:
        if west - end > widest:
            widest, box_west, box_east = west - end, west, end
        end = max(end, east)
    south, north = min(box[1] for box in given), max(box[3] for box in given)
    return [round(side, _DIGITS) for side in (box_west, south, _normal(box_east), north)]


def _normal(lon: float) -> float:
    return lon + _TURN if lon < -180 else lon - _TURN if lon > 180 else lon
