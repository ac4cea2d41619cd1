"""The interface of a source of scenes, and the source of Sentinel-2 scenes, whichever provider they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import OBSERVATIONS, VISIBLE_NIR
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import SceneError, SettingsError
from darts_assets.remote.byte_reader import S3Options
from darts_assets.scene import Scene
from darts_assets.sources.eopf.eopf_item import in_our_layout, is_eopf, is_store, read_store_item
from darts_assets.sources.rasters.reader import fetch, open_raw, scene_grid
from darts_assets.sources.sentinel2.calibrate import S2_QUALITY, calibrate, calibrated, data_mask, quality_table
from darts_assets.sources.sentinel2.parse_item import EOPF, MOSAIC, parse_item
from darts_assets.sources.sentinel2.safe_products import is_safe_location, read_safe_items
from darts_assets.sources.stac.read_item import read_item
from darts_assets.tiles import TileStream


@dataclass(frozen=True)
class SourceOptions:
    """Connection options of the services of all sources; without secrets.

    Attributes:
        s3: for files on S3.
        earth_engine: for pixels from Earth Engine.
    """

    s3: S3Options = field(default_factory=S3Options)
    earth_engine: EarthEngineOptions = field(default_factory=EarthEngineOptions)


FEW_OBSERVATIONS = 3
"""Pixels of a mosaic with at most this many observations are of low quality: clouds may remain in them."""

Options = TypeVar("Options", contravariant=True)


class ScenesOf(Protocol[Options]):
    """A source of scenes: first a record parsed from the item, then pixels. `Options` are those of its service."""

    def parse(self, item: Mapping[str, Any], /) -> Scene:
        """The scene that a registered STAC item describes; raises SceneError."""

    def grid(self, scene: Scene, options: Options, /) -> GeoBox:
        """The grid of the scene's pixels, after a check of its files."""

    def open_raw(self, scene: Scene, bands: Sequence[str], options: Options, /) -> xr.Dataset:
        """Digital numbers on the scene's grid, lazily."""

    def fetch(self, scene: Scene, bands: Sequence[str], options: Options, /) -> TileStream:
        """Digital numbers on the scene's grid, as a stream."""

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int], /) -> xr.Dataset:
        """Reflectance and `quality_data_mask` from digital numbers, lazily.

        `quality` changes entries of the source's table class -> quality (0, 1 or 2); raises SettingsError.
        """


class SceneSource(ScenesOf[SourceOptions], Protocol):
    """The source of all scenes of one family."""

    def read(self, href: str, s3: S3Options, /) -> list[dict[str, Any]]:
        """The STAC items of the scenes at a path or URL, for registration.

        Raises:
            SceneError: if it has anything but valid scenes.
            SettingsError, SourceUnavailableError: if the location cannot be read.
        """


