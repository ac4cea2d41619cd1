"""Terrain attributes of an elevation array, as pure functions on arrays.

Elevations are float32 (rows, columns) in metres, north up, with square cells, NaN where unknown. The 3 x 3 operators
take an array with a rim of one cell and return one without it: `(h + 2, w + 2) -> (h, w)`. A cell is NaN where a
neighbour used by its formula is NaN.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from darts_assets.errors import SettingsError

FloatArray = npt.NDArray[np.float32]

_DEGREES = np.float32(180 / math.pi)


class Gradient(NamedTuple):
    """Slope of the surface along the axes of the grid, metres of rise per unit of distance."""

    east: FloatArray
    south: FloatArray


def gradients(dem: FloatArray, cell: float) -> tuple[Gradient, Gradient]:
    """Horn's gradient and the gradient of central differences, which share their subtractions.

    Horn, B.K.P. (1981): Hill shading and the reflectance map. Proc. IEEE 69(1), 14-47.

    Args:
        dem: elevations with a rim of one cell.
        cell: cell size in metres.

    Returns:
        Horn's gradient and the gradient of central differences, both per metre.
    """
    # Subtract first: differences are small, so float32 keeps their digits.
    east = dem[:, 2:] - dem[:, :-2]
    south = dem[2:, :] - dem[:-2, :]
    across, down = east[1:-1], south[:, 1:-1]
    horn = Gradient(east[:-2] + east[2:], south[:, :-2] + south[:, 2:])
    for total, middle in zip(horn, (across, down), strict=True):
        total += middle
        total += middle
        total *= np.float32(1 / (8 * cell))
    return horn, Gradient(across * np.float32(1 / (2 * cell)), down * np.float32(1 / (2 * cell)))


def slope(gradient: Gradient) -> FloatArray:
    """Inclination in degrees, 0 to 90."""
    angle = _squared(gradient)
    np.sqrt(angle, out=angle)
    np.arctan(angle, out=angle)
    angle *= _DEGREES
    return angle


def aspect(gradient: Gradient) -> FloatArray:
    """Downhill direction in degrees clockwise from the top of the grid, [0, 360); -1 where flat."""
    angle = np.arctan2(-gradient.east, gradient.south)
    angle *= _DEGREES
    rotate(angle, 0)
    # float32 rounds an angle slightly west of the top to 360.
    np.copyto(angle, 0, where=angle >= 360)
    np.copyto(angle, -1, where=(gradient.east == 0) & (gradient.south == 0))
    return angle


def rotate(angle: FloatArray, turn: float | FloatArray) -> FloatArray:
    """Add `turn` degrees to an angle in place, modulo 360; float32 rounds values slightly below 0 to 360."""
    angle += turn
    # Ten times faster than `np.mod`.
    revolutions = angle / np.float32(360)
    np.floor(revolutions, out=revolutions)
    revolutions *= np.float32(360)
    angle -= revolutions
    return angle


def illumination(gradient: Gradient, azimuth: float | FloatArray, elevation: float) -> FloatArray:
    """Cosine of the angle between the surface normal and the sun, -1 to 1 (negative: facing away).

    Equal to the formulas of GDAL and xarray-spatial, without their sines of slope and aspect.

    Args:
        gradient: rise per unit of distance.
        azimuth: of the sun, degrees clockwise from the top of the grid; a number or one per cell.
        elevation: of the sun above the horizon, degrees.
    """
    towards = np.radians(np.asarray(azimuth, dtype=np.float32))
    up, along = np.float32(math.sin(math.radians(elevation))), np.float32(math.cos(math.radians(elevation)))
    facing: FloatArray = np.cos(towards) * gradient.south
    facing -= np.sin(towards) * gradient.east
    facing *= along
    facing += up
    length = _squared(gradient)
    length += 1
    facing /= np.sqrt(length, out=length)
    return facing


def _squared(gradient: Gradient) -> FloatArray:
    """Squared length of the gradient; a new array."""
    result = gradient.east * gradient.east
    result += gradient.south * gradient.south
    return result


def curvature(dem: FloatArray, cell: float) -> FloatArray:
    """Minus the Laplacian in 1/100 m: positive on ridges, negative in hollows.

    Definition of xarray-spatial: -100 (sum of the four neighbours - 4 centre) / cell area.

    Args:
        dem: elevations with a rim of one cell.
        cell: cell size in metres.
    """
    right = dem[1:-1, 1:] - dem[1:-1, :-1]
    down = dem[1:, 1:-1] - dem[:-1, 1:-1]
    bend = right[:, 1:] - right[:, :-1]
    bend += down[1:]
    bend -= down[:-1]
    bend *= np.float32(-100 / cell**2)
    return bend


def radius_in_cells(radius: float, cell: float) -> int:
    """A radius in metres as whole cells, rounded up (tolerance 1e-6 for inexact cell sizes)."""
    return math.ceil(radius / cell - 1e-6)


def tpi_kernel(outer_radius: float, inner_radius: float, cell: float) -> npt.NDArray[np.bool_]:
    """Neighbourhood of the topographic position index: a disk that includes its centre, or a ring.

    Args:
        outer_radius: metres, inclusive.
        inner_radius: metres, exclusive; 0 for a disk.
        cell: cell size in metres.

    Returns:
        bool (2 r + 1, 2 r + 1) for an outer radius of r cells.

    Raises:
        SettingsError: if no cell lies in the ring.
    """
    outer, inner = radius_in_cells(outer_radius, cell), radius_in_cells(inner_radius, cell)
    if inner >= outer:
        raise SettingsError(
            f"tpi_inner_radius ({inner_radius} m) must be smaller than tpi_outer_radius ({outer_radius} m): rounded up "
            f"to cells of {cell:g} m, they are {inner} and {outer} cell(s)"
        )
    offset = np.arange(-outer, outer + 1)
    squared = offset[:, None] ** 2 + offset**2
    disk = squared <= outer**2
    return disk & (squared > inner**2) if inner else disk


def relative_elevation(dem: FloatArray, kernel: npt.NDArray[np.bool_]) -> FloatArray:
    """Topographic position index: elevation above the mean of the neighbourhood, metres.

    Args:
        dem: elevations with a rim of the kernel's radius r.
        kernel: neighbourhood of shape (2 r + 1, 2 r + 1).

    Returns:
        (h, w) for a `dem` of (h + 2 r, w + 2 r). NaN where any cell in the kernel's *square* is NaN, as in
        xarray-spatial, which multiplies the NaN outside the disk by zero.
    """
    radius = kernel.shape[0] // 2
    inside = np.s_[radius : dem.shape[0] - radius, radius : dem.shape[1] - radius]
    # One kernel for elevation and mean, so that the subtraction is done in double precision.
    weights = -kernel.astype(np.float64) / np.count_nonzero(kernel)
    weights[radius, radius] += 1
    missing = np.isnan(dem)
    if not missing.any():
        return np.ascontiguousarray(cv2.filter2D(dem, cv2.CV_32F, weights)[inside])
    known = np.where(missing, np.float32(0), dem)
    result: FloatArray = np.ascontiguousarray(cv2.filter2D(known, cv2.CV_32F, weights)[inside])
    touched = cv2.dilate(missing.view(np.uint8), np.ones(kernel.shape, dtype=np.uint8))[inside]
    np.copyto(result, np.nan, where=touched > 0)
    return result
