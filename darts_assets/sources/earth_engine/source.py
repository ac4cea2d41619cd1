"""Sentinel-2 scenes whose pixels come from Earth Engine, window by window.

A request is for some bands on a part of the scene's 10 m grid. Earth Engine brings every band to the grid of a request
by nearest neighbour unless the expression says otherwise (https://developers.google.com/earth-engine/guides/resample),
and here it does not.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.earth_engine import EarthEngine, EarthEngineError, EarthEngineOptions
from darts_assets.errors import SceneError
from darts_assets.scene import Scene
from darts_assets.sources.earth_engine.items import SCHEME
from darts_assets.sources.rasters.reader import band_attributes, check_names, scene_attributes
from darts_assets.sources.scene_source import calibrate_scene
from darts_assets.sources.sentinel2.asset_layouts import digital_numbers
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.tiles import WINDOW_ROWS, TileStream, on_grid, row_windows

_REQUEST_BYTES = 16 * 2**20
"""Of pixels in a request: a third of what Earth Engine allows, so that a broken connection costs seconds."""

_AT_ONCE = 4
"""Requests at a time for one scene; a project has 20 to 40, and several scenes may be fetched at once."""

Values = npt.NDArray[Any]


class EarthEngineScenes:
    """Sentinel-2 scenes from the items of `EarthEngineCatalog`; see `source.ScenesOf`."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """What the registered item says.

        Raises:
            SceneError: if it is not an item as `earth_engine_items.item_of` makes them.
        """
        scene = replace(parse_item(item), source="earth_engine")
        images, grids = ({getattr(band, name) for band in scene.bands.values()} for name in ("href", "grid"))
        if len(images) != 1 or not next(iter(images)).startswith(SCHEME):
            raise SceneError(
                f"scene {scene.id}: its bands are at {', '.join(sorted(images))}; one {SCHEME} was expected"
            )
        if len(grids) != 1 or None in grids:
            raise SceneError(f"scene {scene.id}: proj:shape and proj:transform of one grid for all bands were expected")
        return scene

    def grid(self, scene: Scene, options: EarthEngineOptions) -> GeoBox:
        """The grid that the item promises; nothing is asked for."""
        return _grid(scene)

    def open_raw(self, scene: Scene, bands: Sequence[str], options: EarthEngineOptions) -> xr.Dataset:
        """Digital numbers as `reader.open_raw` gives them; a chunk of a band is a request, made when it is computed.

        Raises:
            SceneError: if the scene lacks a band; if Earth Engine refuses, when values are asked for.
            SourceUnavailableError: when values are asked for and the service does not answer, or quotas stay exceeded.
            SettingsError: when values are asked for and there are no credentials or no project.
        """
        check_names(scene, bands)
        engine, grid = EarthEngine(options), _grid(scene)
        at_once = threading.BoundedSemaphore(_AT_ONCE)
        raw = {}
        for name in bands:
            image = _Image(engine, scene, (name,))
            rows = min(WINDOW_ROWS, _REQUEST_BYTES // (grid.shape.x * image.bytes))
            raw[name] = da.from_array(
                _LazyBand(image, grid), chunks=(rows, grid.shape.x), lock=at_once, asarray=False, fancy=False,
                inline_array=True, name=f"{name}-{uuid4().hex}", meta=np.empty((0, 0), _dtype(name)),
            )  # fmt: skip
        return _dataset(scene, raw, grid)

    def fetch(self, scene: Scene, bands: Sequence[str], options: EarthEngineOptions) -> TileStream:
        """Digital numbers as `reader.fetch` gives them: a window is a few requests at once, each for all of the bands.

        Raises:
            SceneError: if the scene lacks a band; from the windows, if Earth Engine refuses.
            SourceUnavailableError: from the windows, if the service does not answer, or quotas stay exceeded.
            SettingsError: from the windows, if there are no credentials or no project.
        """
        check_names(scene, bands)
        image = _Image(EarthEngine(options), scene, tuple(bands))
        grid = _grid(scene)
        return TileStream(grid, tuple(bands), _windows(image, grid), scene_attributes(scene))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `calibrate.calibrate`: pixels that are masked in any band, wherever in the scene, are invalid."""
        return calibrate_scene(raw, quality)


