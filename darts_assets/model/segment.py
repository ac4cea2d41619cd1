"""Sliding-window segmentation of a tile of any size, one row of patches at a time.

One thread reads blocks of rows ahead, one runs the models, and the caller's thread consumes windows. Memory holds the
input blocks under one row of patches and one more, one batch, and one sum per model over that row; on a GPU, these are
in GPU memory. Rows are yielded as soon as no later patch touches them.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import SPREAD
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model.device import BatchSize, Transfers, pick_device
from darts_assets.model.header import CheckpointHeader, check_ensemble, required_bands
from darts_assets.model.networks import Network, load_networks
from darts_assets.model.patch_grid import Block, PatchAxis, read_blocks
from darts_assets.model.segmentation_parameters import Precision, SegmentParameters
from darts_assets.tiles import TileStream, ahead, geobox_of, on_grid

logger = logging.getLogger(__name__)


def segment(tile: xr.Dataset, headers: Sequence[CheckpointHeader], parameters: SegmentParameters) -> TileStream:
    """Compute probabilities of thaw slumps with one model or as the mean of several.

    A patch without finite optical data is skipped; its probabilities are 0. (Without optical input bands, any finite
    input counts.) A tile smaller than a patch is extended by repeated reflection, and the result is cropped.

    Args:
        tile: lazily read decoded bands (physical values, NaN where unknown), dims (y, x); only input bands of the
            models are read, each row once.
        headers: the models.
        parameters: patch grid, batch size, device and precision.

    Returns:
        `probabilities`, float32 in [0, 1], on the tile's grid; with `keep_models` each model's
        `probabilities-NAME`, with `keep_spread` and several models `model_spread`. Models are loaded before this
        returns; pixels are read as windows are consumed, some ahead. Closing the windows stops the threads.

    Raises:
        CheckpointError: if a checkpoint is invalid, or the tile lacks an input band.
        SettingsError: if the device does not exist or support the precision, or the patch size does not fit a model.
    """
    for header in headers:
        missing = [name for name in header.bands if name not in tile]
        if missing:
            raise CheckpointError(f"model {header.name} needs the band(s) {', '.join(missing)}, which the tile lacks")
    networks = _networks(headers, parameters)
    geobox = geobox_of(tile)
    names = ["probabilities", *(f"probabilities-{header.name}" for header in headers if parameters.keep_models)]
    names += [SPREAD] * _has_spread(headers, parameters)
    attrs = {**tile.attrs, "models": {header.name: header.sha256 for header in headers}}
    if calibrated := temperatures(headers):
        attrs["temperatures"] = calibrated
    run = _Run(tile, geobox, headers, networks, parameters)
    return TileStream(geobox, tuple(names), run.windows(names), attrs)


def temperatures(headers: Sequence[CheckpointHeader]) -> dict[str, float]:
    """Model -> temperature that `segment` applies, for models with one."""
    return {header.name: header.temperature for header in headers if header.temperature is not None}


def precision_of(headers: Sequence[CheckpointHeader], parameters: SegmentParameters) -> Precision:
    """The precision in which `segment` runs these models; it changes probabilities, unlike the device as such.

    Loads the models; raises the errors that `segment` raises for any tile.
    """
    return _networks(headers, parameters)[0].precision


def _networks(headers: Sequence[CheckpointHeader], parameters: SegmentParameters) -> tuple[Network, ...]:
    check_ensemble(headers)
    networks = load_networks(headers, pick_device(parameters.device), parameters.precision, parameters.compile)
    for header, network in zip(headers, networks, strict=True):
        if parameters.patch_size % network.stride:
            raise SettingsError(
                f"patch_size {parameters.patch_size} must be a multiple of {network.stride} for model {header.name}"
            )
    return networks


def _has_spread(models: Sequence[Any], parameters: SegmentParameters) -> bool:
    return parameters.keep_spread and len(models) > 1


@dataclass(frozen=True)
class _Rows:
    """The finished rows of a row of patches.

    Attributes:
        number: of the row of patches, from 1.
        patches: how many of its patches had data.
        rows: rows of the tile.
        values: waits for float32 (bands, rows, columns).
    """

    number: int
    patches: int
    rows: slice
    values: Callable[[], npt.NDArray[np.float32]]


class _Run:
    """One pass over a tile."""

    def __init__(
        self,
        tile: xr.Dataset,
        geobox: GeoBox,
        headers: Sequence[CheckpointHeader],
        networks: Sequence[Network],
        parameters: SegmentParameters,
    ) -> None:
        self._tile, self._geobox, self._networks, self._parameters = tile, geobox, networks, parameters
        self._bands = required_bands(headers)
        self._channels = [[self._bands.index(name) for name in header.bands] for header in headers]
        self._device = networks[0].device
        size, padding = parameters.patch_size, parameters.padding
        self._rows, self._columns = (PatchAxis(n, padding, size, parameters.overlap) for n in geobox.shape)

    def windows(self, names: Sequence[str]) -> Iterator[xr.Dataset]:
        """The bands `names` of all rows, from top to bottom."""
        across = len(self._columns.starts)
        for done in ahead(self._computed()):
            values = done.values()
            if not np.isfinite(values).all():
                raise CheckpointError(
                    f"the models returned NaN or infinite probabilities in rows {done.rows.start} to "
                    f"{done.rows.stop - 1} of the tile at precision {self._networks[0].precision}; use precision fp32"
                )
            logger.info(
                "segmented row of patches %d of %d (%d of %d patches have data)",
                done.number, len(self._rows.starts), done.patches, across,
            )  # fmt: skip
            yield on_grid(dict(zip(names, values, strict=True)), self._geobox[done.rows, :])

    def _computed(self) -> Generator[_Rows | None, None, None]:
        """Finished rows; None after each batch. On a GPU, one row of patches is computed ahead."""
        transfers = Transfers(self._device)
        batch_sizes = [
            BatchSize(self._parameters.batch_size, self._parameters.patch_size, self._device) for _ in self._networks
        ]
        readers = min(8, os.cpu_count() or 1) if transfers.asynchronous else 1
        inputs = read_blocks(self._tile, self._bands, self._rows, self._columns, transfers.host, readers)
        sums = _Sums(len(self._networks), self._rows, self._columns, self._device)
        blocks: deque[Block] = deque()
        enqueued: deque[_Rows] = deque()
        with closing(ahead(inputs)) as ready:
            for number, start in enumerate(self._rows.starts, 1):
                while not blocks or blocks[-1].stop < start + self._rows.patch:
                    blocks.append(next(ready).on(transfers.up))
                while blocks[0].stop <= start:
                    blocks.popleft()
                patches = [x for x in self._columns.starts if _has_data(blocks, start, x, self._rows.patch)]
                for model, network in enumerate(self._networks):
                    cut = partial(_cut, blocks, start, self._rows.patch, self._channels[model])
                    for batch, probabilities in batch_sizes[model].run(network, cut, patches):
                        sums.add(model, batch, probabilities)
                        yield None
                spread = _has_spread(self._networks, self._parameters)
                rows, values = sums.finish(number, self._parameters.keep_models, spread)
                if values is not None:
                    enqueued.append(_Rows(number, len(patches), rows, transfers.down(values)))
                while len(enqueued) > int(transfers.asynchronous):
                    yield enqueued.popleft()
        yield from enqueued


class _Sums:
    """Weighted sums of patch probabilities per model, over one row of patches."""

    def __init__(self, models: int, rows: PatchAxis, columns: PatchAxis, device: torch.device) -> None:
        self._rows, self._columns = rows, columns
        self._sums = torch.zeros((models, rows.patch, columns.extended), device=device)
        self._ramp, self._row_weights, self._column_weights = (
            torch.from_numpy(values).to(device)
            for values in (rows.ramp[:, None] * columns.ramp, rows.weights, columns.weights)
        )

    def add(self, model: int, starts: Sequence[int], probabilities: torch.Tensor) -> None:
        """Add patches that begin at the columns `starts`."""
        for start, patch in zip(starts, probabilities, strict=True):
            self._sums[model, :, start : start + self._columns.patch].addcmul_(patch, self._ramp)

    def finish(self, number: int, keep_models: bool, keep_spread: bool) -> tuple[slice, torch.Tensor | None]:
        """Tile rows that no patch after row `number` (from 1) touches, and their probabilities; None if there are none.

        Probabilities are (bands, rows, columns): the mean of the models, then those of each model and their standard
        deviation, if these are kept. Advances to the next row of patches.
        """
        rows, columns, starts = self._rows, self._columns, self._rows.starts
        start = starts[number - 1]
        stop = starts[number] if number < len(starts) else rows.extended
        first, last = max(start, rows.padding), min(stop, rows.padding + rows.length)
        values = None
        if first < last:
            inner = slice(columns.padding, columns.padding + columns.length)
            weights = self._row_weights[first:last, None] * self._column_weights[inner]
            each = self._sums[:, first - start : last - start, inner] / weights
            parts = [each.mean(dim=0, keepdim=True)]
            if keep_models:
                parts.append(each)
            if keep_spread:
                parts.append(each.std(dim=0, correction=0, keepdim=True))
            values = torch.cat(parts)
        done = stop - start
        self._sums[:, : rows.patch - done] = self._sums[:, done:].clone()
        self._sums[:, rows.patch - done :] = 0
        return slice(first - rows.padding, last - rows.padding), values


def _overlaps(blocks: Sequence[Block], start: int, stop: int) -> Iterator[tuple[Block, slice, slice]]:
    """Blocks with any of the rows `start` to `stop`, with these rows counted within the block and from `start`."""
    for block in blocks:
        first, last = max(start, block.start), min(stop, block.stop)
        if first < last:
            yield block, slice(first - block.start, last - block.start), slice(first - start, last - start)


def _has_data(blocks: Sequence[Block], start: int, column: int, size: int) -> bool:
    parts = _overlaps(blocks, start, start + size)
    return any(block.valid[rows, column : column + size].any() for block, rows, _ in parts)


def _cut(
    blocks: Sequence[Block], start: int, size: int, channels: Sequence[int], columns: Sequence[int]
) -> torch.Tensor:
    """Patches that begin at row `start` and the given columns, float32 (n, channels, size, size)."""
    parts = list(_overlaps(blocks, start, start + size))
    patches = blocks[0].values.new_empty((len(columns), len(channels), size, size))
    for patch, column in zip(patches, columns, strict=True):
        for target, channel in zip(patch, channels, strict=True):
            for block, rows, here in parts:
                target[here] = block.values[channel, rows, column : column + size]
    return patches
