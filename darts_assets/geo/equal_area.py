"""The common equal-area projection, around the north pole and without a cut at the antimeridian."""

from functools import lru_cache

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

EQUAL_AREA = "EPSG:6931"
"""NSIDC EASE-Grid 2.0 North, a Lambert azimuthal equal-area projection in metres. Lengths are distorted by 2 % at 67
degrees north and 3.5 % at 60."""

CENTIMETRES = 2
"""Decimals of coordinates. Rounding joins coinciding edges of two scenes, and files are smaller."""

LEAST_AREA = 1.0
"""m2; smaller parts and holes are artefacts of nearly coinciding edges."""

_STEP = 1000.0  # largest distance between points of an edge, metres; deviates by centimetres between them

Geometries = npt.NDArray[np.object_]


def to_equal_area(table: gpd.GeoDataFrame) -> Geometries:
    """Polygons of a table as valid geometries in `EQUAL_AREA`, rounded to centimetres.

    Args:
        table: polygons in a projected CRS in metres.
    """
    transformer = _transformer(table.crs)

    def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.round(np.stack(transformer.transform(*points.T), axis=1), CENTIMETRES)

    projected: Geometries = shapely.transform(shapely.segmentize(table.geometry.to_numpy(), _STEP), project)
    wrong = ~shapely.is_valid(projected)
    projected[wrong] = [polygonal(shapely.make_valid(each)) for each in projected[wrong]]
    return projected


def hull_of(*tables: gpd.GeoDataFrame) -> BaseGeometry:
    """Convex hull of the geometries of tables with a common CRS, in `EQUAL_AREA`; empty for empty tables."""
    shapes = np.concatenate([table.geometry.to_numpy() for table in tables])
    if not len(shapes):
        return shapely.Polygon()
    around = shapely.convex_hull(shapely.geometrycollections(shapes))
    projected: BaseGeometry = to_equal_area(gpd.GeoDataFrame(geometry=[around], crs=tables[0].crs))[0]
    return projected


def to_lonlat(points: Geometries) -> npt.NDArray[np.float64]:
    """Longitudes and latitudes in degrees of points in `EQUAL_AREA`: float64 (n, 2), longitudes in [-180, 180)."""
    lon, lat = _transformer(CRS("EPSG:4326")).transform(
        shapely.get_x(points), shapely.get_y(points), direction="INVERSE"
    )
    return np.stack([(np.asarray(lon) + 180) % 360 - 180, lat], axis=1)


def polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of a geometry, without the lines and points that overlays produce."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()


def tidy(geometry: BaseGeometry) -> BaseGeometry:
    """A geometry in normal form, without parts and holes below `LEAST_AREA`."""
    parts = []
    for part in shapely.get_parts(polygonal(geometry)):
        holes = [ring for ring in part.interiors if shapely.area(shapely.Polygon(ring)) >= LEAST_AREA]
        if shapely.area(part) >= LEAST_AREA:
            parts.append(part if len(holes) == len(part.interiors) else shapely.Polygon(part.exterior, holes))
    return shapely.normalize(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))


@lru_cache(maxsize=128)  # creation takes 20 ms; 60 UTM zones
def _transformer(crs: CRS) -> Transformer:
    return Transformer.from_crs(crs, EQUAL_AREA, always_xy=True)
