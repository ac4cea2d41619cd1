"""The profile `darts`: Level 1 and Level 2 in the layout of the DARTS database (Nitze et al. 2025).

Its Level 2 is the maximum extent of each calendar year: touching detections of the year are dissolved to one feature.
Of its columns, `id`, `year` and the prefix `pval_` of the probabilities are public knowledge.
"""

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from darts_assets.geo.antimeridian import lonlat_polygons
from darts_assets.geo.equal_area import EQUAL_AREA, polygonal
from darts_assets.geo.geodesic import geodesic_area

_PVAL = {"min": "pval_min", "max": "pval_max", "mean": "pval_mean", "std": "pval_std"}

LEVEL1_DESCRIPTIONS = {
    "id": "number of the footprint",
    "year": "year of the image",
    "datetime": "sensing time of the image, UTC",
    "image_id": "id of the image",
    "area_m2": "geodesic area on the WGS 84 ellipsoid, m2",
    "pval_min": "lowest probability of its pixels",
    "pval_max": "highest probability of its pixels",
    "pval_mean": "mean probability of its pixels",
    "pval_std": "standard deviation of the probability of its pixels",
}
LEVEL2_DESCRIPTIONS = {
    "id": "number of the feature",
    "year": "calendar year",
    "images": "number of images with a footprint of it",
    "first_date": "sensing time of the first one, UTC",
    "last_date": "sensing time of the last one, UTC",
    "area_m2": "geodesic area on the WGS 84 ellipsoid, m2",
    "pval_min": "lowest probability of the pixels of all footprints",
    "pval_max": "highest probability of the pixels of all footprints",
    "pval_mean": "mean probability of the pixels of all footprints",
    "pval_std": "standard deviation of the probability of the pixels of all footprints",
}


def darts_level1(level1: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Level 1 with the columns `LEVEL1_DESCRIPTIONS`, numbered from 1 in the order of `level1`."""
    table = level1.rename(columns={"scene": "image_id", **_PVAL}).assign(id=np.arange(1, len(level1) + 1))
    return table[[*LEVEL1_DESCRIPTIONS, "geometry"]]


def darts_level2(level1: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Level 1 dissolved by year: the union of detections of a year that touch, directly or by others.

    Args:
        level1: detections in EPSG:4326.

    Returns:
        Columns `LEVEL2_DESCRIPTIONS` and the maximum extent in EPSG:4326, cut at the antimeridian; by year and
        position.
        Means and standard deviations are those of all pixels, weighted by their number.
    """
    parts = [_dissolved(rows) for _, rows in level1.groupby("year", sort=True)]
    columns = list(LEVEL2_DESCRIPTIONS)[1:]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*columns, "geometry"])
    shapes = table.pop("geometry").to_numpy(dtype=object)
    table = table.assign(area_m2=geodesic_area(shapes, EQUAL_AREA), id=np.arange(1, len(table) + 1))
    outlines = lonlat_polygons(shapes, CRS(EQUAL_AREA))
    return gpd.GeoDataFrame(table[["id", *columns]], geometry=outlines, crs="EPSG:4326")


def _dissolved(rows: gpd.GeoDataFrame) -> pd.DataFrame:
    """The features of one year, with geometries in EPSG:6931."""
    # Rounded, so that footprints on both sides of the antimeridian and of the edges of tiles touch.
    shapes = shapely.set_precision(rows.to_crs(EQUAL_AREA).geometry.to_numpy(), 0.01)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(rows), len(rows)))
    _, feature = connected_components(links, directed=False)
    weight = rows["npixel"].to_numpy(dtype=np.float64)
    mean, std = rows["mean"].to_numpy(), rows["std"].to_numpy()
    table = pd.DataFrame(
        {
            "feature": feature, "year": rows["year"].to_numpy(), "datetime": rows["datetime"].to_numpy(),
            "scene": rows["scene"].to_numpy(), "min": rows["min"].to_numpy(), "max": rows["max"].to_numpy(),
            "weight": weight, "first": weight * mean, "second": weight * (std**2 + mean**2),
        }
    )  # fmt: skip
    groups = table.groupby("feature")
    weights = groups["weight"].sum()
    means = groups["first"].sum() / weights
    order = np.argsort(feature, kind="stable")
    pieces = np.split(shapes[order], np.flatnonzero(np.diff(feature[order])) + 1)
    unions = [shapely.normalize(polygonal(shapely.union_all(piece))) for piece in pieces]
    features = pd.DataFrame(
        {
            "year": groups["year"].first(),
            "images": groups["scene"].nunique(),
            "first_date": groups["datetime"].min(),
            "last_date": groups["datetime"].max(),
            "area_m2": 0.0,
            "pval_min": groups["min"].min(),
            "pval_max": groups["max"].max(),
            "pval_mean": means,
            "pval_std": np.sqrt((groups["second"].sum() / weights - means**2).clip(lower=0)),
            "geometry": unions,
        }
    )
    corner = shapely.bounds(np.array(unions, dtype=object))[:, :2]
    return features.iloc[np.lexsort((corner[:, 1], corner[:, 0]))]