class StacScenes:
    """Sentinel-2 scenes whose STAC items point to raster files; a `ScenesOf[S3Options]`."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `parse_item`."""
        return parse_item(item)

    def grid(self, scene: Scene, s3: S3Options) -> GeoBox:
        """The 10 m grid of the visible and near infrared bands, also if other bands are read."""
        return scene_grid(scene, VISIBLE_NIR, s3)

    def open_raw(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> xr.Dataset:
        """See `reader.open_raw`."""
        return open_raw(scene, bands, grid=self._grid_for(scene, bands, s3), s3=s3)

    def fetch(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> TileStream:
        """See `reader.fetch`."""
        return fetch(scene, bands, grid=self._grid_for(scene, bands, s3), s3=s3)

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `calibrate.calibrate`; `quality` changes entries of `S2_QUALITY`."""
        return calibrate(raw, quality_table(S2_QUALITY, quality))

    def _grid_for(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> GeoBox | None:
        """None if the files of the bands have the 10 m grid, so that no file is checked twice."""
        return None if set(bands) & set(VISIBLE_NIR) else self.grid(scene, s3)


class MosaicScenes(StacScenes):
    """Sentinel-2 quarterly mosaics of CDSE (collection `sentinel-2-global-mosaics`) as scenes.

    A mosaic has the first quartile of the cloudless pixels of three months, per band, in the UTM zone of an MGRS tile:
    COGs of int16 (-32768 where there was no valid observation), and the number of observations. It has no scene
    classification, no sun angles, and no single sensing time: `datetime` is the first day of the quarter.
    """

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """The mosaic that a registered STAC item describes; raises SceneError."""
        scene = parse_item(item)
        if scene.source != MOSAIC:
            raise SceneError(
                f"scene {scene.id} is not a quarterly mosaic: the assets B02, B03, B04, B08 and observations were "
                "expected"
            )
        return scene

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """Reflectance and quality from digital numbers; lazy input gives lazy output.

        A pixel is invalid (quality 0, NaN in every band) without observations or without data in a band, of low quality
        (1) with up to `FEW_OBSERVATIONS`, and of high quality (2) with more.

        Args:
            raw: result of `open_raw` with `observations`; see `calibrate.calibrate`.
            quality: must be empty: mosaics have no classes.

        Raises:
            SettingsError: if `quality` is not empty.
            ValueError: if optical bands, `observations`, or attributes of a band are missing.
        """
        if quality:
            raise SettingsError(
                f"quality {dict(quality)}: quarterly mosaics have no classes, quality depends on the observations"
            )
        if OBSERVATIONS not in raw:
            raise ValueError(f"no band {OBSERVATIONS} in {', '.join(map(str, raw.data_vars))}")
        count = raw[OBSERVATIONS]
        valid = data_mask(raw) & (count > 0)
        graded = valid.astype(np.uint8) + (valid & (count > FEW_OBSERVATIONS)).astype(np.uint8)
        return calibrated(raw, valid, graded)


class AnyScenes:
    """Sentinel-2 scenes of every provider; the item determines the provider, and that the source."""

    def read(self, href: str, s3: S3Options) -> list[dict[str, Any]]:
        """The one STAC item at a path or URL or of a Zarr store, or those of the SAFE products at a location."""
        if is_store(href):
            return [read_store_item(href, s3)]
        if is_safe_location(href, s3):
            return read_safe_items(href, s3)
        return [read_item(href, s3)]

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `ScenesOf`; `Scene.source` of the result is the provider."""
        assets = item.get("assets")
        if isinstance(assets, Mapping):
            hrefs = [str(asset.get("href")) for asset in assets.values() if isinstance(asset, Mapping)]
            if any(href.startswith("ee://") for href in hrefs):
                return _source("earth_engine").parse(item)
        return STAC_SCENES.parse(in_our_layout(item) if is_eopf(item) else item)

    def grid(self, scene: Scene, options: SourceOptions) -> GeoBox:
        """See `ScenesOf`."""
        return _source(scene.source).grid(scene, _own(scene, options))

    def open_raw(self, scene: Scene, bands: Sequence[str], options: SourceOptions) -> xr.Dataset:
        """See `ScenesOf`."""
        return _source(scene.source).open_raw(scene, bands, _own(scene, options))

    def fetch(self, scene: Scene, bands: Sequence[str], options: SourceOptions) -> TileStream:
        """See `ScenesOf`."""
        return _source(scene.source).fetch(scene, bands, _own(scene, options))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `ScenesOf`; the dataset's attribute `source` is the provider."""
        return _source(raw.attrs.get("source")).calibrate(raw, quality)


def _source(provider: str | None) -> ScenesOf[Any]:
    if provider == "earth_engine":
        from darts_assets.sources.earth_engine.source import EARTH_ENGINE_SCENES

        return EARTH_ENGINE_SCENES
    if provider == EOPF:
        from darts_assets.sources.eopf.eopf_scenes import EOPF_SCENES

        return EOPF_SCENES
    return MOSAIC_SCENES if provider == MOSAIC else STAC_SCENES


def _own(scene: Scene, options: SourceOptions) -> Any:
    return options.earth_engine if scene.source == "earth_engine" else options.s3


STAC_SCENES: ScenesOf[S3Options] = StacScenes()
MOSAIC_SCENES: ScenesOf[S3Options] = MosaicScenes()
ANY_SCENES: SceneSource = AnyScenes()
