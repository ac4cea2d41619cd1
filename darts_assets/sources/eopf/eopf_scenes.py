"""Pixels of EOPF products: the chunks of their arrays under a window, on the 10 m grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.errors import RasterError
from darts_assets.remote.s3_auth import S3Options
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.eopf.zarr_arrays import ZarrStore, coordinates, read_window, split_array
from darts_assets.sources.rasters.integrity import described
from darts_assets.sources.rasters.reader import band_attributes, check_names, scene_attributes, stream
from darts_assets.sources.sentinel2.calibrate import S2_QUALITY, calibrate, quality_table
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.tiles import WINDOW_ROWS, TileStream, on_grid

_MOST_ROWS = 2048
"""Windows are not aligned with chunks that have more rows than this."""


class EopfScenes:
    """Sentinel-2 scenes in Zarr stores; a `ScenesOf[S3Options]`."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `parse_item`; items of the service are brought into our layout before (see `eopf_item`)."""
        return parse_item(item)

    def grid(self, scene: Scene, s3: S3Options) -> GeoBox:
        """The 10 m grid, from the coordinates in the store."""
        return _grid(scene, VISIBLE_NIR[0], s3)

    def open_raw(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> xr.Dataset:
        """Digital numbers as from `reader.open_raw`; computing a window reads the chunks under it.

        Bands of 20 m and 60 m are repeated. Chunks that a store does not have are pixels without data.

        Raises:
            SceneError: if the scene lacks a band.
            RasterError: if an array is missing, damaged or unexpected, or if its scale and offset differ from the
                scene's; computing values raises it too.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """
        check_names(scene, bands)
        grid = self.grid(scene, s3)
        sources = {name: _source(scene, scene.bands[name], grid, s3) for name in bands}
        rows = max(source.array.chunks[0] * source.times for source in sources.values())
        rows = rows * max(1, WINDOW_ROWS // rows) if rows <= _MOST_ROWS else WINDOW_ROWS
        raw = on_grid({name: source.lazy(rows) for name, source in sources.items()}, grid, scene_attributes(scene))
        for name, values in raw.data_vars.items():
            values.attrs |= band_attributes(scene.bands[str(name)])
        return raw

    def fetch(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> TileStream:
        """Digital numbers as from `reader.fetch`, one row of chunks at a time."""
        return stream(self.open_raw(scene, bands, s3))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `calibrate.calibrate`; `quality` changes entries of `S2_QUALITY`."""
        return calibrate(raw, quality_table(S2_QUALITY, quality))


EOPF_SCENES = EopfScenes()


@dataclass(frozen=True)
class _Source:
    """An array as a band of the 10 m grid.

    Attributes:
        array: the array.
        times: pixels of the grid per pixel of the array, in each direction.
        where: scene, band and array, for messages.
    """

    array: "zarr.Array[Any]"
    times: int
    where: str
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.array.shape
        return height * self.times, width * self.times

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray[Any, Any]:
        own = tuple(slice(part.start // self.times, -(-part.stop // self.times)) for part in window)
        values = read_window(self.array, (own[0], own[1]), self.where)
        if self.times == 1:
            return values
        first = [part.start - whole.start * self.times for part, whole in zip(window, own, strict=True)]
        size = [part.stop - part.start for part in window]
        repeated = values.repeat(self.times, axis=0).repeat(self.times, axis=1)
        return repeated[first[0] : first[0] + size[0], first[1] : first[1] + size[1]]

    def lazy(self, rows: int) -> da.Array:
        """The band as a dask array with blocks of full width."""
        return da.from_array(
            self, chunks=(rows, self.shape[1]), name=f"eopf-{uuid4().hex}", asarray=False, fancy=False,
            inline_array=True, meta=np.empty((0, 0), self.dtype),
        )  # fmt: skip


def _source(scene: Scene, band: SceneBand, grid: GeoBox, s3: S3Options) -> _Source:
    """Open the array of a band and compare it with the scene."""
    where, store, path = _located(scene, band, s3)
    array = store.array(path, where)
    if array.ndim != 2 or array.dtype != np.dtype(band.dtype):
        raise RasterError(f"{where} has {array.ndim} dimensions of type {array.dtype}; 2 of {band.dtype} were expected")
    times = grid.shape.y // array.shape[0] if array.shape[0] else 0
    if times < 1 or (array.shape[0] * times, array.shape[1] * times) != tuple(grid.shape):
        raise RasterError(
            f"{where} has {array.shape} pixels, the 10 m grid {tuple(grid.shape)}; parts of it were expected"
        )
    epsg = array.attrs.get("proj:epsg")
    if epsg is not None and str(epsg) != str(scene.epsg):
        raise RasterError(f"{where} has the CRS EPSG:{epsg}, its item EPSG:{scene.epsg}")
    for attribute, own in (("scale_factor", band.scale), ("add_offset", band.offset)):
        stated = array.attrs.get(attribute)
        if band.name != "s2_scl" and stated is not None and own is not None and not _is_close(stated, own):
            raise RasterError(f"{where} has the {attribute} {stated}; {own:g} was expected ({scene.offset_evidence})")
    return _Source(array, times, where)


def _located(scene: Scene, band: SceneBand, s3: S3Options) -> tuple[str, ZarrStore, str]:
    where = described(scene, band)
    parts = split_array(band.href)
    if parts is None:
        raise RasterError(f"{where}: an array in a store (X.zarr/...) was expected")
    return where, ZarrStore(parts[0], s3), parts[1]


def _grid(scene: Scene, name: str, s3: S3Options) -> GeoBox:
    """The grid of a band, from the coordinates of its pixels' centres in the same group."""
    where, store, path = _located(scene, scene.bands[name], s3)
    group = path.rpartition("/")[0]
    x, y = (coordinates(store.array(f"{group}/{axis}", f"{where}, {axis}"), f"{where}, {axis}") for axis in "xy")
    width, height = float(x[1] - x[0]), float(y[1] - y[0])
    if width <= 0 or height >= 0:
        raise RasterError(f"{where}: its coordinates do not run from west to east and from north to south")
    transform = Affine(width, 0, float(x[0]) - width / 2, 0, height, float(y[0]) - height / 2)
    return GeoBox((len(y), len(x)), transform, f"EPSG:{scene.epsg}")


def _is_close(stated: object, expected: float) -> bool:
    try:
        return abs(float(stated) - expected) < 1e-9  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
