"""Whether the polygons of a scene are what they must be, whoever wrote them."""

from collections.abc import Collection

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS

_SHOWN = 3
_INSIDE = 0.5  # pixels by which a geometry may stand out of the grid: rounding of coordinates


def segment_faults(
    segments: gpd.GeoDataFrame, geobox: GeoBox, columns: Collection[str], min_object_size: int
) -> list[str]:
    """What is wrong with a table of detections, in sentences.

    Args:
        segments: as `vectorize.segments` makes it.
        geobox: grid of the scene.
        columns: that it must have.
        min_object_size: pixels of the smallest object.
    """
    faults = geometry_faults(segments, geobox, columns)
    if faults:
        return faults  # without its columns nothing else can be said of it
    ids = segments["Region_ID"]
    if ids.duplicated().any():
        faults.append(f"Region_ID is not unique: {_some(ids[ids.duplicated()].unique())}")
    small = segments["npixel"] < min_object_size
    if small.any():
        faults.append(f"objects under {min_object_size} pixels: Region_ID {_some(ids[small])}")
    figures = segments[["min", "median", "mean", "max"]].to_numpy()
    if not bool(((figures >= 0) & (figures <= 1)).all() and (figures[:, 0] <= figures[:, 3]).all()):
        faults.append("probabilities of objects that are not between 0 and 1, or a lowest above the highest")
    return faults


def geometry_faults(table: gpd.GeoDataFrame, geobox: GeoBox, columns: Collection[str]) -> list[str]:
    """What is wrong with the columns, CRS and geometries of a table of polygons, in sentences; arguments as above."""
    absent = [name for name in columns if name not in table.columns]
    if absent:
        return [f"columns are missing: {', '.join(absent)}"]
    crs = CRS(str(geobox.crs))
    if table.crs is None or not table.crs.equals(crs):
        return [f"the CRS is {table.crs and table.crs.to_string()}, that of the scene {crs.to_string()}"]
    geometry = table.geometry.to_numpy()
    faults = []
    no_area = ~np.isin(shapely.get_type_id(geometry), (3, 6)) | shapely.is_empty(geometry)  # (Multi)Polygon
    if no_area.any():
        faults.append(f"geometries that are no polygons, or empty: rows {_some(np.flatnonzero(no_area))}")
    invalid = ~shapely.is_valid(geometry) & ~no_area
    if invalid.any():
        first = int(np.flatnonzero(invalid)[0])
        reason = shapely.is_valid_reason(geometry[first])
        faults.append(f"invalid geometries: rows {_some(np.flatnonzero(invalid))} ({reason})")
    scene = geobox.extent.geom.buffer(_INSIDE * abs(geobox.resolution.x))
    outside = ~shapely.covers(scene, geometry) & ~no_area
    if outside.any():
        faults.append(f"geometries outside of the scene: rows {_some(np.flatnonzero(outside))}")
    return faults


def _some(items: Collection[object]) -> str:
    shown = ", ".join(str(item) for item in list(items)[:_SHOWN])
    return shown if len(items) <= _SHOWN else f"{shown} and {len(items) - _SHOWN} more"
