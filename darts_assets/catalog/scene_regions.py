"""Bounding boxes in degrees that may cross the antimeridian, and the regions by which results are grouped.

Regions are grid zones of the Military Grid Reference System, such as `08W`: six degrees of longitude by eight of
latitude. Ids of Sentinel-2 tiles start with them (`08WMB`).
"""

import math
import re
from collections.abc import Iterable, Sequence

import shapely
from shapely.geometry.base import BaseGeometry

Box = list[float]
"""West, south, east, north in degrees; west > east across the antimeridian (RFC 7946, section 5.2)."""

_TURN = 360.0
_DIGITS = 6

_TILE = re.compile(r"T?(\d{1,2})([C-HJ-NP-X])[A-Z]{2}")
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SVALBARD = ((9, 31), (21, 33), (33, 35), (42, 37))  # eastern limit of a zone, its number


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


def region_of(tile: str | None, lon: float, lat: float) -> str:
    """The region of a scene.

    Args:
        tile: Sentinel-2 tile, such as `08WMB`; other values are ignored.
        lon: longitude of the scene's centre, -180 to 180 degrees east.
        lat: latitude of the scene's centre, degrees north.

    Returns:
        UTM zone number (two digits) and latitude band, or one of `A B Y Z` around a pole.
    """
    if tile and (match := _TILE.fullmatch(tile)):
        return f"{int(match[1]):02d}{match[2]}"
    if not -80 <= lat < 84:
        return ("AB" if lat < 0 else "YZ")[lon >= 0]
    band = _BANDS[min(int((lat + 80) // 8), len(_BANDS) - 1)]  # band X spans twelve degrees
    zone = math.floor((lon + 180) / 6) % 60 + 1
    if band == "V" and 3 <= lon < 12:  # Norway
        zone = 32
    elif band == "X" and 0 <= lon < 42:
        zone = next(number for end, number in _SVALBARD if lon < end)
    return f"{zone:02d}{band}"


def _normal(lon: float) -> float:
    return lon + _TURN if lon < -180 else lon - _TURN if lon > 180 else lon
