"""The sliding window: positions and blending weights of patches, and model inputs read in blocks of rows.

Results of a model depend on where patches lie, so this is exactly the grid of DARTS: the tile, extended by reflection,
is covered with a patch every `patch - overlap` pixels; the last one is moved back to end with the tile. The weight of
a patch is the product of a ramp per axis. The grid is regular, so the sum of the weights of all patches is a product
of two vectors as well.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from darts_assets.bands import OPTICAL, band
from darts_assets.errors import NotReadableError, RasterError, SourceUnavailableError
from darts_assets.tiles import WINDOW_ROWS

if TYPE_CHECKING:
    import torch

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

_MIN_WEIGHT = 1e-6
"""Weight of the outermost pixel of a patch; with 0, as in DARTS, the outermost pixel of a tile would have no weight."""


@dataclass(frozen=True)
class PatchAxis:
    """Rows or columns of a tile, extended and covered with patches.

    Extended pixels are numbered from the start of the extended axis; the tile's first pixel has number `padding`.

    Attributes:
        length: pixels of the tile.
        padding: pixels added at both ends. A tile that is still shorter than a patch is extended to one patch at its
            far end.
        patch: pixels of a patch.
        overlap: pixels that neighbouring patches share, at most half a patch.
    """

    length: int
    padding: int
    patch: int
    overlap: int

    @property
    def extended(self) -> int:
        """Pixels of the extended axis."""
        return max(self.length + 2 * self.padding, self.patch)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First extended pixel of each patch, ascending."""
        last = self.extended - self.patch
        steps = range(0, max(self.extended - self.overlap, 1), self.patch - self.overlap)
        return tuple(min(start, last) for start in steps)

    def source(self, start: int, stop: int) -> npt.NDArray[np.intp]:
        """Pixels of the tile shown by the extended pixels `start` to `stop`.

        Beyond an end the tile is reflected without repeating its outermost pixel, repeatedly if it is shorter than the
        extension.
        """
        period = max(2 * (self.length - 1), 1)
        offset = (np.arange(start, stop) - self.padding) % period
        return np.minimum(offset, period - offset) if self.length > 1 else np.zeros_like(offset)

    @cached_property
    def ramp(self) -> npt.NDArray[np.float32]:
        """Weights of a patch along the axis: 0 to 1 over `overlap` pixels, 1, then 1 to 0 (float32, length `patch`)."""
        rise = np.linspace(0, 1, self.overlap, dtype=np.float32)
        fall = np.linspace(1, 0, self.overlap, dtype=np.float32)
        flat = np.ones(self.patch - 2 * self.overlap, dtype=np.float32)
        return np.maximum(np.concatenate([rise, flat, fall]), np.float32(_MIN_WEIGHT))

    @cached_property
    def weights(self) -> npt.NDArray[np.float32]:
        """Sum of the weights of all patches at each extended pixel (float32, above 0)."""
        total = np.zeros(self.extended, dtype=np.float32)
        for start in self.starts:
            total[start : start + self.patch] += self.ramp
        return total


@dataclass(frozen=True)
class Block:
    """Rows of the extended tile (see `PatchAxis`).

    Attributes:
        start: the first row.
        stop: the row after the last one.
        values: model representation, float32, shape (bands, rows, extended columns).
        valid: True where any optical band (any band, without optical ones) is finite, shape (rows, extended columns).
    """

    start: int
    stop: int
    values: "torch.Tensor"
    valid: Mask

    def on(self, up: "Callable[[torch.Tensor], torch.Tensor]") -> "Block":
        """The block with its values copied to a device by `up`."""
        return replace(self, values=up(self.values))


def block_rows(axis: PatchAxis) -> list[tuple[int, int]]:
    """First row and end of each block; blocks are aligned with the windows of stored tiles, so each is read once."""
    inner = range(axis.padding + WINDOW_ROWS, axis.padding + axis.length, WINDOW_ROWS)
    edges = [0, *inner, axis.extended]
    return list(pairwise(edges))


def read_blocks(
    tile: xr.Dataset,
    bands: Sequence[str],
    rows: PatchAxis,
    columns: PatchAxis,
    new: "Callable[[tuple[int, ...]], torch.Tensor]",
    readers: int,
) -> Generator[Block, None, None]:
    """Read a tile as blocks, from top to bottom.

    Args:
        tile: lazily read decoded bands.
        bands: bands to read.
        rows: extension at top and bottom.
        columns: extension at left and right.
        new: allocates the memory of a block's values.
        readers: bands read in parallel.

    Raises:
        NotReadableError, SourceUnavailableError, RasterError: if pixels cannot be read; with band and rows.
    """
    deciding = {name for name in bands if name in (*OPTICAL, "ndvi")} or set(bands)
    with ThreadPoolExecutor(readers, thread_name_prefix="read-band") as pool:
        for start, stop in block_rows(rows):
            source = rows.source(start, stop)
            values = new((len(bands), stop - start, columns.extended))
            reads = [
                pool.submit(_read_band, tile, name, source, columns, name in deciding, target)
                for name, target in zip(bands, values.numpy(), strict=True)
            ]
            valid = np.zeros(values.shape[1:], dtype=np.bool_)
            for read in reads:
                mask = read.result()
                if mask is not None:
                    valid |= mask
            yield Block(start, stop, values, valid)


def _read_band(
    tile: xr.Dataset, name: str, source: Rows, columns: PatchAxis, decides: bool, target: npt.NDArray[np.float32]
) -> Mask | None:
    """Fill `target` with the rows `source` of a band; returns the mask of finite pixels if the band `decides`."""
    first, last = int(source.min()), int(source.max()) + 1
    raw = _pixels(tile, name, first, last)
    _extend(band(name).to_model(raw), source - first, columns, target)
    if not decides:
        return None
    valid = np.empty(target.shape, dtype=np.bool_)
    _extend(np.isfinite(raw), source - first, columns, valid)
    return valid


def _pixels(tile: xr.Dataset, name: str, first: int, last: int) -> npt.NDArray[Any]:
    context = f"band {name}, rows {first} to {last - 1} of the tile, cannot be read"
    try:
        return tile[name].isel(y=slice(first, last)).to_numpy()
    except (NotReadableError, SourceUnavailableError) as error:
        raise type(error)(f"{context}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise RasterError(f"{context}: {error}") from error


def _extend(values: npt.NDArray[Any], rows: Rows, columns: PatchAxis, out: npt.NDArray[Any]) -> None:
    """Write the `rows` of `values` to `out`, extended at left and right."""
    if len(rows) != len(values) or (np.diff(rows) != 1).any():
        values = values[rows]
    first, last = columns.padding, columns.padding + columns.length
    out[:, first:last] = values
    out[:, :first] = values[:, columns.source(0, first)]
    out[:, last:] = values[:, columns.source(last, columns.extended)]
