"""Areas of the polar grid in longitudes and latitudes, as searches of STAC APIs want them."""

import numpy as np
import shapely
from odc.geo.geom import BoundingBox
from pyproj import Transformer
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from darts_assets.cubes.mosaic import CRS

_STEP = 10_000  # metres between points of an edge; the line through two of them sags by 6 m 2000 km from the pole


def lonlat_area(box: BoundingBox) -> BaseGeometry:
    """A box in EPSG:3413 as a polygon in EPSG:4326, or as two where it is cut at the antimeridian.

    A box around the pole becomes a band from -180 to 180 degrees that ends at 90: in longitudes and latitudes, the
    box's own edge encloses nothing.

    Args:
        box: its edge must not run through the pole, where there is no longitude.
    """
    ring = shapely.segmentize(shapely.box(box.left, box.bottom, box.right, box.top).exterior, _STEP)
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*ring.xy)
    lon = np.unwrap(lon, period=360)
    around_pole = abs(lon[-1] - lon[0]) > 180
    closing = [(lon[-1], 90.0), (lon[0], 90.0)] if around_pole else []
    area = shapely.Polygon([*zip(lon, lat, strict=True), *closing])
    turns = [translate(area & shapely.box(turn - 180, -90, turn + 180, 90), -turn) for turn in (-360, 0, 360)]
    return shapely.union_all(turns)
