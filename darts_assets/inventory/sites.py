"""The table of sites: outlines, observing scenes and statistics, computed from detections and observed areas."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.equal_area import (
    CENTIMETRES,
    EQUAL_AREA,
    LEAST_AREA,
    Geometries,
    polygonal,
    tidy,
    to_equal_area,
    to_lonlat,
)
from darts_assets.inventory.links import Division, Indices, Links, divide
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.table_schemas import SITE_COLUMNS

_INTERVALS = ("area_se_ha", "area_df", "area_low_ha", "area_high_ha")
_DERIVED = ("site_id", "year", "lon", "lat", "area_ha", *_INTERVALS)

_COMPLETE = 0.999
"""Share of an area above which it counts as covered: coinciding edges of two scenes differ by up to a centimetre."""

Looks = dict[str, BaseGeometry | None]
"""Scene -> part of the convex hull of a site that its observed area covers, None for all of it."""

_MARGIN = 1.0
"""Metres by which bounding boxes may be too small after projection: coordinates are rounded, edges slightly curved."""


@dataclass(frozen=True, slots=True)
class Sites:
    """The sites of a number of detections.

    Attributes:
        site: site number of each detection, 0 to the number of sites - 1.
        looks: per site, the scenes that observe it or its surroundings at least in part.
        across: per site, scenes with a detection that lies across this site and belongs to another one.
        merging: whether each detection lies across another site; it does not shape its own.
    """

    site: Indices
    looks: list[Looks]
    across: list[set[str]]
    merging: npt.NDArray[np.bool_]


def divide_clusters(
    detections: pd.DataFrame, clusters: Indices, links: Links, looks: Sequence[Looks], parameters: InventoryParameters
) -> Sites:
    """Divide clusters of detections into sites by `links.divide`.

    Args:
        detections: in the order of the inventory, `geometry` in `EQUAL_AREA`.
        clusters: cluster of each detection, 0 to n - 1.
        links: links between the detections.
        looks: of each cluster.
        parameters: `min_support` and `min_coverage`.
    """
    shapes, ids = detections["geometry"].to_numpy(), detections["scene_id"].to_numpy(dtype=object)
    site = np.empty(len(detections), dtype=np.int64)
    result = Sites(site, [], [], np.zeros(len(detections), dtype=bool))
    of_link = clusters[links.one]
    link_order = np.argsort(of_link, kind="stable")
    link_ends = np.searchsorted(of_link[link_order], np.arange(len(looks) + 1))
    for cluster, members in enumerate(groups_of(clusters)):
        chosen = link_order[link_ends[cluster] : link_ends[cluster + 1]]
        one, other = (np.searchsorted(members, ends[chosen]) for ends in (links.one, links.other))
        local = Links(one, other, links.likeness[chosen])
        division = _divided(shapes[members], ids[members].tolist(), local, looks[cluster], parameters)
        result.merging[members[list(division.merging)]] = True
        site[members] = np.array(division.sites) + len(result.looks)
        count = max(division.sites) + 1
        result.across.extend(division.across.get(number, set()) for number in range(count))
        if count == 1:
            result.looks.append(looks[cluster])
            continue
        for reach in reaches(shapes[members], np.array(division.sites)):
            result.looks.append({scene: part and polygonal(part & reach) for scene, part in looks[cluster].items()})
    return result


def _divided(
    shapes: Geometries, scenes: Sequence[str], links: Links, looks: Looks, parameters: InventoryParameters
) -> Division:
    areas = shapely.area(shapes)
    observed: dict[str, set[int]] = {}
    for scene in set(scenes):
        part = looks.get(scene, shapely.Polygon())
        if part is not None:
            covered = shapely.area(shapely.intersection(part, shapes)) >= parameters.min_coverage * areas
            observed[scene] = set(np.flatnonzero(covered).tolist())
    return divide(links, scenes, observed, parameters.min_support)


def groups_of(numbers: Indices) -> list[Indices]:
    """The positions of each number 0 to n - 1, ascending."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return [order[start:stop] for start, stop in pairwise([*starts.tolist(), len(order)])]