EARTH_ENGINE_SCENES = EarthEngineScenes()


@dataclass(frozen=True)
class _Image:
    """Some bands of a scene's image."""

    engine: EarthEngine
    scene: Scene
    bands: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of a pixel."""
        return sum(_dtype(name).itemsize for name in self.bands)

    def read(self, grid: GeoBox) -> dict[str, Values]:
        """Digital numbers on a grid, 0 where the image is masked; one request.

        Raises:
            SceneError: if the service refuses, or answers something else.
            SourceUnavailableError, SettingsError: see `EarthEngine.pixels`.
        """
        keys = {name: self.scene.bands[name].asset for name in self.bands}
        try:
            found = self.engine.pixels(f"scene {self.scene.id}", self._expression, grid)
        except EarthEngineError as error:
            raise SceneError(f"scene {self.scene.id} cannot be read: {error}") from error
        dtypes = {name: dtype for name, (dtype, *_) in (found.dtype.fields or {}).items()}
        if {name: dtype.kind for name, dtype in dtypes.items()} != dict.fromkeys(keys.values(), "u"):
            answered = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
            raise SceneError(
                f"scene {self.scene.id}: Earth Engine answers {answered}; {', '.join(keys.values())} of unsigned "
                "integers were expected"
            )
        return {name: found[key].astype(_dtype(name), copy=False) for name, key in keys.items()}

    def _expression(self, ee: Any) -> Any:
        image = ee.Image(self.scene.bands[self.bands[0]].href.removeprefix(SCHEME))
        parts = []
        for dtype, cast in ((np.uint16, "toUint16"), (np.uint8, "toByte")):
            if keys := [self.scene.bands[name].asset for name in self.bands if _dtype(name) == dtype]:
                # Without the last argument, what lies outside the footprint would stay masked.
                parts.append(getattr(image.select(keys).unmask(0, False), cast)())
        return parts[0].addBands(parts[1]) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class _LazyBand:
    """What dask takes for an array: one band on the scene's grid, read where it is sliced."""

    image: _Image
    grid: GeoBox
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.shape.yx

    @property
    def dtype(self) -> np.dtype[Any]:
        return _dtype(self.image.bands[0])

    def __getitem__(self, window: tuple[slice, slice]) -> Values:
        (values,) = self.image.read(self.grid[window]).values()
        return values


def _windows(image: _Image, grid: GeoBox) -> Iterator[xr.Dataset]:
    height, width = grid.shape
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="earth-engine") as pool:
        for rows in row_windows(height):
            part = grid[rows, :]
            values = {name: np.empty(part.shape, _dtype(name)) for name in image.bands}

            def fill(columns: slice, part: GeoBox = part, values: dict[str, Values] = values) -> None:
                for name, found in image.read(part[:, columns]).items():
                    values[name][:, columns] = found

            # The grid's columns in as few parts as their size allows, all as wide as each other.
            requests = -(-part.shape[0] * width * image.bytes // _REQUEST_BYTES)
            list(pool.map(fill, row_windows(width, -(-width // requests))))
            yield _dataset(image.scene, values, part)


def _dataset(scene: Scene, values: Mapping[str, Any], grid: GeoBox) -> xr.Dataset:
    raw = on_grid(values, grid, scene_attributes(scene))
    for name, array in raw.data_vars.items():
        array.attrs |= band_attributes(scene.bands[str(name)])
    return raw


def _grid(scene: Scene) -> GeoBox:
    grid = scene.bands[VISIBLE_NIR[0]].grid
    assert grid is not None  # `parse` refuses items without
    return grid


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(digital_numbers("earth_engine", name).dtype)
