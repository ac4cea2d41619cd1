"""Auxiliary layers onto a scene's grid, reading no more of them than the grid covers.

GDAL does not project every cell: it projects the ends and the middle of a destination *scanline*, interpolates where
that is good to 1/8 source pixel, and halves the line where it is not. A line's result hence depends on where the line
begins and ends, not on the lines around it. So windows of rows can be reprojected one by one without a trace, as long
as they are cut into the same columns; and columns have to be cut, because the bounding box of a 110 km line at 45
degrees is half of the source.

A block that has no NaN is warped without a nodata value: GDAL then gives the same bits in a third of the time.

Blocks are warped one after the other, each by all cores: rasterio sets Python's warning filters aside while it opens an
array, and threads that do so at once may leave them aside for good.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.system import CPU_COUNT
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty
from odc.geo.types import Shape2d
from rasterio.enums import Resampling
from rasterio.warp import reproject as warp

from darts_assets.tiles import geobox_of, row_windows

BLOCK_COLUMNS = 2048
"""Width of a block; a tile up to that width is reprojected exactly as in one piece."""

_PADDING = 4
"""Source pixels around a block: 2 for the cubic kernel, the rest for edges that are curved in the source's CRS."""

_WARP_MEMORY = 2048
"""MB. GDAL takes what it needs, but above the limit it would cut a block into other lines."""


def reproject(source: xr.Dataset, names: Sequence[str], grid: GeoBox) -> dict[str, npt.NDArray[np.generic]]:
    """Bands of a lazy dataset on another grid, cubic, each in its own dtype.

    Args:
        source: georeferenced dataset in any CRS, spatial dimensions of any name; only the part under `grid` is loaded.
        names: bands of it.
        grid: the grid to reproject to.

    Returns:
        arrays of shape `grid.shape`; NaN (floating point) or 0 (integers) where the source has nothing.
    """
    origin = geobox_of(source)
    row_dim, column_dim = source.odc.spatial_dims
    result = {name: _nothing(source[name].dtype, grid.shape) for name in names}
    for columns in row_windows(grid.shape[1], BLOCK_COLUMNS):
        block = grid[:, columns]
        roi = compute_reproject_roi(origin, block, padding=_PADDING).roi_src
        if roi_is_empty(roi):
            continue
        part = source[list(names)].isel({row_dim: roi[0], column_dim: roi[1]}).load()
        # Then the source has a value for every cell of the block.
        covered = all(one.start > 0 and one.stop < size for one, size in zip(roi, origin.shape, strict=True))
        for together in _warped_together(part, names):
            values = np.stack([part[name].values for name in together])
            for name, warped in zip(together, _warp(values, origin[roi], block, covered), strict=True):
                result[name][:, columns] = warped
    return result


def _warped_together(part: xr.Dataset, names: Sequence[str]) -> list[list[str]]:
    """Integer bands of one dtype together, which saves a fifth of the time; others alone, as their holes differ."""
    alone = [[name] for name in names if part[name].dtype.kind == "f"]
    integers: dict[np.dtype[np.generic], list[str]] = {}
    for name in names:
        if part[name].dtype.kind != "f":
            integers.setdefault(part[name].dtype, []).append(name)
    return [*alone, *integers.values()]


def _warp(values: npt.NDArray[np.generic], origin: GeoBox, block: GeoBox, covered: bool) -> npt.NDArray[np.generic]:
    """Bands (bands, h, w) of one dtype on a block."""
    low, high = values.min(), values.max()
    floating = values.dtype.kind == "f"
    target = _nothing(values.dtype, (len(values), *block.shape))
    if covered and not floating and low == high:
        target[...] = low  # as cubic interpolation would, whose weights add up to 1
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
        # Without these GDAL guesses a scale from the bounding boxes, and blurs what lies at an angle
        # (https://github.com/OSGeo/gdal/issues/7750).
        XSCALE=1,
        YSCALE=1,
    )
    return target


def _nothing(dtype: np.dtype[np.generic], shape: Shape2d | tuple[int, ...]) -> npt.NDArray[np.generic]:
    return np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)
