"""Compute the features of a scene, window by window, from its reflectance and auxiliary layers."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, TCVIS, TERRAIN, VISIBLE_NIR
from darts_assets.errors import RasterError
from darts_assets.features import conventions, terrain
from darts_assets.features.conventions import Sun
from darts_assets.features.preprocess_parameters import PreprocessParameters
from darts_assets.features.reproject import reproject
from darts_assets.features.terrain import FloatArray
from darts_assets.tiles import WINDOW_ROWS, TileStream, ahead, geobox_of, on_grid, row_windows

Arrays = dict[str, npt.NDArray[Any]]

_NEIGHBOUR_FEATURES = tuple(name for name in TERRAIN if name != "relative_elevation")
"""Terrain features computed from a cell's eight neighbours."""

_STRIP_PIXELS = 2**17
"""Half a megabyte of float32: a strip and its intermediate results fit in the processor's cache."""


class _Layers(NamedTuple):
    """The auxiliary layers of a window.

    Attributes:
        rows: the window.
        relief: `_Relief.read` of the window; None without elevations.
        trends: TCVIS of the window; None without TCVIS.
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
    """Compute the features of a scene, one window of rows at a time as the stream is consumed.

    While a window is consumed, the next one is computed and the auxiliary layers of the one after that are reprojected;
    nothing else is held in memory. Closing the stream's windows stops both threads.

    Args:
        optical: lazy scene on a north-up grid in metres: float32 reflectance `blue green red nir` (NaN where
            invalid), uint8 `quality_data_mask`, optionally uint8 `s2_scl` or `planet_udm`; attributes `sun_azimuth` and
            `sun_elevation`.
        arcticdem: lazy elevations in EPSG:3413: float32 `dem` in metres (NaN where unknown) and uint8
            `arcticdem_data_mask`, covering the grid and `dem_buffer` pixels around it; or None.
        tcvis: lazy trends in EPSG:4326: uint8 `tc_*`, 0 where unknown; or None.
        parameters: convention and radii.
        window_rows: rows of a window; affects memory, not results.

    Returns:
        `FEATURES`, `dem`, `arcticdem_data_mask`, `quality_data_mask` and, if in the input, `s2_scl` or `planet_udm`,
        on the scene's grid. Without an auxiliary layer, its floating-point bands are NaN and its integer bands 0. The
        attributes are those of the scene, the parameters, and the sun position used for hillshade.

    Raises:
        RasterError: if an input lacks a band, or the grid is not north-up with square cells in metres.
        SettingsError: if the radii contain no cell at the grid's resolution.
        ValueError: if an input has no georeference.
    """
    tile = geobox_of(optical)
    masks = ("quality_data_mask", *(name for name in ("s2_scl", "planet_udm") if name in optical))
    _require(optical, (*VISIBLE_NIR, *masks), "scene")
    relief = None if arcticdem is None else _Relief(arcticdem, tile, parameters, Sun.of(optical.attrs))
    if tcvis is not None:
        _require(tcvis, TCVIS, "TCVIS window")
    bands = (*FEATURES, "dem", "arcticdem_data_mask", *masks)

    # Two stages, one window apart, that keep two cores busy: GDAL, and NumPy with OpenCV.
    def layers() -> Generator[_Layers, None, None]:
        for rows in row_windows(tile.shape[0], window_rows):
            elevations = None if relief is None else relief.read(rows)
            yield _Layers(rows, elevations, None if tcvis is None else reproject(tcvis, TCVIS, tile[rows, :]))

    def windows() -> Generator[xr.Dataset, None, None]:
        with closing(ahead(layers())) as reprojected:
            for rows, elevations, trends in reprojected:
                grid = tile[rows, :]
                arrays: Arrays = _optical(optical, rows, masks)
                arrays |= _no_relief(grid) if not (relief and elevations) else relief.features(elevations, rows)
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


def ndvi(red: FloatArray, nir: FloatArray) -> FloatArray:
    """Normalized difference vegetation index.

    Args:
        red: reflectance, float32, any shape; NaN where unknown.
        nir: reflectance of the same shape.

    Returns:
        (nir - red) / (nir + red) in [-1, 1], of reflectances clipped to [0, 1]; NaN where either is NaN or both are 0.
    """
    # Dark pixels have slightly negative reflectances, for which the ratio is unbounded.
    red, nir = np.clip(red, 0, 1), np.clip(nir, 0, 1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (nir - red) / (nir + red)


class _Relief:
    """Elevations of a tile, and the terrain features of windows of its rows."""

    def __init__(self, source: xr.Dataset, tile: GeoBox, parameters: PreprocessParameters, sun: Sun) -> None:
        _require(source, ("dem", "arcticdem_data_mask"), "ArcticDEM window")
        self.source, self.tile, self.parameters, self.sun = source, tile, parameters, sun
        self.cell = _cell_size(tile)
        self.kernel = terrain.tpi_kernel(parameters.tpi_outer_radius, parameters.tpi_inner_radius, self.cell)
        self.rim = self.kernel.shape[0] // 2
        self.grown = tile.pad(self.rim)
        self.sun_turn = conventions.darts_turn_at_centre(tile)
        self.convergence = conventions.MeridianConvergence.of(tile) if parameters.terrain == "physical" else None

    def read(self, rows: slice) -> Arrays:
        """Elevations and their mask in a window of rows, with the rim that the features need."""
        grown = self.grown[rows.start : rows.stop + 2 * self.rim, :]
        return {**reproject(self.source, ("dem", "arcticdem_data_mask"), grown)}

    def features(self, layers: Arrays, rows: slice) -> Arrays:
        """The terrain features of a window of rows, from the result of `read`."""
        dem = layers["dem"].astype(np.float32, copy=False)
        inside = _without_rim(self.rim)
        return {
            "relative_elevation": terrain.relative_elevation(dem, self.kernel),
            **self._neighbour_features(dem[_without_rim(self.rim - 1)], rows),
            "dem": dem[inside],
            "arcticdem_data_mask": layers["arcticdem_data_mask"][inside],
        }

    def _neighbour_features(self, dem: FloatArray, rows: slice) -> Arrays:
        """Slope, aspect, hillshade and curvature, in strips whose intermediate results stay in the cache."""
        height, width = rows.stop - rows.start, self.tile.shape[1]
        features: Arrays = {name: np.empty((height, width), dtype=np.float32) for name in _NEIGHBOUR_FEATURES}
        for strip in row_windows(height, max(1, _STRIP_PIXELS // width)):
            own = slice(rows.start + strip.start, rows.start + strip.stop)
            for name, values in self._strip(dem[strip.start : strip.stop + 2], own).items():
                features[name][strip] = values
        return features

    def _strip(self, dem: FloatArray, rows: slice) -> dict[str, FloatArray]:
        if self.convergence is not None:
            return conventions.physical(dem, self.cell, self.sun, self.convergence.over(rows))
        turn = conventions.darts_turn(self.tile[rows, :])
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
    """Cell size in metres.

    Raises:
        RasterError: unless the grid is north-up with square cells in metres.
    """
    size = grid.resolution
    metric = grid.crs is not None and grid.crs.projected and grid.crs.units[0] in ("metre", "meter", "m")
    if not (metric and grid.axis_aligned and size.x > 0 > size.y and np.isclose(size.x, -size.y)):
        raise RasterError(
            f"the scene's grid has cells of {size.x:g} x {size.y:g} in {grid.crs}, expected a north-up grid with "
            "square cells in metres"
        )
    return float(size.x)


def _require(dataset: xr.Dataset, names: Sequence[str], layer: str) -> None:
    missing = [name for name in names if name not in dataset]
    if missing:
        raise RasterError(
            f"the {layer} lacks the band(s) {', '.join(missing)}; it has {', '.join(map(str, dataset.data_vars))}"
        )
