"""Detections and valid area as polygons: exact outlines of pixels, one feature per 8-connected object."""

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.detection.objects import Mask, Objects, beside_edge, find_objects, label
from darts_assets.detection.outlines import outlines
from darts_assets.tiles import geobox_of, row_windows

BLOCK_PIXELS = 1 << 22
"""Object pixels that are summed at a time: 150 MB of temporaries."""


def segments(detections: xr.Dataset, model: str | None = None) -> gpd.GeoDataFrame:
    """The objects of a postprocessed tile as polygons.

    Args:
        detections: result of `postprocess`, in memory.
        model: name of the model whose objects and probabilities are meant; None means the ensemble.

    Returns:
        A table in the tile's CRS, one row per object in row-major order of the objects' first pixels: `Region_ID`
        (int64, 1..n), `touches_edge` (bool: a pixel has an 8-neighbour outside the valid area or outside the tile),
        `min max mean median std` of the object's probabilities (float64 fractions, population standard deviation),
        `npixel` (int64) and a valid Polygon or, where parts meet only at a corner, MultiPolygon. Without objects, an
        empty table with the same columns and dtypes.
    """
    suffix = f"-{model}" if model else ""
    geobox = geobox_of(detections)
    binarized: Mask = detections[f"binarized_segmentation{suffix}"].values
    objects = find_objects(binarized)
    touches_edge = objects.touching(beside_edge(detections["extent"].values))
    columns = {
        "Region_ID": np.arange(1, objects.count + 1, dtype=np.int64),
        "touches_edge": touches_edge[1:],
        **object_statistics(objects, detections[f"probabilities{suffix}"].values),
        "npixel": objects.sizes[1:],
    }
    return gpd.GeoDataFrame(columns, geometry=outlines(objects.labels, binarized, geobox), crs=geobox.crs)


def extent_polygons(detections: xr.Dataset) -> gpd.GeoDataFrame:
    """The valid area of a postprocessed tile as polygons.

    Returns:
        A table in the tile's CRS (projected, in metres), one row per 8-connected area, the largest first: `npixel`
        (int64), `area_m2` (float64) and a valid Polygon or MultiPolygon. Empty, with the same columns, where nothing
        is valid.
    """
    geobox = geobox_of(detections)
    extent: Mask = detections["extent"].values
    geometry = outlines(label(extent)[0], extent, geobox)
    # Outlines of pixels: their area is that of their pixels.
    npixel = np.rint(shapely.area(geometry) / pixel_area(geobox)).astype(np.int64)
    table = gpd.GeoDataFrame(
        {"npixel": npixel, "area_m2": npixel * pixel_area(geobox)}, geometry=geometry, crs=geobox.crs
    )
    return table.sort_values("npixel", ascending=False, kind="stable", ignore_index=True)


def object_statistics(objects: Objects, probabilities: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """`min max mean median std` of the probabilities (height, width) in each object, float64 (n,)."""
    sizes = objects.sizes[1:]
    if not objects.count:
        return {name: np.empty(0) for name in ("min", "max", "mean", "median", "std")}
    pairs = _sorted_pairs(objects, probabilities)
    labels, values = pairs[:, 1], pairs[:, 0].view(np.float32)
    starts = np.cumsum(sizes) - sizes
    middle = starts + sizes // 2
    mean = _sums(labels, values, np.zeros(objects.count), power=1) / sizes
    return {
        "min": values[starts].astype(np.float64),
        "max": values[starts + sizes - 1].astype(np.float64),
        "mean": mean,
        "median": (values[middle].astype(np.float64) + values[middle - (sizes % 2 == 0)]) / 2,
        "std": np.sqrt(_sums(labels, values, mean, power=2) / sizes),
    }


def _sums(
    labels: npt.NDArray[np.uint32], values: npt.NDArray[np.float32], centre: npt.NDArray[np.float64], power: int
) -> npt.NDArray[np.float64]:
    """Sum of `(value - centre) ** power` per object, in double precision, block by block; `labels` ascend."""
    sums = np.zeros(len(centre))
    for block in row_windows(len(values), BLOCK_PIXELS):
        index = labels[block].astype(np.int64) - 1
        terms = np.bincount(index - index[0], weights=(values[block] - centre[index]) ** power)
        sums[index[0] : index[0] + len(terms)] += terms
    return sums


def _sorted_pairs(objects: Objects, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """(value bits, label) of every object pixel, sorted by label, then by value: uint32 (pixels, 2).

    The bits of floats that are not negative sort as the floats do, so label and value together are one 64-bit integer
    and one sort in place takes the place of a `lexsort` with its index.
    """
    pairs = np.empty((int(objects.sizes[1:].sum()), 2), dtype="<u4")
    done = 0
    for rows in row_windows(probabilities.shape[0]):
        inside = objects.mask[rows]
        found = slice(done, done + int(np.count_nonzero(inside)))
        pairs[found, 0] = probabilities[rows][inside].view(np.uint32)
        pairs[found, 1] = objects.labels[rows][inside]
        done = found.stop
    pairs.reshape(-1).view("<u8").sort()
    return pairs


def pixel_area(geobox: GeoBox) -> float:
    """Area of a pixel in square units of the CRS."""
    return abs(float(geobox.affine.determinant))
