"""Reproject auxiliary layers to a scene's grid, reading only the part that the grid covers.

GDAL does not project every cell: it projects the ends and the middle of a destination *scanline*, interpolates where
that is accurate to 1/8 source pixel, and halves the line where it is not. The result therefore depends on where a line
begins and ends, not on its neighbours: windows of rows can be reprojected one by one, with identical results, if they
are cut into the same columns. Columns have to be cut because the bounding box of a 110 km line at 45 degrees is half of
the source.

A block without NaN is warped without a nodata value, which gives the same bits in a third of the time. Blocks are
warped one after the other, each with all cores: rasterio replaces Python's warning filters while it opens an array, and
concurrent threads may fail to restore them.

Windows of TCVIS across the antimeridian have longitudes beyond 180, to which no projection leads. They are described
from a prime meridian in their middle, so that the longitudes of everything around it are continuous.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from dask.system import CPU_COUNT
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty
from odc.geo.types import Shape2d
from pyproj.crs import GeographicCRS
from pyproj.crs.datum import CustomDatum, CustomPrimeMeridian
from rasterio.enums import Resampling
from rasterio.warp import reproject as warp

from darts_assets.tiles import geobox_of, row_windows

BLOCK_COLUMNS = 2048
"""Width of a block; the result of a tile up to that width equals that of one warp."""

_HALF_TURN = 180.0

_PADDING = 4
"""Source pixels around a block: 2 for the cubic kernel, 2 for edges that are curved in the source's CRS."""

_WARP_MEMORY = 2048
"""Upper limit in MB. GDAL allocates less, but would split a block that exceeds the limit, which changes its lines."""


def reproject(source: xr.Dataset, names: Sequence[str], grid: GeoBox) -> dict[str, npt.NDArray[np.generic]]:
    """Resample bands of a lazy dataset to another grid (cubic), each in its own dtype.

    Args:
        source: georeferenced dataset in any CRS, spatial dimensions of any name; longitudes may exceed 180 degrees.
            Only the part under `grid` is loaded.
        names: bands to resample.
        grid: destination grid.

    Returns:
        arrays of shape `grid.shape`; NaN (floating point) or 0 (integers) outside the source.
    """
    origin = _continuous(geobox_of(source))
    row_dim, column_dim = source.odc.spatial_dims
    result = {name: _blank(source[name].dtype, grid.shape) for name in names}
    for columns in row_windows(grid.shape[1], BLOCK_COLUMNS):
        block = grid[:, columns]
        roi = compute_reproject_roi(origin, block, padding=_PADDING).roi_src
        if roi_is_empty(roi):
            continue
        part = source[list(names)].isel({row_dim: roi[0], column_dim: roi[1]}).load()
        # A window strictly inside the source has a value for every cell of the block.
        covered = all(axis.start > 0 and axis.stop < size for axis, size in zip(roi, origin.shape, strict=True))
        for group in _warp_groups(part, names):
            values = np.stack([part[name].values for name in group])
            for name, warped in zip(group, _warp(values, origin[roi], block, covered), strict=True):
                result[name][:, columns] = warped
    return result


def _continuous(origin: GeoBox) -> GeoBox:
    """The same grid; one with longitudes beyond 180 degrees in a CRS whose prime meridian is in its middle."""
    box, crs = origin.boundingbox, origin.crs
    if crs is None or not crs.geographic or (box.left >= -_HALF_TURN and box.right <= _HALF_TURN):
        return origin
    middle = round((box.left + box.right) / 2)
    own = crs.proj
    assert own.prime_meridian is not None  # as every geographic CRS
    meridian = CustomPrimeMeridian(own.prime_meridian.longitude + middle)
    turned = GeographicCRS(datum=CustomDatum(ellipsoid=own.ellipsoid, prime_meridian=meridian))
    return GeoBox(origin.shape, Affine.translation(-middle, 0) @ origin.affine, turned)


def _warp_groups(part: xr.Dataset, names: Sequence[str]) -> list[list[str]]:
    """Bands to warp in one call: integers of one dtype (a fifth faster); floats one by one, as their NaN differ."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        dtype = part[name].dtype
        groups.setdefault(name if dtype.kind == "f" else dtype, []).append(name)
    return list(groups.values())


def _warp(values: npt.NDArray[np.generic], origin: GeoBox, block: GeoBox, covered: bool) -> npt.NDArray[np.generic]:
    """Resample bands (bands, h, w) of one dtype to a block."""
    low, high = values.min(), values.max()
    floating = values.dtype.kind == "f"
    target = _blank(values.dtype, (len(values), *block.shape))
    if covered and not floating and low == high:
        target[...] = low  # the result of cubic interpolation, whose weights add up to 1
        return target
    holes = floating and bool(np.isnan(low))
    warp(
        values,
        target,
        src_transform=origin.transform,
        src_crs=str(origin.crs),
        dst_transform=block.transform,
        dst_crs=str(block.crs),
        resampling=Resampling.cubic,
        src_nodata=np.nan if holes else None,
        init_dest_nodata=False,
        num_threads=CPU_COUNT,
        warp_mem_limit=_WARP_MEMORY,
        # Without these GDAL derives a scale from the bounding boxes and blurs rotated sources
        # (https://github.com/OSGeo/gdal/issues/7750).
        XSCALE=1,
        YSCALE=1,
    )
    return target


def _blank(dtype: np.dtype[np.generic], shape: Shape2d | tuple[int, ...]) -> npt.NDArray[np.generic]:
    return np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)
