"""Sentinel-2 scenes with pixels from Earth Engine, requested window by window.

A request covers a part of the scene's 10 m grid. Earth Engine resamples each band to the grid of a request by nearest
neighbour (https://developers.google.com/earth-engine/guides/resample).
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
from darts_assets.sources.sentinel2.calibrate import S2_QUALITY, calibrate, quality_table
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.tiles import WINDOW_ROWS, TileStream, on_grid, row_windows

_REQUEST_BYTES = 16 * 2**20
"""Pixels of one request: a third of Earth Engine's limit, so that a broken connection costs seconds."""

_AT_ONCE = 4
"""Concurrent requests for one scene; a project may have 20 to 40, and several scenes may be fetched at once."""

Values = npt.NDArray[Any]


class EarthEngineScenes:
    """Sentinel-2 scenes from the items of `EarthEngineCatalog`; a `ScenesOf[EarthEngineOptions]`."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """The scene that a registered STAC item describes.

        Raises:
            SceneError: if it is not an item of `items.item_of`.
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
        """The grid declared by the item; no request is made."""
        return _grid(scene)

    def open_raw(self, scene: Scene, bands: Sequence[str], options: EarthEngineOptions) -> xr.Dataset:
        """Digital numbers as from `reader.open_raw`; computing a chunk of a band is one request.

        Raises:
            SceneError: if the scene lacks a band; on computing, if Earth Engine rejects the request.
            SourceUnavailableError: on computing, if the service does not answer, or quotas stay exceeded.
            SettingsError: on computing, if there are no credentials or no project.
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
                inline_array=True, name=f"{name}-{uuid4().hex}", meta=np.empty((0, 0), image.dtype(name)),
            )  # fmt: skip
        return _dataset(scene, raw, grid)

    def fetch(self, scene: Scene, bands: Sequence[str], options: EarthEngineOptions) -> TileStream:
        """Digital numbers as from `reader.fetch`: a window is a few concurrent requests, each for all of the bands.

        Raises:
            SceneError: if the scene lacks a band; from the windows, if Earth Engine rejects the request.
            SourceUnavailableError: from the windows, if the service does not answer, or quotas stay exceeded.
            SettingsError: from the windows, if there are no credentials or no project.
        """
        check_names(scene, bands)
        image = _Image(EarthEngine(options), scene, tuple(bands))
        grid = _grid(scene)
        return TileStream(grid, tuple(bands), _windows(image, grid), scene_attributes(scene))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `calibrate.calibrate`; pixels that are masked in any band are invalid."""
        return calibrate(raw, quality_table(S2_QUALITY, quality))


EARTH_ENGINE_SCENES = EarthEngineScenes()


@dataclass(frozen=True)
class _Image:
    """A selection of bands of a scene's image."""

    engine: EarthEngine
    scene: Scene
    bands: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes of one pixel."""
        return sum(self.dtype(name).itemsize for name in self.bands)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Dtype of the digital numbers of a band."""
        return np.dtype(self.scene.bands[name].dtype)

    def read(self, grid: GeoBox) -> dict[str, Values]:
        """Digital numbers on a grid, 0 where the image is masked; one request.

        Raises:
            SceneError: if the service rejects the request, or returns other bands.
            SourceUnavailableError, SettingsError: see `EarthEngine.pixels`.
        """
        keys = {name: self.scene.bands[name].asset for name in self.bands}
        try:
            pixels = self.engine.pixels(f"scene {self.scene.id}", self._expression, grid)
        except EarthEngineError as error:
            raise SceneError(f"scene {self.scene.id} cannot be read: {error}") from error
        dtypes = {name: dtype for name, (dtype, *_) in (pixels.dtype.fields or {}).items()}
        if {name: dtype.kind for name, dtype in dtypes.items()} != dict.fromkeys(keys.values(), "u"):
            answered = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
            raise SceneError(
                f"scene {self.scene.id}: Earth Engine returned {answered}; {', '.join(keys.values())} of unsigned "
                "integers were expected"
            )
        return {name: pixels[key].astype(self.dtype(name), copy=False) for name, key in keys.items()}

    def _expression(self, ee: Any) -> Any:
        image = ee.Image(self.scene.bands[self.bands[0]].href.removeprefix(SCHEME))
        parts = []
        for dtype, cast in ((np.uint16, "toUint16"), (np.uint8, "toByte")):
            if keys := [self.scene.bands[name].asset for name in self.bands if self.dtype(name) == dtype]:
                # Without the last argument, pixels outside of the footprint would stay masked.
                parts.append(getattr(image.select(keys).unmask(0, False), cast)())
        return parts[0].addBands(parts[1]) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class _LazyBand:
    """One band on the scene's grid as an array for dask; slicing it makes a request."""

    image: _Image
    grid: GeoBox
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.shape.yx

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.image.dtype(self.image.bands[0])

    def __getitem__(self, window: tuple[slice, slice]) -> Values:
        (values,) = self.image.read(self.grid[window]).values()
        return values


def _windows(image: _Image, grid: GeoBox) -> Iterator[xr.Dataset]:
    height, width = grid.shape
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="earth-engine") as pool:
        for rows in row_windows(height):
            part = grid[rows, :]
            values = {name: np.empty(part.shape, image.dtype(name)) for name in image.bands}

            def fill(columns: slice, part: GeoBox = part, values: dict[str, Values] = values) -> None:
                for name, numbers in image.read(part[:, columns]).items():
                    values[name][:, columns] = numbers

            # The columns in as few parts of equal width as the size of a request allows.
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
    assert grid is not None  # checked by `parse`
    return grid
