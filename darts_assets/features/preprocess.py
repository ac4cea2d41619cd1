"""A scene and its auxiliary layers in, the stream of its features out."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, TCVIS, TERRAIN, VISIBLE_NIR
from darts_assets.errors import RasterError
from darts_assets.features import conventions, orientation, terrain
from darts_assets.features.conventions import Sun
from darts_assets.features.indices import ndvi
from darts_assets.features.preprocess_parameters import PreprocessParameters
from darts_assets.features.reproject import reproject
from darts_assets.tiles import WINDOW_ROWS, TileStream, ahead, geobox_of, on_grid, row_windows

Arrays = dict[str, npt.NDArray[Any]]
FloatArray = npt.NDArray[np.float32]

_SHAPE = tuple(name for name in TERRAIN if name != "relative_elevation")
"""The terrain features that come from a cell's direct neighbours."""

_STRIP_PIXELS = 2**17
"""Half a megabyte of float32: a strip and what is computed from it fit in the processor's cache."""


class _Layers(NamedTuple):
    """The auxiliary layers of a window.

    Attributes:
        rows: the window.
        relief: `_Relief.under` it; None where there are no elevations.
        trends: TCVIS on it; None where there is none.
    """

    rows: slice
    relief: Arrays | None
    trends: Arrays | None


def preprocess(
    optical: xr.Dataset,
    arcticdem: xr.Dataset | None,
    tcvis: xr.Dataset | None,
    parameters: PreprocessParameters,
    window_rows: int = WINDOW_ROWS,
) -> TileStream:
    """The features of a scene, computed one window of rows at a time as the stream is consumed.

    While a window is being consumed, the next one is computed, and the auxiliary layers of the one after it are brought
    to the grid; no more is in memory. Closing the stream's windows ends that.

    Args:
        optical: the scene, lazy, on a north-up grid in metres: float32 reflectance `blue green red nir` (NaN where
            invalid), uint8 `quality_data_mask`, perhaps uint8 `s2_scl` or `planet_udm`; attributes `sun_azimuth` and
            `sun_elevation`.
        arcticdem: lazy elevations in EPSG:3413: float32 `dem` in metres (NaN where unknown) and uint8
            `arcticdem_data_mask`, covering the grid and `dem_buffer` pixels around it. None where there are none.
        tcvis: lazy trends in EPSG:4326: uint8 `tc_*`, 0 where unknown. None where there are none.
        parameters: convention and radii.
        window_rows: rows of a window; a matter of memory, not of results.

    Returns:
        `FEATURES`, `dem`, `arcticdem_data_mask`, `quality_data_mask` and, if in the input, `s2_scl` or `planet_udm`,
        on the scene's grid. Where an auxiliary layer is absent, its floating-point bands are NaN and its integer bands
        0. The attributes are the scene's, the parameters, and the sun that hillshade was computed with.

    Raises:
        RasterError: if an input lacks a band, or the grid is not north-up with square cells in metres.
        SettingsError: if the radii leave no cell at the grid's resolution.
        ValueError: if an input carries no georeference.
    """
    tile = geobox_of(optical)
    masks = ("quality_data_mask", *(name for name in ("s2_scl", "planet_udm") if name in optical))
    _require(optical, (*VISIBLE_NIR, *masks), "scene")
    relief = None if arcticdem is None else _Relief(arcticdem, tile, parameters, Sun.of(optical.attrs))
    if tcvis is not None:
        _require(tcvis, TCVIS, "TCVIS window")
    bands = (*FEATURES, "dem", "arcticdem_data_mask", *masks)

    # Two stages, a window apart, which together keep two cores busy: GDAL, and numpy and OpenCV.
    def layers() -> Generator[_Layers, None, None]:
        for rows in row_windows(tile.shape[0], window_rows):
            below = None if relief is None else relief.under(rows)
            yield _Layers(rows, below, None if tcvis is None else reproject(tcvis, TCVIS, tile[rows, :]))

    def windows() -> Generator[xr.Dataset, None, None]:
        with closing(ahead(layers())) as reprojected:
            for rows, below, trends in reprojected:
                grid = tile[rows, :]
                arrays: Arrays = _optical(optical, rows, masks)
                arrays |= _no_relief(grid) if relief is None or below is None else relief.features(below, rows)
                arrays |= _no_trends(grid) if trends is None else trends
                yield on_grid({name: arrays[name] for name in bands}, grid)

    attrs = dict(optical.attrs) | {
        "terrain": parameters.terrain,
        "tpi_outer_radius": parameters.tpi_outer_radius,
        "tpi_inner_radius": parameters.tpi_inner_radius,
    }
    if relief is not None:
        attrs |= {"hillshade_azimuth": relief.sun.azimuth, "hillshade_elevation": relief.sun.elevation}
    return TileStream(tile, bands, ahead(windows()), attrs)


