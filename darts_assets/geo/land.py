"""Land areas of the Earth, as a background of small maps.

`land.json` contains the 1:110 million land polygons of Natural Earth (public domain, naturalearthdata.com), rounded to
0.01 degrees, without Antarctica and the smallest islands. It is too coarse for analysis.
"""

import functools
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import shapely

LAND_FILE = "land.json"


@functools.cache
def land() -> "shapely.MultiPolygon":
    """Land north of 56 degrees south in EPSG:4326, cut at the antimeridian."""
    import shapely

    geometry = shapely.from_geojson(files("darts_assets.geo").joinpath(LAND_FILE).read_text(encoding="utf-8"))
    if not isinstance(geometry, shapely.MultiPolygon):
        raise TypeError(f"{LAND_FILE}: expected a multipolygon, not {geometry.geom_type}")
    return geometry
