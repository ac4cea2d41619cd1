"""Regions by which results are grouped: zones of the Military Grid Reference System, such as `08W`.

They need no file, never change, and scenes of Sentinel-2 are named after them: tile `08WMB` lies in zone `08W`, six
degrees of longitude by eight of latitude.
"""

import math
import re

_TILE = re.compile(r"T?(\d{1,2})([C-HJ-NP-X])[A-Z]{2}")
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SVALBARD = ((9, 31), (21, 33), (33, 35), (42, 37))  # longitude up to which a zone goes, its number


def region_of(tile: str | None, lon: float, lat: float) -> str:
    """The region of a scene.

    Args:
        tile: of the Sentinel-2 grid, such as `08WMB`; anything else is ignored.
        lon: degrees east of the scene's middle, from -180 to 180.
        lat: degrees north.

    Returns:
        Number of the UTM zone (two digits) and latitude band, or one of `A B Y Z` around a pole.
    """
    if tile and (named := _TILE.fullmatch(tile)):
        return f"{int(named[1]):02d}{named[2]}"
    if not -80 <= lat < 84:
        return ("AB" if lat < 0 else "YZ")[lon >= 0]
    band = _BANDS[min(int((lat + 80) // 8), len(_BANDS) - 1)]  # the last one, X, is twelve degrees high
    zone = math.floor((lon + 180) / 6) % 60 + 1
    if band == "V" and 3 <= lon < 12:  # Norway
        zone = 32
    elif band == "X" and 0 <= lon < 42:
        zone = next(number for end, number in _SVALBARD if lon < end)
    return f"{zone:02d}{band}"