class _Relief:
    """Elevations under a tile, and the terrain features of windows of its rows."""

    def __init__(self, source: xr.Dataset, tile: GeoBox, parameters: PreprocessParameters, sun: Sun) -> None:
        _require(source, ("dem", "arcticdem_data_mask"), "ArcticDEM window")
        self.source, self.tile, self.parameters, self.sun = source, tile, parameters, sun
        self.cell = _cell_size(tile)
        self.kernel = terrain.tpi_kernel(parameters.tpi_outer_radius, parameters.tpi_inner_radius, self.cell)
        self.rim = self.kernel.shape[0] // 2
        self.grown = tile.pad(self.rim)
        self.sun_turn = orientation.darts_turn_at_centre(tile)
        self.convergence = orientation.MeridianConvergence.of(tile) if parameters.terrain == "physical" else None

    def under(self, rows: slice) -> Arrays:
        """Elevations and their mask under a window of rows, and around it as far as the features need."""
        grown = self.grown[rows.start : rows.stop + 2 * self.rim, :]
        return {**reproject(self.source, ("dem", "arcticdem_data_mask"), grown)}

    def features(self, layers: Arrays, rows: slice) -> Arrays:
        """The features of a window of rows, from what lies `under` it."""
        dem = layers["dem"].astype(np.float32, copy=False)
        inside = _without_rim(self.rim)
        return {
            "relative_elevation": terrain.relative_elevation(dem, self.kernel),
            **self._shape(dem[_without_rim(self.rim - 1)], rows),
            "dem": dem[inside],
            "arcticdem_data_mask": layers["arcticdem_data_mask"][inside],
        }

    def _shape(self, dem: FloatArray, rows: slice) -> Arrays:
        """Slope, aspect, hillshade and curvature, strip by strip: the steps in between stay in the cache."""
        height, width = rows.stop - rows.start, self.tile.shape[1]
        shape: Arrays = {name: np.empty((height, width), dtype=np.float32) for name in _SHAPE}
        for strip in row_windows(height, max(1, _STRIP_PIXELS // width)):
            own = slice(rows.start + strip.start, rows.start + strip.stop)
            for name, values in self._strip(dem[strip.start : strip.stop + 2], own).items():
                shape[name][strip] = values
        return shape

    def _strip(self, dem: FloatArray, rows: slice) -> dict[str, FloatArray]:
        if self.convergence is not None:
            return conventions.physical(dem, self.cell, self.sun, self.convergence.over(rows))
        turn = orientation.darts_turn(self.tile[rows, :])
        vintage = self.parameters.terrain
        assert vintage != "physical"
        return conventions.darts(dem, self.cell, self.sun, turn, self.sun_turn, vintage)


def _optical(optical: xr.Dataset, rows: slice, masks: Sequence[str]) -> Arrays:
    window = optical[[*VISIBLE_NIR, *masks]].isel(y=rows).load()
    arrays: Arrays = {name: window[name].values.astype(np.float32, copy=False) for name in VISIBLE_NIR}
    arrays["ndvi"] = ndvi(arrays["red"], arrays["nir"])
    return arrays | {name: window[name].values for name in masks}


def _no_relief(grid: GeoBox) -> Arrays:
    unknown: Arrays = {name: np.full(grid.shape, np.nan, dtype=np.float32) for name in (*TERRAIN, "dem")}
    return unknown | {"arcticdem_data_mask": np.zeros(grid.shape, dtype=np.uint8)}


def _no_trends(grid: GeoBox) -> Arrays:
    return {name: np.zeros(grid.shape, dtype=np.uint8) for name in TCVIS}


def _without_rim(width: int) -> tuple[slice, slice]:
    return (slice(width, -width or None),) * 2


def _cell_size(grid: GeoBox) -> float:
    """Size of a cell in metres.

    Raises:
        RasterError: if the grid is not one that the terrain operators understand.
    """
    size = grid.resolution
    metric = grid.crs is not None and grid.crs.projected and grid.crs.units[0] in ("metre", "meter", "m")
    if not (metric and grid.axis_aligned and size.x > 0 > size.y and np.isclose(size.x, -size.y)):
        raise RasterError(
            f"the scene's grid has cells of {size.x:g} x {size.y:g} in {grid.crs}, expected a north-up grid of square "
            "cells in metres"
        )
    return float(size.x)


def _require(dataset: xr.Dataset, names: Sequence[str], what: str) -> None:
    missing = [name for name in names if name not in dataset]
    if missing:
        raise RasterError(
            f"the {what} has no band {', '.join(missing)}; it has {', '.join(map(str, dataset.data_vars))}"
        )
