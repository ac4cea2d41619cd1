"""The models' inputs, read in blocks of full-width rows."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from darts_assets.bands import OPTICAL, band
from darts_assets.errors import NotReadableError, RasterError, SourceUnavailableError
from darts_assets.model.patch_grid import PatchAxis
from darts_assets.tiles import WINDOW_ROWS

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Block:
    """Rows of the extended tile (see `PatchAxis`).

    Attributes:
        start: the first row.
        stop: the row after the last one.
        values: model representation, float32, shape (bands, rows, extended columns).
        valid: where any of the bands that decide whether there is data is finite, shape (rows, extended columns).
    """

    start: int
    stop: int
    values: torch.Tensor
    valid: Mask

    def on(self, up: Callable[[torch.Tensor], torch.Tensor]) -> "Block":
        """The block with its values on a device."""
        return replace(self, values=up(self.values))


def block_rows(axis: PatchAxis) -> list[tuple[int, int]]:
    """The blocks of an axis: they end where the windows end in which tiles are stored, so that none is read twice."""
    inner = range(axis.padding + WINDOW_ROWS, axis.padding + axis.length, WINDOW_ROWS)
    edges = [0, *inner, axis.extended]
    return list(pairwise(edges))


def read_blocks(
    tile: xr.Dataset,
    bands: Sequence[str],
    rows: PatchAxis,
    columns: PatchAxis,
    new: Callable[[tuple[int, ...]], torch.Tensor],
    readers: int,
) -> Generator[Block, None, None]:
    """All blocks of a tile, from top to bottom.

    Args:
        tile: lazily read decoded bands.
        bands: the bands of the blocks.
        rows: how the tile is extended at top and bottom.
        columns: how it is extended left and right.
        new: makes the memory for a block's values.
        readers: bands that are read at a time.

    Raises:
        NotReadableError, SourceUnavailableError, RasterError: if pixels cannot be read, naming band and rows.
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
    """Fill `target` with the rows `source` of a band; returns where they are finite, if that decides about data."""
    first, last = int(source.min()), int(source.max()) + 1
    raw = _pixels(tile, name, first, last)
    _extend(band(name).to_model(raw), source - first, columns, target)
    if not decides:
        return None
    valid = np.empty(target.shape, dtype=np.bool_)
    _extend(np.isfinite(raw), source - first, columns, valid)
    return valid


def _pixels(tile: xr.Dataset, name: str, first: int, last: int) -> npt.NDArray[Any]:
    where = f"band {name}, rows {first} to {last - 1} of the tile, cannot be read"
    try:
        return tile[name].isel(y=slice(first, last)).to_numpy()
    except (NotReadableError, SourceUnavailableError) as error:
        raise type(error)(f"{where}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise RasterError(f"{where}: {error}") from error


def _extend(values: npt.NDArray[Any], rows: Rows, columns: PatchAxis, out: npt.NDArray[Any]) -> None:
    """Write the `rows` of `values`, extended to the left and right, to `out`."""
    if len(rows) != len(values) or (np.diff(rows) != 1).any():
        values = values[rows]
    first, last = columns.padding, columns.padding + columns.length
    out[:, first:last] = values
    out[:, :first] = values[:, columns.source(0, first)]
    out[:, last:] = values[:, columns.source(last, columns.extended)]
