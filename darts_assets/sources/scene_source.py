"""The one interface that the chain knows of a source of scenes, and who implements it for which scenes."""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import SettingsError
from darts_assets.remote.byte_reader import S3Options
from darts_assets.scene import Scene
from darts_assets.sources.rasters.reader import fetch, open_raw, scene_grid
from darts_assets.sources.sentinel2.calibrate import S2_QUALITY, calibrate
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.sources.stac.read_item import read_item
from darts_assets.tiles import TileStream


@dataclass(frozen=True)
class SourceOptions:
    """How the services of all sources are reached; holds no secrets.

    Attributes:
        s3: for files on S3.
        earth_engine: for pixels of Earth Engine.
    """

    s3: S3Options = field(default_factory=S3Options)
    earth_engine: EarthEngineOptions = field(default_factory=EarthEngineOptions)


_SOURCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "earth_engine": ("darts_assets.sources.earth_engine.source:EARTH_ENGINE_SCENES", "earth_engine"),
        "cdse_mosaic": ("darts_assets.sources.sentinel2.cdse_mosaic:MOSAIC_SCENES", "s3"),
    }
)
"""Provider -> its source, as `module:object`, and which of `SourceOptions` are its own."""

_FILES = ("darts_assets.sources.scene_source:STAC_SCENES", "s3")
"""The same for all other providers, whose items say where their files are and how to read them."""

_SCHEMES: Mapping[str, str] = MappingProxyType({"ee": "earth_engine"})
"""Scheme of the hrefs of an item's assets -> provider, where pixels do not come from files."""

Options = TypeVar("Options", contravariant=True)


class ScenesOf(Protocol[Options]):
    """Scenes from somewhere: a record first, pixels last. `Options` say how the service is reached."""

    def parse(self, item: Mapping[str, Any], /) -> Scene:
        """What the registered item says; raises SceneError."""

    def grid(self, scene: Scene, options: Options, /) -> GeoBox:
        """The grid of the scene's pixels, after its files were checked."""

    def open_raw(self, scene: Scene, bands: Sequence[str], options: Options, /) -> xr.Dataset:
        """Digital numbers on the scene's grid, lazily."""

    def fetch(self, scene: Scene, bands: Sequence[str], options: Options, /) -> TileStream:
        """Digital numbers on the scene's grid, as a stream."""

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int], /) -> xr.Dataset:
        """Reflectance and `quality_data_mask` from digital numbers, lazily.

        `quality` changes the source's own table of classes (class -> 0, 1 or 2); raises SettingsError.
        """


class SceneSource(ScenesOf[SourceOptions | S3Options], Protocol):
    """The one interface that the chain knows; options of S3 alone are enough for those who need no other service."""

    def read(self, href: str, s3: S3Options, /) -> list[dict[str, Any]]:
        """The items of the scenes at a place, to be registered.

        Raises:
            SceneError: if something there is no scene.
            SettingsError, SourceUnavailableError: if the place cannot be read.
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
        """See `calibrate_scene`."""
        return calibrate_scene(raw, quality)

    def _grid_for(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> GeoBox | None:
        """None where the bands' own files give the 10 m grid, so that no file is checked twice."""
        return None if set(bands) & set(VISIBLE_NIR) else self.grid(scene, s3)


class AnyScenes:
    """Sentinel-2 scenes of every provider, each by its own source: the registered item says whose it is."""

    def read(self, href: str, s3: S3Options) -> list[dict[str, Any]]:
        """The one STAC item at a path or URL."""
        return [read_item(href, s3)]

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `ScenesOf`; `Scene.source` of the result is the provider."""
        assets = item.get("assets")
        found = (
            [asset for asset in assets.values() if isinstance(asset, Mapping)] if isinstance(assets, Mapping) else []
        )
        schemes = {urlsplit(str(asset.get("href"))).scheme for asset in found}
        return _source(next((_SCHEMES[scheme] for scheme in schemes if scheme in _SCHEMES), None)).parse(item)

    def grid(self, scene: Scene, options: SourceOptions | S3Options) -> GeoBox:
        """See `ScenesOf`."""
        return _source(scene.source).grid(scene, _own(scene.source, options))

    def open_raw(self, scene: Scene, bands: Sequence[str], options: SourceOptions | S3Options) -> xr.Dataset:
        """See `ScenesOf`."""
        return _source(scene.source).open_raw(scene, bands, _own(scene.source, options))

    def fetch(self, scene: Scene, bands: Sequence[str], options: SourceOptions | S3Options) -> TileStream:
        """See `ScenesOf`."""
        return _source(scene.source).fetch(scene, bands, _own(scene.source, options))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """See `ScenesOf`; the dataset's attribute `source` is the provider."""
        return _source(raw.attrs.get("source")).calibrate(raw, quality)


def calibrate_scene(raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
    """See `calibrate.calibrate`; `quality` changes `S2_QUALITY`.

    Raises:
        SettingsError: if `quality` names what is no class or no quality.
    """
    wrong = {scl: value for scl, value in quality.items() if not (0 <= scl <= 11 and value in (0, 1, 2))}
    if wrong:
        raise SettingsError(f"quality {wrong}: expected SCL classes 0..11 and a quality of 0, 1 or 2 for each")
    return calibrate(raw, {**S2_QUALITY, **quality})


def _source(provider: str | None) -> ScenesOf[Any]:
    name, _ = _SOURCES.get(provider or "", _FILES)
    return cast("ScenesOf[Any]", pkgutil.resolve_name(name))


def _own(provider: str, options: SourceOptions | S3Options) -> Any:
    _, part = _SOURCES.get(provider, _FILES)
    return getattr(SourceOptions(s3=options) if isinstance(options, S3Options) else options, part)


STAC_SCENES: ScenesOf[S3Options] = StacScenes()
ANY_SCENES: SceneSource = AnyScenes()
