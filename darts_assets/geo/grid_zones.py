"""The regions by which results are grouped: grid zones of the Military Grid Reference System, such as `08W`.

They span six degrees of longitude by eight of latitude. Ids of Sentinel-2 tiles start with them (`08WMB`).
"""

import math
import re
from itertools import pairwise
from typing import NamedTuple

_TILE = re.compile(r"T?(\d{1,2})([C-HJ-NP-X])[A-Z]{2}")
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SVALBARD = ((9, 31), (21, 33), (33, 35), (42, 37))  # eastern limit of a zone, its number


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


class GridZone(NamedTuple):
    """A region as a box in degrees: longitudes -180 to 180, latitudes -90 to 90."""

    name: str
    west: float
    south: float
    east: float
    north: float


def grid_zones() -> list[GridZone]:
    """All regions of `region_of` that are grid zones or polar caps; they cover the globe without overlap."""
    zones = [GridZone(name, west, -90, west + 180, -80) for name, west in (("A", -180), ("B", 0))]
    zones += [GridZone(name, west, 84, west + 180, 90) for name, west in (("Y", -180), ("Z", 0))]
    for number, band in enumerate(_BANDS):
        south = -80 + 8 * number
        north = 84 if band == "X" else south + 8
        edges = {-180 + 6 * column for column in range(61)}
        if band == "V":
            edges = edges - {6} | {3}
        elif band == "X":
            edges = edges - set(range(0, 42, 6)) | {0, *(end for end, _ in _SVALBARD)}
        ordered = sorted(edges)
        for west, east in pairwise(ordered):
            name = region_of(None, (west + east) / 2, (south + north) / 2)
            zones.append(GridZone(name, west, south, east, north))
    return zones