def describe(
    detections: pd.DataFrame, sites: Sites, scenes: gpd.GeoDataFrame, parameters: InventoryParameters, year: int
) -> pd.DataFrame:
    """The table of sites, with `site_id` left empty.

    Args:
        detections: in the order of the inventory, `geometry` in `EQUAL_AREA`.
        sites: their sites.
        scenes: all scenes of the year: `scene_id`, `datetime`, `family`.
        parameters: `outline` and `min_coverage`.
        year: year of the scenes.

    Returns:
        Columns `SITE_COLUMNS` and the outline, one row per site number; the columns of intervals are NaN.
    """
    shapes, ids = detections["geometry"].to_numpy(), detections["scene_id"].to_numpy(dtype=object)
    names = scenes["scene_id"].to_numpy(dtype=object)
    times = dict(zip(names, scenes["datetime"], strict=True))
    families = dict(zip(names, scenes["family"], strict=True))
    means, areas = detections["mean"].to_numpy(), detections["area_m2"].to_numpy()
    cut = detections["touches_edge"].to_numpy()
    rows: list[dict[str, Any]] = []
    outlines: list[BaseGeometry] = []
    for group, look, across in zip(groups_of(sites.site), sites.looks, sites.across, strict=True):
        detecting = across | set(ids[group])
        single = group[~sites.merging[group]]
        group = single if len(single) else group
        seen = {scene: _joined(shapes[group[ids[group] == scene]]) for scene in dict.fromkeys(ids[group])}
        agreement = agreed(list(seen.values()), [look.get(scene, shape) for scene, shape in seen.items()])
        outline = union(list(seen.values())) if parameters.outline == "union" else agreement.outline
        covered = _covered(outline, look)
        observing = detecting | {scene for scene, area in covered.items() if area >= parameters.min_coverage}
        cut_off = set(ids[group[cut[group]]])
        whole = {
            scene: shape.area
            for scene, shape in seen.items()
            if scene not in cut_off and covered.get(scene, 0) >= _COMPLETE
        }
        by_time = sorted(observing, key=lambda scene: (times[scene], scene))
        seeing = [scene for scene in by_time if scene in detecting]
        outlines.append(outline)
        rows.append(
            {
                "seen": len(detecting),
                "observable": len(observing),
                "days_seen": len({times[scene].date() for scene in detecting}),
                "days_observable": len({times[scene].date() for scene in observing}),
                "first_date": times[seeing[0]],
                "last_date": times[seeing[-1]],
                # Exact sums do not depend on the order.
                "mean_probability": math.fsum(means[group] * areas[group]) / math.fsum(areas[group]),
                "seen_whole": not cut[group].all(),
                "families": ",".join(sorted({families[scene] for scene in detecting})),
                "scenes": ",".join(seeing),
                "scenes_without": ",".join(scene for scene in by_time if scene not in detecting),
                **{f"area_{100 * quarters // 4}_ha": area / 1e4 for quarters, area in agreement.areas.items()},
                **_daily_areas(whole, times),
            }
        )
    return _table(rows, outlines, year)


def reaches(shapes: Geometries, sites: Indices) -> Geometries:
    """The convex hull of each site's detections.

    Args:
        shapes: detections (n,).
        sites: site number of each detection, 0 to the number of sites - 1.
    """
    order = np.argsort(sites, kind="stable")
    together = shapely.geometrycollections(shapes[order], indices=sites[order])
    return np.asarray(shapely.convex_hull(together), dtype=object)


def no_sites(year: int) -> gpd.GeoDataFrame:
    """An empty table of sites."""
    return gpd.GeoDataFrame(_table([], [], year), geometry="geometry", crs=EQUAL_AREA)


def _table(rows: list[dict[str, Any]], outlines: list[BaseGeometry], year: int) -> pd.DataFrame:
    shapes = np.array(outlines, dtype=object)
    lonlat = np.round(to_lonlat(shapely.point_on_surface(shapes)), 6)
    table = pd.DataFrame(rows, columns=[name for name in SITE_COLUMNS if name not in _DERIVED])
    table = table.assign(site_id="", year=year, lon=lonlat[:, 0], lat=lonlat[:, 1], area_ha=shapely.area(shapes) / 1e4)
    table = table.assign(**dict.fromkeys(_INTERVALS, math.nan))
    return table[list(SITE_COLUMNS)].astype(SITE_COLUMNS).assign(geometry=shapes)


def _joined(shapes: Any) -> BaseGeometry:
    return shapes[0] if len(shapes) == 1 else shapely.union_all(shapes)


def _daily_areas(whole: Mapping[str, float], times: Mapping[str, Any]) -> dict[str, float]:
    """Number of days, mean and standard deviation (hectares) of areas in m2 by scene.

    Scenes of one day (neighbouring tiles, two baselines of one image) are not independent: they count with their mean.
    """
    days: dict[Any, list[float]] = {}
    for scene in sorted(whole):
        days.setdefault(times[scene].date(), []).append(whole[scene] / 1e4)
    areas = [math.fsum(values) / len(values) for _, values in sorted(days.items())]
    mean = math.fsum(areas) / len(areas) if areas else math.nan
    squares = math.fsum((area - mean) ** 2 for area in areas)
    deviation = math.sqrt(squares / (len(areas) - 1)) if len(areas) > 1 else math.nan
    return {"area_days": len(areas), "area_mean_ha": mean, "area_sd_ha": deviation}


def observers(
    outlines: Geometries,
    hulls: Mapping[str, BaseGeometry],
    observed_of: Callable[[str], gpd.GeoDataFrame],
    min_coverage: float,
) -> list[set[str]]:
    """The scenes whose observed area covers at least `min_coverage` of each outline; other arguments as `looks_at`."""
    looks = looks_at(outlines, hulls, observed_of)
    return [_observing(outline, look, min_coverage) for outline, look in zip(outlines, looks, strict=True)]


def _observing(outline: BaseGeometry, looks: Looks, min_coverage: float) -> set[str]:
    return {scene for scene, share in _covered(outline, looks).items() if share >= min_coverage}


