"""Elevations and trends under a grid, fetched into the cubes of a store where they are missing."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import xarray as xr

from darts_assets.bands import AuxiliaryLayer
from darts_assets.cubes.cube_store import CubeStore
from darts_assets.cubes.fill import Progress
from darts_assets.cubes.tcvis import VINTAGES
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.settings import settings
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from darts_assets.cubes.cube import Cube


def load_arcticdem(
    geobox: "GeoBox",
    data_dir: str | os.PathLike[str] | None = None,
    resolution: Literal[2, 10, 32] = 10,
    buffer: int = 0,
    *,
    source: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """ArcticDEM under a grid; missing chunks are fetched into the cube first.

    Args:
        geobox: a grid in any CRS.
        data_dir: root of the store with the cubes, a path or `s3://bucket/prefix`; default: `DARTS_STORE`.
        resolution: metres: 2, 10 or 32.
        buffer: cube pixels to add on each side.
        source: STAC API, catalog, items or index of the mosaic tiles; default: `DARTS_ARCTICDEM`.
        offline: fetch nothing; default: `DARTS_OFFLINE`.
        progress: called with the number of chunks done and of all that are missing, for example `print`.

    Returns:
        Lazy dataset with dims (y, x) on the cube's own grid in EPSG:3413: float32 `dem` in metres above the ellipsoid,
        NaN where unknown, and uint8 `arcticdem_data_mask`, 1 where known. Attributes: `cube`, `snapshot`.

    Raises:
        MissingChunksError: offline, with the partition keys of all missing chunks.
        ChunksFailedError: if chunks cannot be fetched; the others are in the cube.
        CubeError: if the resolution is not published or the cube does not cover the grid.
    """
    cubes = _cubes(data_dir, arcticdem=source)
    return _load(cubes, "arcticdem", cubes.arcticdem_cube(resolution), geobox, buffer, offline, progress)


def load_tcvis(
    geobox: "GeoBox",
    data_dir: str | os.PathLike[str] | None = None,
    buffer: int = 0,
    *,
    vintage: int = VINTAGES[-1],
    source: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Trends of Landsat's Tasseled Cap indices under a grid; missing chunks are fetched into the cube first.

    Args:
        geobox: a grid in any CRS.
        data_dir: root of the store with the cubes, a path or `s3://bucket/prefix`; default: `DARTS_STORE`.
        buffer: cube pixels to add on each side.
        vintage: last year of the trends: 2019, 2020, 2022 or 2024 (`vintage_for(year)` is that of the assets).
        source: path or URL with `{vintage}` of rasters; default: `DARTS_TCVIS`, or Earth Engine.
        offline: fetch nothing; default: `DARTS_OFFLINE`.
        progress: called with the number of chunks done and of all that are missing, for example `print`.

    Returns:
        Lazy dataset with dims (y, x) on the cube's own grid in EPSG:4326: uint8 `tc_brightness`, `tc_greenness`,
        `tc_wetness`, 0 where unknown. Attributes: `cube`, `snapshot`.

    Raises:
        MissingChunksError: offline, with the partition keys of all missing chunks.
        ChunksFailedError: if chunks cannot be fetched; the others are in the cube.
        CubeError: if the vintage is not published or the cube does not cover the grid.
        SettingsError: if Earth Engine is the source and has no credentials.
    """
    cubes = _cubes(data_dir, tcvis=source)
    return _load(cubes, "tcvis", cubes.tcvis_cube(vintage), geobox, buffer, offline, progress)


def _load(
    cubes: CubeStore,
    layer: AuxiliaryLayer,
    cube: "Cube",
    geobox: "GeoBox",
    buffer: int,
    offline: bool | None,
    progress: Progress | None,
) -> xr.Dataset:
    keys = cube.spec.grid.chunks_for(geobox, buffer)
    offline = settings().offline if offline is None else offline
    cubes.fill(layer, cube, keys, f"load_{layer}", offline=offline, progress=progress)
    return cube.window(geobox, buffer)


def _cubes(
    data_dir: str | os.PathLike[str] | None, *, arcticdem: str | None = None, tcvis: str | None = None
) -> CubeStore:
    known = settings()
    root = known.root
    if data_dir is not None:
        root = StoreLocation(os.fspath(data_dir), known.store_endpoint, known.store_region)
    earth_engine = EarthEngineOptions(project=known.earth_engine_project, key_file=known.earth_engine_key_file)
    if known.earth_engine_url:
        earth_engine = replace(earth_engine, url=known.earth_engine_url)
    return CubeStore(root, arcticdem or known.arcticdem, tcvis or known.tcvis, earth_engine)
