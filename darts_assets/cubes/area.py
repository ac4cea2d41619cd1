"""An area, any geometry in any CRS, in the pixels of a cube."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from darts_assets.errors import CubeError

GLOBE = 360.0

_STEP = 1000.0  # metres between the points of a densified edge: it sags by 4 mm
_EARTH_RADIUS = 6_371_000.0
_ROUNDING = 1e-9

Points = npt.NDArray[np.float64]


def without_jumps(lon: npt.NDArray[np.float64], what: str) -> npt.NDArray[np.float64]:
    """Longitudes along a ring, continued past 180 degrees where it crosses the antimeridian.

    Raises:
        CubeError: if the ring goes once around: it contains the pole, where a geographic grid has no columns.
    """
    lon = np.unwrap(lon, period=GLOBE)
    if abs(lon[-1] - lon[0]) > GLOBE / 2:
        raise CubeError(f"{what} contains the pole, where a geographic cube has no columns")
    return lon


def in_pixels(geometry: shapely.Geometry, crs: CRS, geobox: GeoBox, pad: float) -> Iterator[shapely.Geometry]:
    """The parts of an area in pixels of `geobox`, x to the right and y down, with densified edges.

    On a geographic grid that goes on past 180 degrees, a part that crosses the antimeridian comes twice: for who comes
    from the west, and for who lies east of it.

    Args:
        geometry: longitudes may go on past 180.
        crs: its CRS.
        geobox: a whole cube.
        pad: how far around the area pixels are needed, in units of the cube's CRS.

    Raises:
        CubeError: if the area cannot be projected, or, on a geographic grid, contains the pole.
    """
    own = CRS.from_user_input(str(geobox.crs))
    transform = Transformer.from_crs(crs, own, always_xy=True).transform
    bounds = "x {0:.6g}..{2:.6g}, y {1:.6g}..{3:.6g}".format(*shapely.bounds(geometry))
    what = f"the area {crs.to_string() if crs.to_epsg() else crs.name} {bounds}"

    def project(points: Points) -> Points:
        x, y = transform(*points.T)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise CubeError(f"{what} cannot be projected to {geobox.crs}")
        return np.stack([x, y], axis=1)

    def pixels(points: Points) -> Points:
        return np.stack(geobox.wld2pix(*points.T), axis=1)

    west = float(geobox.boundingbox.left)
    for part in shapely.get_parts(shapely.get_parts(shapely.segmentize(geometry, _step(crs)))):
        shape = shapely.transform(part, project)
        if not own.is_geographic:
            yield shapely.transform(shapely.make_valid(shape), pixels)
            continue
        shape = shapely.make_valid(_continued(shape, what))
        shape = _moved(shape, -math.floor((shapely.bounds(shape)[0] - pad - west) / GLOBE))
        yield shapely.transform(shape, pixels)
        if shapely.bounds(shape)[2] + pad > west + GLOBE:
            yield shapely.transform(_moved(shape, -1), pixels)


def _continued(part: shapely.Geometry, what: str) -> shapely.Geometry:
    """A point, line or polygon with longitudes that have no jumps."""

    def continued(points: Points) -> Points:
        return np.stack([without_jumps(points[:, 0], what), points[:, 1]], axis=1)

    if not isinstance(part, shapely.Polygon):
        return shapely.transform(part, continued)
    outer, *holes = (continued(shapely.get_coordinates(ring)) for ring in (part.exterior, *part.interiors))
    # A hole may have been continued from another turn than what it is a hole of.
    west = outer[:, 0].min() - _ROUNDING
    inner = [hole - np.array([GLOBE * math.floor((hole[:, 0].min() - west) / GLOBE), 0]) for hole in holes]
    return shapely.Polygon(outer, inner)


def _moved(shape: shapely.Geometry, turns: int) -> shapely.Geometry:
    return shapely.transform(shape, lambda points: points + np.array([turns * GLOBE, 0])) if turns else shape


def _step(crs: CRS) -> float:
    """How far apart the points of an edge may be, in units of the CRS."""
    unit = crs.axis_info[0].unit_conversion_factor or 1.0
    return _STEP / unit / (_EARTH_RADIUS if crs.is_geographic else 1)
