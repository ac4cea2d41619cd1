"""Masks to polygons and back: detections and valid area as exact pixel outlines, their statistics and validation."""

from collections.abc import Collection

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import CRS

from darts_assets.bands import SPREAD
from darts_assets.detection.detection_parameters import PostprocessParameters
from darts_assets.detection.outlines import outlines
from darts_assets.detection.postprocess import Mask, Objects, beside_edge, find_objects, label, postprocess
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.tiles import geobox_of, row_windows

BLOCK_PIXELS = 1 << 22
"""Object pixels summed at a time; 150 MB of temporaries."""

TOLERANCE = 1e-3
"""Largest distance, in pixels, of a polygon corner from its grid vertex."""

CLEAR_BLOCK = 256
"""Side in pixels of the blocks that divide the clear area. Speckled clouds have a million corners: from blocks, the
inventory projects only those near a site."""

_MAX_LISTED = 3
_MAX_OVERHANG = 0.5  # pixels that a geometry may extend beyond the grid, for rounded coordinates


def detection_tables(
    probabilities: xr.Dataset, quality_data_mask: xr.DataArray, parameters: PostprocessParameters
) -> dict[str, gpd.GeoDataFrame]:
    """Postprocess a tile: `segments`, `extent`, `clear` and, for each model of an ensemble, `segments-NAME`.

    Arguments and errors as `postprocess`; tables as `segments`, `extent_polygons` and `clear_polygons`.
    """
    detections = postprocess(probabilities, quality_data_mask, parameters)
    models = [str(name).partition("-")[2] for name in probabilities.data_vars if "-" in str(name)]
    return {
        "segments": segments(detections),
        "extent": extent_polygons(detections),
        "clear": clear_polygons(detections),
        **{f"segments-{model}": segments(detections, model) for model in models},
    }


def segments(detections: xr.Dataset, model: str | None = None) -> gpd.GeoDataFrame:
    """The objects of a postprocessed tile as polygons.

    Args:
        detections: result of `postprocess`, in memory.
        model: name of one model of an ensemble; by default the ensemble's own objects and probabilities.

    Returns:
        A table in the tile's CRS, one row per object in row-major order of the objects' first pixels: `Region_ID`
        (int64, 1..n), `touches_edge` (bool: a pixel has an 8-neighbour outside the valid area or outside the tile),
        `clear_fraction` (float64: fraction of its pixels that are clear), `min max mean median std` of the object's
        probabilities (float64 fractions, population standard deviation), `model_spread` (float64: mean over its pixels
        of the standard deviation between the models; NaN if the tile has none), `npixel` (int64) and a valid Polygon
        or, where parts meet only at a corner, MultiPolygon. Without objects the table is empty, with the same columns
        and dtypes.
    """
    suffix = f"-{model}" if model else ""
    geobox = geobox_of(detections)
    binarized: Mask = detections[f"binarized_segmentation{suffix}"].values
    objects = find_objects(binarized)
    touches_edge = objects.touching(beside_edge(detections["extent"].values))
    columns = {
        "Region_ID": np.arange(1, objects.count + 1, dtype=np.int64),
        "touches_edge": touches_edge[1:],
        "clear_fraction": objects.fraction_in(detections["clear"].values),
        **object_statistics(objects, detections[f"probabilities{suffix}"].values),
        SPREAD: objects.means(detections[SPREAD].values) if SPREAD in detections else np.full(objects.count, np.nan),
        "npixel": objects.sizes[1:],
    }
    return gpd.GeoDataFrame(columns, geometry=outlines(objects.labels, binarized, geobox), crs=geobox.crs)


def extent_polygons(detections: xr.Dataset) -> gpd.GeoDataFrame:
    """The valid area of a postprocessed tile as polygons.

    Returns:
        A table in the tile's CRS (projected, in metres), one row per 8-connected area, the largest first: `npixel`
        (int64), `area_m2` (float64, geodesic), `clear_fraction` (float64: fraction of its pixels that are clear) and a
        valid Polygon or MultiPolygon. Empty, with the same columns, if no pixel is valid.
    """
    geobox = geobox_of(detections)
    areas = find_objects(detections["extent"].values)
    geometry = outlines(areas.labels, areas.mask, geobox)
    columns = {
        "npixel": areas.sizes[1:],
        "area_m2": geodesic_area(geometry, str(geobox.crs)),
        "clear_fraction": areas.fraction_in(detections["clear"].values),
    }
    table = gpd.GeoDataFrame(columns, geometry=geometry, crs=geobox.crs)
    return table.sort_values("npixel", ascending=False, kind="stable", ignore_index=True)


def clear_polygons(detections: xr.Dataset) -> gpd.GeoDataFrame:
    """The clear part of the valid area of a postprocessed tile as polygons.

    Returns:
        A table in the tile's CRS, one valid Polygon or MultiPolygon for each block of `CLEAR_BLOCK` x `CLEAR_BLOCK`
        pixels with clear ones, row by row.
    """
    geobox = geobox_of(detections)
    clear: Mask = detections["clear"].values
    shapes = []
    for rows in row_windows(geobox.shape[0], CLEAR_BLOCK):
        for columns in row_windows(geobox.shape[1], CLEAR_BLOCK):
            mask = np.ascontiguousarray(clear[rows, columns])
            if mask.any():
                parts = shapely.get_parts(outlines(label(mask)[0], mask, geobox[rows, columns]))
                shapes.append(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts.tolist()))
    return gpd.GeoDataFrame(geometry=shapes, crs=geobox.crs)


