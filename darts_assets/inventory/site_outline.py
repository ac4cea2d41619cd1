"""Where the outline of a site runs, given what several scenes have seen of it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.inventory.equal_area import CENTIMETRES, LEAST_AREA, Geometries, tidy


def union(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """All that any of the shapes covers, in normal form."""
    return tidy(shapes[0] if len(shapes) == 1 else shapely.union_all(shapes))


def majority(seen: Sequence[BaseGeometry], looked: Sequence[BaseGeometry | None]) -> BaseGeometry:
    """Where at least half of the scenes that look there see the site; the union, if that is nowhere.

    Args:
        seen: what each scene has detected of the site, in `EQUAL_AREA`.
        looked: in the same order, the part of the site that the scene's valid area covers, None for all of it: where
            a scene did not look, it has no vote.

    Returns:
        A valid Polygon or MultiPolygon in normal form.
    """
    if len(seen) == 1:
        return union(seen)
    partial = [part for part in looked if part is not None]
    lines = shapely.union_all(shapely.boundary([*seen, *partial]), grid_size=10.0**-CENTIMETRES)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    faces = faces[shapely.area(faces) > 0]
    points = shapely.point_on_surface(faces)
    votes, voters = np.zeros(len(faces), dtype=int), np.full(len(faces), len(seen) - len(partial))
    for shape in seen:
        votes += _within(shape, points)
    for shape in partial:
        voters += _within(shape, points)
    chosen = faces[(votes > 0) & (2 * votes >= voters)]
    outline = tidy(shapely.coverage_union_all(chosen)) if len(chosen) else shapely.Polygon()
    return outline if outline.area >= LEAST_AREA else union(seen)


def _within(shape: BaseGeometry, points: Geometries) -> npt.NDArray[np.bool_]:
    shapely.prepare(shape)
    inside: npt.NDArray[np.bool_] = shapely.contains_xy(shape, shapely.get_x(points), shapely.get_y(points))
    return inside
