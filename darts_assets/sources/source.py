"""The one interface that the chain knows of a source of scenes, and the source that reads STAC items."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.errors import SettingsError
from darts_assets.scene import Scene
from darts_assets.sources.access import S3Options
from darts_assets.sources.calibrate import S2_QUALITY, calibrate
from darts_assets.sources.reader import fetch, open_raw, scene_grid
from darts_assets.sources.stac import parse_item
from darts_assets.tiles import TileStream


class SceneSource(Protocol):
    """Scenes from somewhere: a record first, pixels last."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """What the registered item says; raises SceneError."""

    def grid(self, scene: Scene, s3: S3Options) -> GeoBox:
        """The grid of the scene's pixels, after its files were checked."""

    def open_raw(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> xr.Dataset:
        """Digital numbers on the scene's grid, lazily."""

    def fetch(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> TileStream:
        """Digital numbers on the scene's grid, as a stream."""

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """Reflectance and `quality_data_mask` from digital numbers, lazily.

        `quality` changes the source's own table of classes (class -> 0, 1 or 2); raises SettingsError.
        """


class StacScenes:
    """Sentinel-2 scenes from STAC items, wherever their files are."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `parse_item`."""
        return parse_item(item)

    def grid(self, scene: Scene, s3: S3Options) -> GeoBox:
        """The 10 m grid: the one of the visible and near infrared bands, whatever else is read."""
        return scene_grid(scene, VISIBLE_NIR, s3)

    def open_raw(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> xr.Dataset:
        """See `reader.open_raw`."""
        return open_raw(scene, bands, grid=self._grid_for(scene, bands, s3), s3=s3)

    def fetch(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> TileStream:
        """See `reader.fetch`."""
        return fetch(scene, bands, grid=self._grid_for(scene, bands, s3), s3=s3)

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `calibrate.calibrate`; `quality` changes `S2_QUALITY`."""
        wrong = {scl: value for scl, value in quality.items() if not (0 <= scl <= 11 and value in (0, 1, 2))}
        if wrong:
            raise SettingsError(f"quality {wrong}: expected SCL classes 0..11 and a quality of 0, 1 or 2 for each")
        return calibrate(raw, {**S2_QUALITY, **quality})

    def _grid_for(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> GeoBox | None:
        """None where the bands' own files give the 10 m grid, so that no file is checked twice."""
        return None if set(bands) & set(VISIBLE_NIR) else self.grid(scene, s3)


STAC_SCENES: SceneSource = StacScenes()
