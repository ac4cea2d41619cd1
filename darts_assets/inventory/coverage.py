"""Which scenes look at which sites, and at how much of each."""

from collections.abc import Callable, Mapping

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.inventory.equal_area import Geometries, polygonal, to_equal_area

_ALL = 0.999
"""Covering so much is covering all: edges of two scenes that coincide do so within a centimetre."""

Looks = dict[str, BaseGeometry | None]
"""Scene -> what its valid area covers of the convex shape around a site, None for all of it."""


def looks_at(
    reaches: Geometries, hulls: Mapping[str, BaseGeometry], extent_of: Callable[[str], gpd.GeoDataFrame]
) -> list[Looks]:
    """The scenes that look at sites; the extent of one scene is in memory at a time.

    Args:
        reaches: n convex shapes in `EQUAL_AREA` around all that was ever detected of each site.
        hulls: scene -> convex shape around its valid area, in `EQUAL_AREA`; empty where it has none.
        extent_of: the valid area of a scene, polygons that do not overlap; called where a site is within the hull.

    Returns:
        For each site, its scenes, by id.
    """
    looks: list[Looks] = [{} for _ in reaches]
    tree = shapely.STRtree(reaches)
    for scene in sorted(hulls):
        near = np.sort(tree.query(hulls[scene], predicate="intersects"))
        if not len(near):
            continue
        extent = shapely.MultiPolygon(shapely.get_parts(to_equal_area(extent_of(scene))).tolist())
        shapely.prepare(extent)
        seen = near[shapely.intersects(extent, reaches[near])]
        for site, whole in zip(seen, shapely.covers(extent, reaches[seen]), strict=True):
            part = None if whole else _part(extent, reaches[site])
            if part is None or not part.is_empty:
                looks[site][scene] = part
    return looks


def _part(extent: BaseGeometry, reach: BaseGeometry) -> BaseGeometry | None:
    """What of a shape is in the extent, None for all of it."""
    # Clipping is linear in the extent's points, of which a cloudy scene has 100,000; its result may be invalid.
    around = shapely.clip_by_rect(extent, *(np.array(reach.bounds) + np.array([-1, -1, 1, 1])))
    part = polygonal(shapely.intersection(around if around.is_valid else extent, reach))
    return None if part.area >= _ALL * reach.area else part
