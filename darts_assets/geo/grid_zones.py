"""The regions by which results are grouped: grid zones of the Military Grid Reference System, such as `08W`.

They span six degrees of longitude by eight of latitude. Ids of Sentinel-2 tiles start with them (`08WMB`).
"""

import math
import re

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
