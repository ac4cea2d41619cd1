"""Strata of the observed area: detected slumps by probability, their surroundings, and the rest, by region.

They are disjoint and together are the observed area, so that their areas in an equal-area projection are exact weights.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.errors import SettingsError
from darts_assets.geo.equal_area import LEAST_AREA, polygonal
from darts_assets.geo.grid_zones import grid_zones

DETECTED, NOT_DETECTED = "detected", "not_detected"
"""Classes of the map."""

STRATUM_COLUMNS = {
    "stratum": "str",
    "region": "str",
    "map_class": "str",
    "kind": "str",
    "area_ha": "float64",
    "expected_share": "float64",
}

_ALL = "all"
_DEGREES = 0.01  # between points of an edge: parallels deviate by a centimetre between them


def strata_of(observed: BaseGeometry, sites: gpd.GeoDataFrame, parameters: SampleParameters) -> gpd.GeoDataFrame:
    """The strata of an observed area.

    A stratum is a `kind` in a region: `detected-LOW-HIGH` is the area within outlines whose mean probability is at
    least LOW and less than HIGH (where outlines overlap, the highest counts), `near` the area within `near_distance`
    of an outline, and `rest` everything else. Kinds that a region does not have are left out.

    Args:
        observed: polygons of the area that scenes observe, in the CRS of the sites.
        sites: `mean_probability` and outlines, in an equal-area CRS in metres on the northern hemisphere.
        parameters: classes, distance and regions.

    Returns:
        `STRATUM_COLUMNS` and `geometry`; `expected_share` is the conjectured fraction of slumps in the stratum: the
        mean probability of its sites weighted by area, `expected_near` or `expected_rest`. By region and kind.

    Raises:
        SettingsError: if the observed area is empty.
    """
    if shapely.area(observed) < LEAST_AREA:
        raise SettingsError("the observed area is empty: there is nothing to draw a sample from")
    kinds = list(_kinds(sites, parameters))
    rows = []
    for region, area in _regions(observed, sites.crs, parameters):
        remaining = area
        for kind, map_class, share, shape in kinds:
            part = remaining if shape is None else polygonal(shapely.intersection(remaining, shape))
            if shape is not None:
                remaining = polygonal(shapely.difference(remaining, shape))
            if shapely.area(part) >= LEAST_AREA:
                rows.append((f"{region}/{kind}", region, map_class, kind, shapely.area(part) / 1e4, share, part))
    table = pd.DataFrame(rows, columns=[*STRATUM_COLUMNS, "geometry"]).astype(STRATUM_COLUMNS)
    return gpd.GeoDataFrame(table, geometry="geometry", crs=sites.crs)


def _kinds(
    sites: gpd.GeoDataFrame, parameters: SampleParameters
) -> Iterator[tuple[str, str, float, BaseGeometry | None]]:
    """Kind, class of the map, expected share and area of each kind, the former ones first; None: what remains."""
    outlines = np.asarray(shapely.make_valid(sites.geometry.to_numpy()), dtype=object)
    probability = np.nan_to_num(sites["mean_probability"].to_numpy(dtype=np.float64))
    edges = [0.0, *parameters.probability_edges, 1.0]
    number = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)
    for index, (low, high) in reversed(list(enumerate(pairwise(edges)))):
        chosen = number == index
        weights = shapely.area(outlines[chosen])
        if weights.sum() > 0:
            share = float(np.clip(np.average(probability[chosen], weights=weights), 0.01, 0.99))
            yield f"detected-{low:g}-{high:g}", DETECTED, share, shapely.union_all(outlines[chosen])
    if len(outlines):
        around = shapely.union_all(shapely.buffer(outlines, parameters.near_distance))
        yield "near", NOT_DETECTED, parameters.expected_near, around
    yield "rest", NOT_DETECTED, parameters.expected_rest, None


def _regions(observed: BaseGeometry, crs: CRS, parameters: SampleParameters) -> list[tuple[str, BaseGeometry]]:
    """The observed area by region, small regions with the nearest other one."""
    if not parameters.by_region:
        return [(_ALL, observed)]
    shapely.prepare(observed)
    parts = {}
    for name, shape in _zones(crs):
        if shapely.intersects(observed, shape):
            part = polygonal(shapely.intersection(observed, shape))
            if shapely.area(part) >= LEAST_AREA:
                parts[name] = part
    least = parameters.least_region_share * shapely.area(observed)
    large = {name: part for name, part in parts.items() if shapely.area(part) >= least} or parts
    members: dict[str, list[BaseGeometry]] = {name: [part] for name, part in large.items()}
    for name, part in parts.items():
        if name not in large:
            members[min(large, key=lambda other: (shapely.distance(large[other], part), other))].append(part)
    return [(name, shapely.union_all(of_region)) for name, of_region in sorted(members.items())]


@lru_cache(maxsize=2)
def _zones(crs: CRS) -> list[tuple[str, BaseGeometry]]:
    """The regions of the northern hemisphere as polygons in a CRS."""
    zones = [zone for zone in grid_zones() if zone.south >= 0]
    boxes = [_box(zone.west, zone.south, zone.east, zone.north) for zone in zones]
    projected = gpd.GeoSeries(boxes, crs="EPSG:4326").to_crs(crs).to_numpy()
    return list(zip([zone.name for zone in zones], shapely.make_valid(projected), strict=True))


def _box(west: float, south: float, east: float, north: float) -> shapely.Polygon:
    """A box with points along its parallels, which are curves in the projection; its meridians are straight there."""
    along: npt.NDArray[np.float64] = np.linspace(west, east, round((east - west) / _DEGREES) + 1)
    lower = np.stack([along, np.full_like(along, south)], axis=1)
    upper = np.stack([along[::-1], np.full_like(along, north)], axis=1)
    return shapely.Polygon(np.concatenate([lower, upper[:1] if north == 90 else upper]))
