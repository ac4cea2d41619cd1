"""Areas on the WGS 84 ellipsoid, independent of the projection of the geometries."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Geod, Transformer

if TYPE_CHECKING:
    import geopandas as gpd

_STEP = 1000.0
"""Metres between the points of an edge, which is straight in the projection and not a geodesic."""


def geodesic_areas(table: "gpd.GeoDataFrame") -> npt.NDArray[np.float64]:
    """Areas of the polygons of a table in square metres on the WGS 84 ellipsoid: float64 (n,).

    Args:
        table: polygons in a projected CRS in metres.
    """
    return geodesic_area(table.geometry.to_numpy(), table.crs)


def geodesic_area(geometries: npt.NDArray[np.object_], crs: Any) -> npt.NDArray[np.float64]:
    """Areas of polygons in square metres on the WGS 84 ellipsoid.

    Args:
        geometries: Polygons or MultiPolygons (n,), also across the antimeridian.
        crs: their CRS, projected in metres; anything that pyproj accepts.

    Returns:
        float64 (n,).
    """
    geod, to_lonlat = Geod(ellps="WGS84"), Transformer.from_crs(CRS(crs), "EPSG:4326", always_xy=True)
    parts, of_geometry = shapely.get_parts(shapely.segmentize(geometries, _STEP), return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points, of_point = shapely.get_coordinates(rings, return_index=True)
    lon, lat = to_lonlat.transform(points[:, 0], points[:, 1])
    ends = np.searchsorted(of_point, np.arange(len(rings) + 1))
    is_hole = np.diff(of_part, prepend=-1) == 0  # the first ring of a part is its outline
    areas = np.zeros(len(geometries))
    for ring, owner in enumerate(of_geometry[of_part]):
        area = abs(geod.polygon_area_perimeter(lon[ends[ring] : ends[ring + 1]], lat[ends[ring] : ends[ring + 1]])[0])
        areas[owner] += -area if is_hole[ring] else area
    return areas
