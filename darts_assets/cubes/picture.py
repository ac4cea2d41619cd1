"""Small pictures for people: what a chunk holds, and which chunks of a cube are filled."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_assets.bands import TCVIS
from darts_assets.cubes.grid import CHUNK, CubeGrid
from darts_assets.cubes.variables import CubeSpec

Picture = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

SIDE = 128
"""Pixels of a chunk's picture."""

HOLE = (150, 40, 110)
"""Where a chunk has nothing."""

COVERAGE_COLOURS = {
    "filled": (46, 139, 87),
    "empty": (140, 165, 200),
    "missing": (214, 62, 38),
    "never asked for": (238, 238, 232),
}
"""What the colours of a coverage map mean: green, blue, red, light."""

_MAP_SIDE = 256
_MAX_SQUARE = 24
_MARGIN = 1  # chunks around what is known
_FACTOR = CHUNK // SIDE
_RELIEF = 0.6  # share of the shading in the picture of a terrain; the rest is elevation


def chunk_picture(spec: CubeSpec, values: Mapping[str, npt.NDArray[Any]]) -> Picture:
    """A chunk, 128 x 128: elevation shaded from the north-west, the trends as red, green and blue.

    Args:
        spec: of the cube.
        values: variable -> (1024, 1024) physical values.

    Returns:
        RGB; where most of a pixel has no data, `HOLE`.
    """
    if "dem" in {variable.name for variable in spec.variables}:
        dem, known = _reduced(values["dem"], np.isfinite(values["dem"]))
        picture = np.repeat(_shaded(dem, known)[..., np.newaxis], 3, axis=2)
    else:
        something = np.logical_or.reduce([values[name] > 0 for name in TCVIS])
        bands = [_reduced(values[name], something) for name in TCVIS]
        known = bands[0][1]
        picture = np.stack([band for band, _ in bands], axis=2).astype(np.uint8)
    picture[~known] = HOLE
    return picture


def coverage_picture(
    grid: CubeGrid, data: npt.NDArray[np.int64], empty: npt.NDArray[np.int64], missing: npt.NDArray[np.int64]
) -> Picture:
    """A map of a cube's chunks in `COVERAGE_COLOURS`, cropped to those that are known and a margin around them.

    Args:
        grid: of the cube.
        data: (n, 2) rows and columns of the chunks that are filled.
        empty: of those whose source has nothing there.
        missing: of those that were asked for and are not filled.

    Returns:
        RGB, at most 256 x 256; squares of several pixels for a chunk, or, of a wide cube, pixels of several chunks,
        which show missing ones first.
    """
    # In the order of importance, for pixels of several chunks.
    states = [np.reshape(chunks, (-1, 2)).astype(np.int64) for chunks in (empty, data, missing)]
    known = np.concatenate(states)
    if not len(known):
        return np.full((1, 1, 3), COVERAGE_COLOURS["never asked for"], dtype=np.uint8)
    first = np.maximum(known.min(axis=0) - _MARGIN, 0)
    last = np.minimum(known.max(axis=0) + _MARGIN, np.array(grid.shape) - 1)
    shape = last - first + 1
    per_pixel = -(-int(shape.max()) // _MAP_SIDE)
    picture = np.empty((*-(-shape // per_pixel), 3), dtype=np.uint8)
    picture[:] = COVERAGE_COLOURS["never asked for"]
    for name, chunks in zip(("empty", "filled", "missing"), states, strict=True):
        row, col = ((chunks - first) // per_pixel).T
        picture[row, col] = COVERAGE_COLOURS[name]
    return _squares(picture, min(_MAP_SIDE // max(picture.shape), _MAX_SQUARE))


def _reduced(
    values: npt.NDArray[Any], known: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Means of blocks of pixels, over those that are known; and the blocks of which at least half is known."""
    blocks = (SIDE, _FACTOR, SIDE, _FACTOR)
    count = known.reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    total = np.where(known, values, 0).reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    return total / np.maximum(count, 1), count >= _FACTOR**2 / 2


def _shaded(dem: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> Picture:
    """Grey levels of a terrain, stretched to what it holds: tundra shows as well as mountains."""
    if not known.any():
        return np.zeros(dem.shape, dtype=np.uint8)
    low, high = np.percentile(dem[known], (2, 98))
    height = np.clip((np.where(known, dem, low) - low) / max(high - low, 1.0), 0, 1)
    down, right = np.gradient(np.where(known, dem, np.nan))
    light = np.nan_to_num(down + right)  # what rises to the south-east is lit; nothing is at the edges of holes
    spread = float(np.sqrt(np.mean(np.square(light[known])))) or 1.0
    shade = 0.5 + 0.5 * np.tanh(light / (1.5 * spread))
    return np.rint(40 + 200 * (_RELIEF * shade + (1 - _RELIEF) * height)).astype(np.uint8)


def _squares(picture: Picture, side: int) -> Picture:
    """Each pixel as a square, with a gap between squares that are wide enough."""
    large = np.repeat(np.repeat(picture, side, axis=0), side, axis=1)
    if side >= 6:
        large[side - 1 :: side] = large[:, side - 1 :: side] = COVERAGE_COLOURS["never asked for"]
    return large
