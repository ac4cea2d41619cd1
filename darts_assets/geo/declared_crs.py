"""The CRS of a STAC item or asset, from the fields of the projection extension."""

import re
from collections.abc import Mapping
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

_EPSG = re.compile(
    r"(?:EPSG:|urn:(?:x-)?ogc:def:crs:EPSG:[\d.]*:|https?://www\.opengis\.net/def/crs/EPSG/[\d.]+/)?(\d+)(?:\.0*)?",
    re.IGNORECASE,
)
"""`EPSG:32608`, `urn:ogc:def:crs:EPSG::32608`, `http://www.opengis.net/def/crs/EPSG/0/32608`, 32608 and 32608.0."""


def declared_crs(fields: Mapping[str, Any]) -> str | None:
    """The CRS in `proj:code`, `proj:epsg`, `proj:projjson` or `proj:wkt2`; the first field with a value decides.

    Returns:
        `EPSG:32608` if the CRS has an EPSG code, else the value as text; None if the fields have no value.
    """
    for key in ("proj:code", "proj:epsg", "proj:projjson", "proj:wkt2"):
        if value := fields.get(key):
            return _epsg_code(value) or str(value)
    return None


def _epsg_code(value: object) -> str | None:
    if code := _EPSG.fullmatch(str(value).strip()):
        return f"EPSG:{int(code[1])}"
    try:
        number = CRS.from_user_input(value).to_epsg()
    except CRSError:
        return None
    return f"EPSG:{number}" if number else None
