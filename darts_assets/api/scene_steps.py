"""The steps from a scene to polygons, on xarray datasets, with the results of the assets."""

import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from darts_assets.bands import VISIBLE_NIR, band
from darts_assets.detection import PostprocessParameters
from darts_assets.errors import RasterError
from darts_assets.features import PreprocessParameters
from darts_assets.features.plausibility import BRIGHTEST_MEDIAN, DARKEST_MEDIAN
from darts_assets.model import CheckpointHeader, SegmentParameters, local_checkpoint, read_header, terrain_convention
from darts_assets.settings import settings
from darts_assets.tiles import TileStream

if TYPE_CHECKING:
    import geopandas as gpd

Model = str | os.PathLike[str] | CheckpointHeader
"""A checkpoint: a path, `s3://bucket/key`, the name of a model in the store of the settings, or a header."""


def preprocess(
    optical: xr.Dataset,
    arcticdem: xr.Dataset | None = None,
    tcvis: xr.Dataset | None = None,
    models: Model | Sequence[Model] = (),
    parameters: PreprocessParameters | None = None,
) -> xr.Dataset:
    """The features of a scene, with the values that the asset `preprocessed_tile` stores.

    Args:
        optical: scene on a north-up grid in metres with dims (y, x): reflectance `blue`, `green`, `red` and `nir` as
            floats (0 to 1, NaN where invalid); optionally `quality_data_mask` (0 invalid, 1 low, 2 high quality; by
            default 2 where all bands are valid); attributes `sun_azimuth` and `sun_elevation` in degrees, by default
            225 and 25.
        arcticdem: result of `load_arcticdem` with a buffer of `dem_buffer(parameters, resolution)`, or None.
        tcvis: result of `load_tcvis` with a buffer of 4, or None.
        models: models that the tile is for; they set the terrain convention.
        parameters: convention and radii; default: those of the assets.

    Returns:
        Dataset in memory on the scene's grid: the 13 features, `dem`, `arcticdem_data_mask`, `quality_data_mask`;
        without an auxiliary layer, its floating-point bands are NaN and its integer bands 0. Inputs are read window by
        window, so they may be lazy; the result of a full Sentinel-2 tile takes 5.5 GiB, its computation 6.5 GiB.

    Raises:
        RasterError: if a band is missing, the grid is not north-up with square cells in metres, or the values of a
            band are no reflectance.
        SettingsError: if the radii contain no cell at the grid's resolution.
        ValueError: if an input has no georeference.
    """
    from darts_assets.features.preprocess import preprocess as stream

    if parameters is None:
        parameters = PreprocessParameters(terrain=terrain_convention(_headers(models)))
    tile = _as_stored(stream(_with_quality(optical), arcticdem, tcvis, parameters))
    _require_reflectance(tile)
    return tile


def segment(
    tile: xr.Dataset, models: Model | Sequence[Model], parameters: SegmentParameters | None = None
) -> xr.Dataset:
    """Probabilities of thaw slumps, with the values that the asset `segmentation` stores.

    Args:
        tile: result of `preprocess` or of `open_store(...).tile(...)`, in memory or lazy.
        models: one model, or the models of an ensemble.
        parameters: patch grid, batch size, device and precision; default: those of the assets.

    Returns:
        Dataset in memory on the tile's grid: float32 `probabilities` in 0 to 1, and with `keep_models` each model's
        `probabilities-NAME`. The tile is read in windows.

    Raises:
        CheckpointError: if a checkpoint is invalid, or the tile lacks an input band.
        SettingsError: if the device does not exist, or the patch size does not fit a model.
    """
    from darts_assets.model.segment import segment as stream

    headers = _headers(models)
    expected = terrain_convention(headers)
    if tile.attrs.get("terrain", expected) != expected:
        warnings.warn(
            f"the tile has the terrain convention {tile.attrs['terrain']}, the models were trained on {expected}; pass "
            "the models to preprocess",
            stacklevel=2,
        )
    return _as_stored(stream(tile, headers, parameters or SegmentParameters()))


def polygonize(
    probabilities: xr.Dataset, tile: xr.Dataset, parameters: PostprocessParameters | None = None
) -> "dict[str, gpd.GeoDataFrame]":
    """Polygons of thaw slumps and of the valid area, as the asset `polygons` stores them.

    Args:
        probabilities: result of `segment` or of `open_store(...).probabilities(...)`.
        tile: its tile; only `quality_data_mask` is read.
        parameters: threshold, erosion and filters; default: those of the assets.

    Returns:
        Tables in the tile's CRS: `segments` (one row per slump, with `min max mean median std` of its probabilities,
        `npixel`, `clear_fraction`, `touches_edge`), `extent` (valid area), `clear` (clear part of it), and for each
        model of an ensemble with `keep_models` `segments-NAME`.

    Raises:
        ValueError: if there is no probability band, or the mask is on another grid.
    """
    from darts_assets.detection.vectorize import detection_tables

    return detection_tables(probabilities, tile["quality_data_mask"], parameters or PostprocessParameters())


def _headers(models: Model | Sequence[Model]) -> list[CheckpointHeader]:
    if isinstance(models, (str, os.PathLike, CheckpointHeader)):
        models = (models,)
    return [
        model
        if isinstance(model, CheckpointHeader)
        else read_header(local_checkpoint(os.fspath(model), settings().root))
        for model in models
    ]


def _with_quality(optical: xr.Dataset) -> xr.Dataset:
    """The scene with a uint8 `quality_data_mask`, 0 where a band is not valid."""
    absent = [name for name in VISIBLE_NIR if name not in optical]
    if absent:
        raise RasterError(
            f"the scene lacks the band(s) {', '.join(absent)}; it has {', '.join(map(str, optical.data_vars))}"
        )
    valid: xr.DataArray = reduce(and_, [xr.ufuncs.isfinite(optical[name]) for name in VISIBLE_NIR])
    quality = optical.get("quality_data_mask", 2)
    return optical.assign(quality_data_mask=xr.where(valid, quality, 0).astype(np.uint8))


def _as_stored(stream: TileStream) -> xr.Dataset:
    """A tile in memory, rounded to the values that a store would give back."""

    def windows() -> Generator[xr.Dataset, None, None]:
        with closing(stream):
            for window in stream.windows:
                for name in stream.bands:
                    codec = band(name)
                    window[name].values = codec.decode(codec.encode(window[name].values))
                yield window

    return replace(stream, windows=windows()).collect()


def _require_reflectance(tile: xr.Dataset) -> None:
    for name in VISIBLE_NIR:
        values = tile[name].values
        valid = values[np.isfinite(values)]
        if valid.size and not DARKEST_MEDIAN <= (middle := float(np.median(valid))) <= BRIGHTEST_MEDIAN:
            raise RasterError(
                f"band {name}: the median is {middle:.4g}, expected a reflectance of {DARKEST_MEDIAN:g} to "
                f"{BRIGHTEST_MEDIAN:g}. Are these digital numbers? Apply the scale and offset of the product"
            )
