"""Sliding-window segmentation of a tile of any size, one row of patches at a time.

Held in memory at a time: the model inputs of one row of patches, one batch, and one sum per model over that row. Rows
that no later patch touches are yielded at once.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import OPTICAL, band
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model.checkpoint import load_model
from darts_assets.model.device import pick_device
from darts_assets.model.ensemble import check_ensemble, required_bands
from darts_assets.model.header import CheckpointHeader
from darts_assets.model.parameters import SegmentParameters
from darts_assets.model.patches import PatchAxis
from darts_assets.tiles import TileStream, geobox_of, on_grid

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]


def segment(tile: xr.Dataset, headers: Sequence[CheckpointHeader], parameters: SegmentParameters) -> TileStream:
    """Probabilities of a thaw slump, by one model or the mean of several.

    A patch without a single pixel of finite optical data is not run; its probabilities are 0. (Where no model takes
    optical bands, any finite input counts.) A tile smaller than a patch is extended by reflection, back and forth
    where needed, and the result cropped.

    Args:
        tile: lazily read decoded bands (physical values, NaN where there is nothing), dims (y, x); only the bands
            that a model takes are read, each row of patches once.
        headers: the models.
        parameters: patches, batches and device.

    Returns:
        `probabilities`, float32 in [0, 1], on the tile's grid; with `keep_models` each model's
        `probabilities-NAME` too. All models are loaded when this returns; pixels are read as windows are taken.

    Raises:
        CheckpointError: if a checkpoint cannot be used, or needs a band that the tile lacks.
        SettingsError: if the device is not there, or a model cannot take patches of this size.
    """
    check_ensemble(headers)
    bands = required_bands(headers)
    for header in headers:
        missing = [name for name in header.bands if name not in tile]
        if missing:
            raise CheckpointError(f"model {header.name} needs the band(s) {', '.join(missing)}, which the tile lacks")
    device = pick_device(parameters.device)
    models = [_Model.load(header, bands, device) for header in headers]
    for model in models:
        if parameters.patch_size % model.stride:
            raise SettingsError(
                f"patch_size {parameters.patch_size} must be a multiple of {model.stride} for model {model.name}"
            )
    geobox = geobox_of(tile)
    names = ["probabilities", *(f"probabilities-{model.name}" for model in models if parameters.keep_models)]
    attrs = {**tile.attrs, "models": {header.name: header.sha256 for header in headers}}
    return TileStream(geobox, tuple(names), _windows(tile, geobox, bands, models, parameters), attrs)


def _windows(
    tile: xr.Dataset, geobox: GeoBox, bands: Sequence[str], models: Sequence["_Model"], parameters: SegmentParameters
) -> Iterator[xr.Dataset]:
    size, padding = parameters.patch_size, parameters.padding
    rows, columns = (PatchAxis(length, padding, size, parameters.overlap) for length in geobox.shape)
    inputs = _Inputs(tile, bands, rows, columns)
    sums = np.zeros((len(models), size, columns.extended), dtype=np.float32)
    inner = slice(padding, padding + columns.length)
    ramp = rows.ramp[:, None] * columns.ramp
    for number, start in enumerate(rows.starts, 1):
        inputs.move_to(start)
        patches = [x for x in columns.starts if inputs.valid[:, x : x + size].any()]
        for model, total in zip(models, sums, strict=True):
            for batch in range(0, len(patches), parameters.batch_size):
                at = patches[batch : batch + parameters.batch_size]
                for x, probabilities in zip(at, model.predict(inputs.values, at), strict=True):
                    total[:, x : x + size] += probabilities * ramp
        logger.info(
            "segmented row of patches %d of %d (%d of %d patches have data)",
            number, len(rows.starts), len(patches), len(columns.starts),
        )  # fmt: skip

        stop = rows.starts[number] if number < len(rows.starts) else rows.extended
        first, last = max(start, padding), min(stop, padding + rows.length)
        if first < last:
            weights = rows.weights[first:last, None] * columns.weights[inner]
            each = sums[:, first - start : last - start, inner] / weights
            result = {"probabilities": each.mean(axis=0)}
            if parameters.keep_models:
                result |= {f"probabilities-{model.name}": own for model, own in zip(models, each, strict=True)}
            yield on_grid(result, geobox[first - padding : last - padding, :])
        done = stop - start
        sums[:, : size - done] = sums[:, done:]
        sums[:, size - done :] = 0


class _Inputs:
    """The models' inputs for one row of patches, extended to the left and right.

    Attributes:
        values: model representation, float32, shape (bands, patch, extended columns).
        valid: where any of the bands that decide whether there is data is finite, shape (patch, extended columns).
    """

    def __init__(self, tile: xr.Dataset, bands: Sequence[str], rows: PatchAxis, columns: PatchAxis) -> None:
        self._tile, self._bands, self._rows = tile, bands, rows
        self._columns = columns.source(0, columns.extended)
        self._deciding = {name for name in bands if name in (*OPTICAL, "ndvi")} or set(bands)
        self.values: Array = np.empty((len(bands), rows.patch, columns.extended), dtype=np.float32)
        self.valid = np.empty((rows.patch, columns.extended), dtype=np.bool_)
        self._stop = 0

    def move_to(self, start: int) -> None:
        """Hold the extended rows from `start` on; reads those that are not held yet."""
        kept = max(self._stop - start, 0)
        self._stop = start + self._rows.patch
        source = self._rows.source(start + kept, self._stop)
        read = slice(int(source.min()), int(source.max()) + 1)
        pick = np.ix_(source - read.start, self._columns)
        _keep_last(self.valid, kept)
        self.valid[kept:] = False
        for name, values in zip(self._bands, self.values, strict=True):
            raw = self._tile[name].isel(y=read).to_numpy()
            _keep_last(values, kept)
            values[kept:] = band(name).to_model(raw)[pick]
            if name in self._deciding:
                self.valid[kept:] |= np.isfinite(raw)[pick]


def _keep_last(array: npt.NDArray[Any], rows: int) -> None:
    array[:rows] = array[len(array) - rows :].copy()


@dataclass(frozen=True)
class _Model:
    name: str
    network: torch.nn.Module
    channels: tuple[int, ...]
    device: torch.device

    @classmethod
    def load(cls, header: CheckpointHeader, bands: Sequence[str], device: torch.device) -> "_Model":
        channels = tuple(bands.index(name) for name in header.bands)
        return cls(header.name, load_model(header, device), channels, device)

    @property
    def stride(self) -> int:
        """Rows and columns of a patch must be a multiple of this."""
        encoder: Any = self.network.encoder
        return int(encoder.output_stride)

    def predict(self, values: Array, starts: Sequence[int]) -> Array:
        """Probabilities (n, patch, patch) of the patches that start at these columns of (bands, patch, columns)."""
        size = values.shape[1]
        batch = np.empty((len(starts), len(self.channels), size, size), dtype=np.float32)
        for patch, start in zip(batch, starts, strict=True):
            for target, channel in zip(patch, self.channels, strict=True):
                target[:] = values[channel, :, start : start + size]
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(batch).to(self.device))
            probabilities: Array = torch.sigmoid(logits).squeeze(1).cpu().numpy()
        return probabilities