def _covered(outline: BaseGeometry, looks: Looks) -> dict[str, float]:
    """Share of an outline that each scene observes."""
    parts = {scene: part for scene, part in looks.items() if part is not None}
    areas = shapely.area(shapely.intersection(np.array(list(parts.values()), dtype=object), outline))
    shares = dict(zip(parts, (areas / outline.area).tolist(), strict=True))
    return {scene: shares.get(scene, 1.0) for scene in looks}


def looks_at(
    reaches: Geometries, hulls: Mapping[str, BaseGeometry], observed_of: Callable[[str], gpd.GeoDataFrame]
) -> list[Looks]:
    """The scenes whose observed areas cover each site at least in part; one such area is in memory at a time.

    Args:
        reaches: convex hulls of the sites (n,), in `EQUAL_AREA`.
        hulls: scene -> convex hull of its observed area, in `EQUAL_AREA`; may be empty.
        observed_of: returns the observed area of a scene as disjoint polygons; called if its hull intersects a site.

    Returns:
        The scenes of each site, by id.
    """
    looks: list[Looks] = [{} for _ in reaches]
    tree = shapely.STRtree(reaches)
    for scene in sorted(hulls):
        near = np.sort(tree.query(hulls[scene], predicate="intersects"))
        if not len(near):
            continue
        polygons = _near(observed_of(scene), reaches[near])
        shapely.prepare(polygons)
        pairs = shapely.STRtree(polygons).query(reaches[near], predicate="intersects")
        for number in np.unique(pairs[0]):
            site = near[number]
            part = _part(polygons[np.sort(pairs[1][pairs[0] == number])], reaches[site])
            if part is None or not part.is_empty:
                looks[site][scene] = part
    return looks


def _near(table: gpd.GeoDataFrame, reaches: Geometries) -> Geometries:
    """The polygons of a table whose bounding boxes are near any of the sites, in `EQUAL_AREA`."""
    boxes = to_equal_area(gpd.GeoDataFrame(geometry=shapely.box(*table.bounds.to_numpy().T), crs=table.crs))
    near = shapely.STRtree(boxes).query(reaches, predicate="dwithin", distance=_MARGIN)[1]
    return to_equal_area(table.iloc[np.unique(near)])


def _part(polygons: Geometries, reach: BaseGeometry) -> BaseGeometry | None:
    """The part of `reach` within disjoint polygons, None for all of it."""
    if len(polygons) == 1 and polygons[0].covers(reach):
        return None
    # Clipping is linear in the points of a polygon (100,000 in a cloudy scene); its result may be invalid.
    box = np.array(reach.bounds) + np.array([-1, -1, 1, 1])
    around = [shapely.clip_by_rect(polygon, *box) for polygon in polygons]
    valid = [clip if clip.is_valid else polygon for clip, polygon in zip(around, polygons, strict=True)]
    part = polygonal(shapely.union_all([polygonal(shapely.intersection(each, reach)) for each in valid]))
    return None if part.area >= _COMPLETE * reach.area else part


def union(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """The union of shapes, in normal form."""
    return tidy(shapes[0] if len(shapes) == 1 else shapely.union_all(shapes))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the scenes agree about a site.

    Attributes:
        outline: area in which at least half of the observing scenes detect the site; the union if there is none. A
            valid Polygon or MultiPolygon in normal form.
        areas: number of quarters, 1 to 3 -> area in m2 in which at least that share of the observing scenes does.
    """

    outline: BaseGeometry
    areas: dict[int, float]


def agreed(seen: Sequence[BaseGeometry], looked: Sequence[BaseGeometry | None]) -> Agreement:
    """The agreement of the scenes that detect a site.

    Args:
        seen: detections of the site per scene, in `EQUAL_AREA`.
        looked: in the same order, the part of the site within the scene's observed area, None for all of it. A scene
            has no vote outside that area.
    """
    if len(seen) == 1:
        outline = union(seen)
        return Agreement(outline, dict.fromkeys((1, 2, 3), outline.area))
    partial = [part for part in looked if part is not None]
    lines = shapely.union_all(shapely.boundary([*seen, *partial]), grid_size=10.0**-CENTIMETRES)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    areas = shapely.area(faces)
    faces, areas = faces[areas > 0], areas[areas > 0]
    points = shapely.point_on_surface(faces)
    votes, voters = np.zeros(len(faces), dtype=int), np.full(len(faces), len(seen) - len(partial))
    for shape in seen:
        votes += _within(shape, points)
    for shape in partial:
        voters += _within(shape, points)
    shares = {quarters: math.fsum(areas[(votes > 0) & (4 * votes >= quarters * voters)]) for quarters in (1, 2, 3)}
    chosen = faces[(votes > 0) & (2 * votes >= voters)]
    outline = tidy(shapely.coverage_union_all(chosen)) if len(chosen) else shapely.Polygon()
    return Agreement(outline if outline.area >= LEAST_AREA else union(seen), shares)


def _within(shape: BaseGeometry, points: Geometries) -> npt.NDArray[np.bool_]:
    shapely.prepare(shape)
    inside: npt.NDArray[np.bool_] = shapely.contains_xy(shape, shapely.get_x(points), shapely.get_y(points))
    return inside
