"""Areas and footprints in the form of catalogs: longitudes from -180 to 180, cut at the antimeridian."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from shapely.affinity import translate
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from darts_assets.errors import SettingsError

_TURN = 360.0
_HALF_TURN = 180.0
_STEP = 5_000.0  # metres between the points of a densified edge; its sagitta is half a metre
_MOST_POINTS = 500_000
_PIXEL = 1e-5  # degrees, about a metre; buffer of points and lines

Points = npt.NDArray[np.float64]


def lonlat_area(area: BaseGeometry, crs: CRS) -> shapely.MultiPolygon:
    """An area in EPSG:4326, cut at the antimeridian; points and lines become polygons a metre wide.

    Args:
        area: any geometry; longitudes may exceed 180 degrees.
        crs: its CRS. In a projected CRS, edges are densified, and may go around a pole.

    Raises:
        SettingsError: if the area cannot be projected, or has edges that are longer than any on Earth.
    """
    transform = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform

    def project(points: Points) -> Points:
        lon, lat = transform(*points.T)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise SettingsError(f"the area cannot be projected from {crs.name} to longitudes and latitudes")
        return np.stack([lon, lat], axis=1)

    if not crs.is_geographic:
        step = _STEP / (crs.axis_info[0].unit_conversion_factor or 1.0)
        if not area.length / step < _MOST_POINTS:
            raise SettingsError(
                f"the edges of the area have a length of {area.length:.3g} in the units of {crs.name}: check its CRS"
            )
        area = shapely.segmentize(area, step)
    elif crs.to_epsg() == 4326:
        return _cut([area])
    return _cut([_continued(shapely.transform(part, project)) for part in shapely.get_parts(shapely.get_parts(area))])


def lonlat_polygons(geometries: npt.NDArray[np.object_], crs: CRS) -> npt.NDArray[np.object_]:
    """Polygons (n,) in EPSG:4326, valid and cut at the antimeridian; `crs` is a projected CRS in metres."""
    transform = _to_lonlat(crs).transform
    lonlat: npt.NDArray[np.object_] = shapely.transform(
        geometries, lambda points: np.stack(transform(*points.T), axis=1)
    )
    bounds = shapely.bounds(lonlat).reshape(-1, 4)
    for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > _HALF_TURN):
        lonlat[index] = lonlat_area(geometries[index], crs)
    invalid = ~shapely.is_valid(lonlat)
    lonlat[invalid] = shapely.make_valid(lonlat[invalid])
    return lonlat


@lru_cache(maxsize=128)  # creation takes 20 ms; 60 UTM zones
def _to_lonlat(crs: CRS) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def footprint(geometry: Mapping[str, Any] | None) -> BaseGeometry | None:
    """The footprint of a STAC item as a valid geometry cut at the antimeridian, None without a geometry.

    Footprints that span the globe instead of crossing the antimeridian, and invalid ones, are repaired.
    """
    try:
        polygon = shape(dict(geometry)) if geometry else None
    except (shapely.errors.ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    if polygon is None or polygon.is_empty:
        return None
    parts = shapely.get_parts(polygon)
    if any(crosses_antimeridian(part) for part in parts):
        return _cut([_continued(part) if crosses_antimeridian(part) else part for part in parts])
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def crosses_antimeridian(part: BaseGeometry) -> bool:
    """Whether an edge spans more than half of the globe; a whole turn is the border of a world map."""
    ring = part.exterior if isinstance(part, shapely.Polygon) else part
    steps = np.abs(np.diff(shapely.get_coordinates(ring)[:, 0]))
    return bool(((steps > _HALF_TURN) & (steps < _TURN)).any())


def _continued(part: BaseGeometry) -> BaseGeometry:
    """A point, line or polygon with continuous longitudes, which may exceed 180."""
    if not isinstance(part, shapely.Polygon):
        return shapely.transform(part, _without_jumps)
    inside = _enclosed(part.exterior)
    for hole in part.interiors:
        # The longitudes of a hole may be whole turns away from those of its polygon.
        hollow = _enclosed(hole)
        inside = inside - shapely.union_all([translate(hollow, turn * _TURN) for turn in range(-2, 3)])
    return inside


def _enclosed(ring: BaseGeometry) -> BaseGeometry:
    """The polygon of a ring; a ring around the globe is closed at its pole."""
    points = _without_jumps(shapely.get_coordinates(ring))
    if abs(points[-1, 0] - points[0, 0]) > _HALF_TURN:
        pole = np.copysign(90.0, points[:, 1].mean())
        points = np.concatenate([points, [[points[-1, 0], pole], [points[0, 0], pole]]])
    return shapely.make_valid(shapely.Polygon(points))


def _without_jumps(points: Points) -> Points:
    return np.stack([np.unwrap(points[:, 0], period=_TURN), points[:, 1]], axis=1)


def _cut(shapes: list[BaseGeometry]) -> shapely.MultiPolygon:
    """Geometries with longitudes that may exceed 180, as polygons between -180 and 180."""
    whole = shapely.union_all([shapely.make_valid(geometry) for geometry in shapes])
    parts = shapely.get_parts(shapely.get_parts(whole))
    polygons = [part if part.geom_type == "Polygon" else part.buffer(_PIXEL) for part in parts]
    turns = (-_TURN, 0, _TURN)
    inside = [
        translate(shapely.union_all(polygons) & shapely.box(turn - _HALF_TURN, -90, turn + _HALF_TURN, 90), -turn)
        for turn in turns
    ]
    pieces = shapely.get_parts(shapely.get_parts(shapely.union_all(inside)))
    return shapely.MultiPolygon([piece for piece in pieces if piece.geom_type == "Polygon"])
