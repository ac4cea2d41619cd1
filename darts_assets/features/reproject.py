"""Auxiliary layers onto a scene's grid, reading no more of them than the grid covers.

GDAL does not project every cell: it projects the ends and the middle of a destination *scanline*, interpolates where
that is good to 1/8 source pixel, and halves the line where it is not. A line's result hence depends on where the line
begins and ends, not on the lines around it. So windows of rows can be reprojected one by one without a trace, as long
as they are cut into the same columns; and columns have to be cut, because the bounding box of a 110 km line at 45
degrees is half of the source.
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
from odc.geo.warp import rio_reproject

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
        for name in names:
            target = _nothing(part[name].dtype, block.shape)
            rio_reproject(
                part[name].values,
                target,
                origin[roi],
                block,
                "cubic",
                num_threads=CPU_COUNT,
                warp_mem_limit=_WARP_MEMORY,
            )
            result[name][:, columns] = target
    return result


def _nothing(dtype: np.dtype[np.generic], shape: Shape2d) -> npt.NDArray[np.generic]:
    return np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)
