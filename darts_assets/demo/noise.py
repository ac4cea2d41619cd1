"""Seeded noise as a function of map coordinates, independent of the requested window.

A field is a lattice of hashed random numbers, anchored at the origin of the CRS, under a cubic B-spline: separable,
hence two sparse matrix products, and with two continuous derivatives, so slopes and curvatures are smooth.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.sparse
from odc.geo.geobox import GeoBox

Field = npt.NDArray[np.float32]

# Of a uniform [-1, 1] lattice under a 2-D cubic B-spline: sqrt(1/3) * integral of the squared 1-D spline.
_STANDARD_DEVIATION = float(np.sqrt(1 / 3) * 151 / 315)


def pixel_centres(geobox: GeoBox) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Map coordinates of the pixel centres of a north-up grid: x of every column, y of every row."""
    affine = geobox.affine
    rows, columns = geobox.shape
    x = affine.c + affine.a * (np.arange(columns, dtype=np.float64) + 0.5)
    y = affine.f + affine.e * (np.arange(rows, dtype=np.float64) + 0.5)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


def noise(geobox: GeoBox, spacing: float, key: int) -> Field:
    """One octave of noise with zero mean and unit standard deviation.

    Args:
        geobox: north-up grid to evaluate it on.
        spacing: distance of the lattice points in map units; features are two to three times as wide.
        key: number of the field; different keys are independent.

    Returns:
        float32 of the grid's shape.
    """
    x, y = pixel_centres(geobox)
    columns, wx = _spline(x / spacing)
    rows, wy = _spline(y / spacing)
    lattice = _hashed(rows[:, None], columns[None, :], key) / np.float32(_STANDARD_DEVIATION)
    return np.ascontiguousarray((wx @ (wy @ lattice).T).T, dtype=np.float32)


def fractal(geobox: GeoBox, octaves: Mapping[float, float], key: int) -> Field:
    """Sum of octaves: spacing (map units) -> standard deviation."""
    total = np.zeros(geobox.shape, dtype=np.float32)
    for number, (spacing, amplitude) in enumerate(octaves.items()):
        total += np.float32(amplitude) * noise(geobox, spacing, key * 64 + number)
    return total


def smoothstep(values: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, the cubic Hermite step between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _spline(position: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], scipy.sparse.csr_array]:
    """Lattice indices that the positions touch, and the (positions, indices) matrix of cubic B-spline weights."""
    base = np.floor(position).astype(np.int64)
    t = position - base
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    first = int(base.min()) - 1
    indices = np.arange(first, int(base.max()) + 3)
    columns = base[:, None] + np.arange(-1, 3) - first
    pointers = np.arange(0, 4 * len(position) + 1, 4)
    matrix = scipy.sparse.csr_array(
        (weights.ravel().astype(np.float32), columns.ravel(), pointers), shape=(len(position), len(indices))
    )
    return indices, matrix


def _hashed(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], key: int) -> Field:
    """Uniform numbers in [-1, 1) by SplitMix64 of the lattice point and the key."""
    with np.errstate(over="ignore"):
        state = (
            i.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            + j.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
            + np.uint64(key) * np.uint64(0x165667B19E3779F9)
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    return ((state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23)) - np.float32(1)
