"""Terrain attributes of an elevation array: pure functions that know neither grids nor conventions.

Elevations are float32 (rows, columns) in metres, north up, cells square, NaN where unknown. The 3 x 3 operators take
an array with a rim of one cell and return one without it, so `(h + 2, w + 2) -> (h, w)`. A cell is NaN where a
neighbour that its formula uses is NaN.
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
    """Horn's gradient and the one of central differences, which share their subtractions.

    Horn, B.K.P. (1981): Hill shading and the reflectance map. Proc. IEEE 69(1), 14-47.

    Args:
        dem: elevations with a rim of one cell.
        cell: size of a cell in metres.

    Returns:
        Horn's gradient per metre, and the gradient of central differences per metre.
    """
    # Differences come first: they are small, and float32 keeps their digits.
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
    turned(angle, 0)
    # An angle a hair west of the top ends at 360 itself, for want of digits.
    np.copyto(angle, 0, where=angle >= 360)
    np.copyto(angle, -1, where=(gradient.east == 0) & (gradient.south == 0))
    return angle


def turned(angle: FloatArray, turn: float | FloatArray) -> FloatArray:
    """Adds `turn` to an angle, in place: degrees, brought to [0, 360] (360 for want of digits just below 0)."""
    angle += turn
    # The same as `np.mod`, an order of magnitude faster.
    rounds = angle / np.float32(360)
    np.floor(rounds, out=rounds)
    rounds *= np.float32(360)
    angle -= rounds
    return angle


def illumination(gradient: Gradient, azimuth: float | FloatArray, elevation: float) -> FloatArray:
    """Cosine of the angle between the surface's normal and the sun, -1 to 1 (negative: facing away).

    The same as the formulas with sines of slope and aspect of GDAL and xarray-spatial, without their trigonometry.

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
    """Square of the gradient's length; a new array."""
    result = gradient.east * gradient.east
    result += gradient.south * gradient.south
    return result


def curvature(dem: FloatArray, cell: float) -> FloatArray:
    """Minus the Laplacian in 1/100 m: positive on ridges, negative in hollows.

    Definition as in xarray-spatial: -100 (sum of the four neighbours - 4 centre) / cell area.

    Args:
        dem: elevations with a rim of one cell.
        cell: size of a cell in metres.
    """
    right = dem[1:-1, 1:] - dem[1:-1, :-1]
    down = dem[1:, 1:-1] - dem[:-1, 1:-1]
    bend = right[:, 1:] - right[:, :-1]
    bend += down[1:]
    bend -= down[:-1]
    bend *= np.float32(-100 / cell**2)
    return bend


def radius_in_cells(radius: float, cell: float) -> int:
    """A radius in metres in whole cells, rounded up (within a millionth, for inexact cell sizes)."""
    return math.ceil(radius / cell - 1e-6)


def tpi_kernel(outer_radius: float, inner_radius: float, cell: float) -> npt.NDArray[np.bool_]:
    """Neighbourhood of the topographic position index: a disk with its centre, or a ring.

    Args:
        outer_radius: metres; cells at that distance count.
        inner_radius: metres; 0 for a disk; otherwise cells at that distance or nearer do not count.
        cell: size of a cell in metres.

    Returns:
        bool (2 r + 1, 2 r + 1) for an outer radius of r cells.

    Raises:
        SettingsError: if no cell lies in the ring.
    """
    outer, inner = radius_in_cells(outer_radius, cell), radius_in_cells(inner_radius, cell)
    if inner >= outer:
        raise SettingsError(
            f"tpi_inner_radius ({inner_radius} m) and tpi_outer_radius ({outer_radius} m) both are {outer} cell(s) of "
            f"{cell:g} m: there is no ring between them"
        )
    offset = np.arange(-outer, outer + 1)
    squared = offset[:, None] ** 2 + offset**2
    disk = squared <= outer**2
    return disk & (squared > inner**2) if inner else disk


def relative_elevation(dem: FloatArray, kernel: npt.NDArray[np.bool_]) -> FloatArray:
    """Topographic position index: elevation above the mean of the neighbourhood, metres.

    Args:
        dem: elevations with a rim as wide as the kernel's radius r.
        kernel: neighbourhood of shape (2 r + 1, 2 r + 1).

    Returns:
        (h, w) for a `dem` of (h + 2 r, w + 2 r); NaN where any cell of the kernel's *square* is NaN, as in
        xarray-spatial, whose convolution multiplies the NaN outside the disk by zero.
    """
    radius = kernel.shape[0] // 2
    inside = np.s_[radius : dem.shape[0] - radius, radius : dem.shape[1] - radius]
    # Elevation and mean in one kernel: the subtraction happens in double precision.
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
