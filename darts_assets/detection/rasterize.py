"""Masks re-made from polygons: the exact inverse of `vectorize`, because the polygons are outlines of pixels."""

import geopandas as gpd
import numpy as np
import rasterio.features
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from darts_assets.detection.objects import Mask


def binarized_from(segments: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """The detections, bool of shape `geobox.shape`, from their polygons; any part of the tile's grid will do.

    Raises:
        ValueError: if the polygons are in another CRS than the grid.
    """
    return _inside(segments, geobox)


def extent_from(extent: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """The valid area, bool of shape `geobox.shape`, from its polygons; any part of the tile's grid will do.

    Raises:
        ValueError: if the polygons are in another CRS than the grid.
    """
    return _inside(extent, geobox)


def _inside(polygons: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """Pixels whose centre is inside a polygon."""
    if CRS(polygons.crs) != geobox.crs:
        raise ValueError(f"the polygons are in {polygons.crs}, the grid in {geobox.crs}")
    nearby = polygons.geometry.array[polygons.sindex.query(box(*geobox.boundingbox))]
    if not len(nearby):
        return np.zeros(geobox.shape, dtype=bool)
    burnt = rasterio.features.rasterize(nearby, out_shape=geobox.shape, transform=geobox.affine, dtype=np.uint8)
    return np.asarray(burnt).view(bool)