def object_statistics(objects: Objects, probabilities: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """`min max mean median std` of the probabilities (height, width) per object, float64 (n,) each."""
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

    Non-negative floats sort like their bits, so each pair is sorted as one 64-bit integer, in place and without the
    index of a `lexsort`.
    """
    pairs = np.empty((int(objects.sizes[1:].sum()), 2), dtype="<u4")
    done = 0
    for rows in row_windows(probabilities.shape[0]):
        inside = objects.mask[rows]
        window = slice(done, done + int(np.count_nonzero(inside)))
        pairs[window, 0] = probabilities[rows][inside].view(np.uint32)
        pairs[window, 1] = objects.labels[rows][inside]
        done = window.stop
    pairs.reshape(-1).view("<u8").sort()
    return pairs


def mask_from(polygons: gpd.GeoDataFrame, geobox: GeoBox) -> Mask:
    """Pixels inside the polygons, the exact inverse of `outlines`.

    A pixel is inside if an odd number of horizontal edges lies above it. `rasterio.features.rasterize` yields the same
    mask in 7 to 12 times as long.

    Args:
        polygons: detections or valid area.
        geobox: the tile's grid or a part of it.

    Returns:
        bool, shape `geobox.shape`.

    Raises:
        ValueError: if the polygons are in another CRS than the grid, or not outlines of its pixels.
    """
    if geobox.crs != polygons.crs:
        raise ValueError(f"CRS of the polygons is {polygons.crs}, expected that of the grid, {geobox.crs}")
    height, width = geobox.shape
    mask = np.zeros((height, width), dtype=bool)
    row, left, right = _horizontal_edges(polygons, geobox)
    # Edges above this part of the grid count in its first row.
    row, left, right = np.maximum(row, 0), np.clip(left, 0, width), np.clip(right, 0, width)
    # Sorted, every two ends of a row enclose pixels below an odd number of that row's edges.
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
    """Row, left and right column (int64) of the polygons' horizontal edges, as grid vertices."""
    rings = shapely.get_rings(shapely.get_parts(polygons.geometry.to_numpy()))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    exact = np.stack(geobox.wld2pix(points[:, 0], points[:, 1]), axis=-1)
    corners = np.rint(exact).astype(np.int64)
    same_ring = ring[1:] == ring[:-1]
    start, stop = corners[:-1][same_ring], corners[1:][same_ring]
    horizontal, vertical = (start[:, axis] == stop[:, axis] for axis in (1, 0))
    if not (horizontal | vertical).all() or (np.abs(exact - corners) > TOLERANCE).any():
        raise ValueError("the polygons do not follow the pixel edges of this grid")
    columns = np.sort(np.stack([start[horizontal, 0], stop[horizontal, 0]]), axis=0)
    return start[horizontal, 1], columns[0], columns[1]


def segment_faults(
    segments: gpd.GeoDataFrame, geobox: GeoBox, columns: Collection[str], min_object_size: int
) -> list[str]:
    """Faults of a table of detections, one sentence each; empty if it is valid.

    Args:
        segments: result of `segments`, possibly altered since.
        geobox: grid of the scene.
        columns: required columns.
        min_object_size: size of the smallest allowed object, in pixels.
    """
    faults = geometry_faults(segments, geobox, columns)
    if faults:
        return faults
    ids = segments["Region_ID"]
    if ids.duplicated().any():
        faults.append(f"Region_ID is not unique: {_listed(ids[ids.duplicated()].unique())}")
    small = segments["npixel"] < min_object_size
    if small.any():
        faults.append(f"objects under {min_object_size} pixels: Region_ID {_listed(ids[small])}")
    figures = segments[["min", "median", "mean", "max"]].to_numpy()
    if not bool(((figures >= 0) & (figures <= 1)).all() and (figures[:, 0] <= figures[:, 3]).all()):
        faults.append("object probabilities are not between 0 and 1, or min is above max")
    return faults


def geometry_faults(table: gpd.GeoDataFrame, geobox: GeoBox, columns: Collection[str]) -> list[str]:
    """Faults of the columns, CRS and geometries of a table of polygons; arguments as for `segment_faults`."""
    absent = [name for name in columns if name not in table.columns]
    if absent:
        return [f"columns are missing: {', '.join(absent)}"]
    crs = CRS(str(geobox.crs))
    if table.crs is None or not table.crs.equals(crs):
        return [f"CRS is {table.crs and table.crs.to_string()}, expected {crs.to_string()}"]
    geometry = table.geometry.to_numpy()
    faults = []
    no_area = ~np.isin(shapely.get_type_id(geometry), (3, 6)) | shapely.is_empty(geometry)  # (Multi)Polygon
    if no_area.any():
        faults.append(f"geometries are empty or no polygons: rows {_listed(np.flatnonzero(no_area))}")
    invalid = ~shapely.is_valid(geometry) & ~no_area
    if invalid.any():
        first = int(np.flatnonzero(invalid)[0])
        reason = shapely.is_valid_reason(geometry[first])
        faults.append(f"invalid geometries: rows {_listed(np.flatnonzero(invalid))} ({reason})")
    scene = geobox.extent.geom.buffer(_MAX_OVERHANG * abs(geobox.resolution.x))
    outside = ~shapely.covers(scene, geometry) & ~no_area
    if outside.any():
        faults.append(f"geometries outside the scene: rows {_listed(np.flatnonzero(outside))}")
    return faults


def _listed(items: Collection[object]) -> str:
    shown = ", ".join(str(item) for item in list(items)[:_MAX_LISTED])
    return shown if len(items) <= _MAX_LISTED else f"{shown} and {len(items) - _MAX_LISTED} more"
