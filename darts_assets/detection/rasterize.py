"""Masks re-made from polygons: the exact inverse of `outlines`, because the polygons are outlines of pixels."""

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from darts_assets.detection.objects import Mask
from darts_assets.tiles import row_windows

TOLERANCE = 1e-3
"""Pixels by which a corner of a polygon may miss a vertex of the grid."""


def binarized_from(segments: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """The detections, bool of shape `geobox.shape`, from their polygons; any part of the tile's grid will do.

    Raises:
        ValueError: if the polygons are in another CRS than the grid, or not outlines of its pixels.
    """
    return _inside(segments, geobox)


def extent_from(extent: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """The valid area, bool of shape `geobox.shape`, from its polygons; any part of the tile's grid will do.

    Raises:
        ValueError: if the polygons are in another CRS than the grid, or not outlines of its pixels.
    """
    return _inside(extent, geobox)


def _inside(polygons: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """Pixels inside the polygons: those below an odd number of their horizontal edges."""
    if CRS(polygons.crs) != geobox.crs:
        raise ValueError(f"the polygons are in {polygons.crs}, the grid in {geobox.crs}")
    height, width = geobox.shape
    mask = np.zeros((height, width), dtype=bool)
    row, left, right = _horizontal_edges(polygons, geobox)
    # What lies above this part of the grid acts on its first row.
    row, left, right = np.maximum(row, 0), np.clip(left, 0, width), np.clip(right, 0, width)
    # In order, each two ends in a row are those of a stretch of pixels below an odd number of its edges.
    ends = np.sort(np.concatenate([row * (width + 1) + left, row * (width + 1) + right]))
    starts, stops = ends[0::2], ends[1::2]
    for rows in row_windows(height):
        here = slice(*np.searchsorted(starts, (rows.start * (width + 1), rows.stop * (width + 1))))
        lengths = stops[here] - starts[here]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        mask[np.divmod(np.repeat(starts[here], lengths) + within, width + 1)] = True
        for y in range(max(rows.start, 1), rows.stop):
            np.logical_xor(mask[y], mask[y - 1], out=mask[y])
    return mask


def _horizontal_edges(
    polygons: gpd.GeoDataFrame, geobox: GeoBox
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row, left and right column (int64) of the polygons' horizontal edges, in vertices of the grid."""
    rings = shapely.get_rings(shapely.get_parts(polygons.geometry.to_numpy()))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    exact = np.stack(geobox.wld2pix(points[:, 0], points[:, 1]), axis=-1)
    corners = np.rint(exact).astype(np.int64)
    same_ring = ring[1:] == ring[:-1]
    start, stop = corners[:-1][same_ring], corners[1:][same_ring]
    horizontal, vertical = (start[:, axis] == stop[:, axis] for axis in (1, 0))
    if not (horizontal | vertical).all() or (np.abs(exact - corners) > TOLERANCE).any():
        raise ValueError("the polygons are not outlines of pixels of this grid")
    columns = np.sort(np.stack([start[horizontal, 0], stop[horizontal, 0]]), axis=0)
    return start[horizontal, 1], columns[0], columns[1]
