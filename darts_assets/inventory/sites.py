"""What is told of a site: a pure function of its detections and of the scenes that look at it."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.inventory.coverage import Looks, looks_at
from darts_assets.inventory.equal_area import EQUAL_AREA, Geometries, to_lonlat
from darts_assets.inventory.links import Indices
from darts_assets.inventory.site_outline import majority, union
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.table_schemas import SITE_COLUMNS

_OF_TABLE = ("site_id", "year", "lon", "lat", "area_ha")


def describe(
    detections: pd.DataFrame,
    sites: Indices,
    scenes: gpd.GeoDataFrame,
    extent_of: Callable[[str], gpd.GeoDataFrame],
    parameters: InventoryParameters,
    year: int,
) -> pd.DataFrame:
    """The table of sites, without their names.

    Args:
        detections: in the order of the inventory, `geometry` in `EQUAL_AREA`.
        sites: number of each detection's site, 0 to the number of sites - 1.
        scenes: all scenes of the year: `scene_id`, `datetime`, `family`, and their hulls.
        extent_of: the valid area of a scene.
        parameters: what observing means, and where outlines run.
        year: of the scenes.

    Returns:
        Columns as `SITE_COLUMNS` (`site_id` empty) and the outline, one row per site in the order of their numbers.
    """
    order = np.argsort(sites, kind="stable")
    starts = np.flatnonzero(np.diff(sites[order], prepend=-1))
    groups = [order[start:stop] for start, stop in pairwise([*starts.tolist(), len(order)])]
    shapes, ids = detections["geometry"].to_numpy(), detections["scene_id"].to_numpy(dtype=object)
    names = scenes["scene_id"].to_numpy(dtype=object)
    looks = looks_at(reaches(shapes, sites), dict(zip(names, scenes.geometry, strict=True)), extent_of)
    times = dict(zip(names, scenes["datetime"], strict=True))
    families = dict(zip(names, scenes["family"], strict=True))
    means, areas = detections["mean"].to_numpy(), detections["area_m2"].to_numpy()
    cut = detections["touches_edge"].to_numpy()
    rows: list[dict[str, Any]] = []
    outlines: list[BaseGeometry] = []
    for group, look in zip(groups, looks, strict=True):
        seen = {scene: _joined(shapes[group[ids[group] == scene]]) for scene in dict.fromkeys(ids[group])}
        outline = _outline(seen, look, parameters)
        observing = _observing(outline, seen, look, parameters)
        by_time = sorted(observing, key=lambda scene: (times[scene], scene))
        seeing = [scene for scene in by_time if scene in seen]
        outlines.append(outline)
        rows.append(
            {
                "seen": len(seen),
                "observable": len(observing),
                "days_seen": len({times[scene].date() for scene in seen}),
                "days_observable": len({times[scene].date() for scene in observing}),
                "first_date": times[seeing[0]],
                "last_date": times[seeing[-1]],
                # Exact sums do not depend on an order.
                "mean_probability": math.fsum(means[group] * areas[group]) / math.fsum(areas[group]),
                "seen_whole": not cut[group].all(),
                "families": ",".join(sorted({families[scene] for scene in seen})),
                "scenes": ",".join(seeing),
                "scenes_without": ",".join(scene for scene in by_time if scene not in seen),
            }
        )
    return _table(rows, outlines, year)


def reaches(shapes: Geometries, sites: Indices) -> Geometries:
    """The convex shape around the detections of each site.

    Args:
        shapes: of the detections.
        sites: number of each one's site, from 0 without gaps.
    """
    order = np.argsort(sites, kind="stable")
    together = shapely.geometrycollections(shapes[order], indices=sites[order])
    return np.asarray(shapely.convex_hull(together), dtype=object)


def no_sites(year: int) -> gpd.GeoDataFrame:
    """The table of sites, empty."""
    return gpd.GeoDataFrame(_table([], [], year), geometry="geometry", crs=EQUAL_AREA)


def _table(rows: list[dict[str, Any]], outlines: list[BaseGeometry], year: int) -> pd.DataFrame:
    shapes = np.array(outlines, dtype=object)
    lonlat = np.round(to_lonlat(shapely.point_on_surface(shapes)), 6)
    table = pd.DataFrame(rows, columns=[name for name in SITE_COLUMNS if name not in _OF_TABLE])
    table = table.assign(site_id="", year=year, lon=lonlat[:, 0], lat=lonlat[:, 1], area_ha=shapely.area(shapes) / 1e4)
    return table[list(SITE_COLUMNS)].astype(SITE_COLUMNS).assign(geometry=shapes)


def _joined(shapes: Any) -> BaseGeometry:
    return shapes[0] if len(shapes) == 1 else shapely.union_all(shapes)


def _outline(seen: Mapping[str, BaseGeometry], looks: Looks, parameters: InventoryParameters) -> BaseGeometry:
    if parameters.outline == "union":
        return union(list(seen.values()))
    return majority(list(seen.values()), [looks.get(scene, shape) for scene, shape in seen.items()])


def _observing(
    outline: BaseGeometry, seen: Mapping[str, BaseGeometry], looks: Looks, parameters: InventoryParameters
) -> set[str]:
    """The scenes that see the site or cover enough of its outline."""
    least = parameters.min_coverage * outline.area
    return set(seen) | {
        scene for scene, part in looks.items() if part is None or shapely.intersection(part, outline).area >= least
    }
