"""Registered Planet images as scenes: their bands, their usable data mask as one band of classes, their quality.

`planet_udm` has the class of each pixel: the number of the band of `udm2` that is set, 1 clear, 2 snow, 3 shadow,
4 light haze, 5 heavy haze, 6 cloud (the highest, should several be), 8 no data whatever else is set, 0 where none is.
The older `udm` has bits instead: 0 outside of the image, 1 cloud, 2 and above a band whose data are missing or suspect.
They become 8, 6 and 8; what it says nothing of is 0.
https://docs.planet.com/data/imagery/udm
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.bands import band as codec
from darts_assets.errors import SceneError, SettingsError
from darts_assets.remote.s3_auth import S3Options
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.planet.delivery_catalog import PlanetFolders
from darts_assets.sources.rasters.integrity import check_files
from darts_assets.sources.rasters.reader import check_names, open_raw, scene_attributes, scene_grid, stream
from darts_assets.sources.scene_source import SceneSource, SourceOptions
from darts_assets.sources.sentinel2.asset_layouts import PLANET, UDM
from darts_assets.sources.sentinel2.calibrate import calibrated, data_mask, graded
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.tiles import WINDOW_ROWS, TileStream

NO_DATA = 8
_CLOUD = 6

PLANET_QUALITY: Mapping[int, int] = MappingProxyType({0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, NO_DATA: 0})
"""Quality (0 invalid, 1 low, 2 high) of each class of `planet_udm`: snow, shadow, haze and cloud are low."""

_FLAGS = (1, 2, 3, 4, 5, 6, NO_DATA)
"""Bands of `udm2` that are read; 7 is the confidence."""


class PlanetScenes:
    """Planet images; a `SceneSource`."""

    def read(self, href: str, s3: S3Options) -> list[dict[str, Any]]:
        """The items of all images in a folder or below `s3://bucket/prefix`.

        Raises:
            SceneError: if there is none, or naming all that is wrong.
            SettingsError, SourceUnavailableError: see `find_deliveries`.
        """
        folders = PlanetFolders([href], s3)
        items = list(folders.items())
        if folders.problems:
            raise SceneError("; ".join(folders.problems))
        if not items:
            raise SceneError(f"{href}: there is no Planet image in it")
        return items

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """What the registered item says; raises SceneError."""
        scene = parse_item(item)
        assets = item["assets"]
        kind = next((name for name in ("udm2", "udm") if name in assets), None)
        if kind is None:
            raise SceneError(f"scene {scene.id} is no Planet image: it has no asset udm2 or udm")
        # The last of the bands that are read: a file that has it has all of them.
        index = NO_DATA if kind == "udm2" else 1
        size, checksum = assets[kind].get("file:size"), assets[kind].get("file:checksum")
        href = assets[kind]["href"]
        mask = SceneBand(UDM, kind, href, index, nodata=None, dtype="uint8", size=size, checksum=checksum)
        cell = item["properties"].get("pl:grid_cell")
        return replace(scene, source=PLANET, bands={**scene.bands, UDM: mask}, tile=cell)

    def check(self, scene: Scene, options: SourceOptions | S3Options) -> None:
        """Check all its files without reading pixels; raises as `check_files`."""
        check_files(scene, scene.bands, _s3(options))

    def grid(self, scene: Scene, options: SourceOptions | S3Options) -> GeoBox:
        """The grid of the image's pixels."""
        return scene_grid(scene, VISIBLE_NIR, _s3(options))

    def open_raw(
        self, scene: Scene, bands: Sequence[str], options: SourceOptions | S3Options, *, window_rows: int = WINDOW_ROWS
    ) -> xr.Dataset:
        """See `reader.open_raw`; the mask becomes the classes of `planet_udm`."""
        check_names(scene, bands)
        s3 = _s3(options)
        optical = [name for name in bands if name != UDM]
        if len(optical) == len(bands):
            return open_raw(scene, bands, window_rows=window_rows, s3=s3)
        raw = open_raw(scene, optical, window_rows=window_rows, s3=s3) if optical else None
        grid = self.grid(scene, s3) if raw is None else raw.odc.geobox
        flags = open_raw(_as_flags(scene), list(_as_flags(scene).bands), grid=grid, window_rows=window_rows, s3=s3)
        classes = _classes(flags, is_udm2=scene.bands[UDM].asset == "udm2")
        verified = {} if raw is None else dict(raw.attrs.get("checksums", {}))
        if of_mask := set(flags.attrs.get("checksums", {}).values()):
            verified[UDM] = of_mask.pop()  # of the one file
        attributes = scene_attributes(scene) | ({"checksums": verified} if verified else {})
        if raw is None:
            return xr.Dataset({UDM: classes}, coords=flags.coords, attrs=attributes)
        # Blocks of the two files may differ in height.
        return raw.assign({UDM: classes.chunk({"y": raw.chunksizes["y"]})}).assign_attrs(attributes)

    def fetch(self, scene: Scene, bands: Sequence[str], options: SourceOptions | S3Options) -> TileStream:
        """See `reader.fetch`."""
        return stream(self.open_raw(scene, bands, options, window_rows=2 * WINDOW_ROWS))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """Reflectance and quality of digital numbers, lazily where they are lazy.

        A pixel is invalid (quality 0, NaN in every band) where the mask has no data or a band has none (0); otherwise
        its class decides.

        Args:
            raw: what `open_raw` gives, `planet_udm` included; see `calibrate.calibrate`.
            quality: class -> quality, changes to `PLANET_QUALITY`.

        Raises:
            SettingsError: if `quality` names what is no class or no quality.
        """
        wrong = {udm: value for udm, value in quality.items() if udm not in PLANET_QUALITY or value not in (0, 1, 2)}
        if wrong:
            raise SettingsError(f"quality {wrong}: expected classes 0..6 or 8 and a quality of 0, 1 or 2 for each")
        valid = data_mask(raw) & (raw[UDM] != NO_DATA)
        grades = graded(raw[UDM], {**PLANET_QUALITY, **quality})
        return calibrated(raw, valid, xr.where(valid, grades, np.uint8(0)))


def _s3(options: SourceOptions | S3Options) -> S3Options:
    return options if isinstance(options, S3Options) else options.s3


def _as_flags(scene: Scene) -> Scene:
    """The same scene with the bands of its mask instead."""
    mask = scene.bands[UDM]
    indices = _FLAGS if mask.asset == "udm2" else (1,)
    return replace(scene, bands={(name := f"{UDM}-{n}"): replace(mask, name=name, index=n) for n in indices})


def _classes(flags: xr.Dataset, *, is_udm2: bool) -> xr.DataArray:
    planes = list(flags.data_vars.values())
    classify = _from_udm2 if is_udm2 else _from_udm
    found: xr.DataArray = xr.apply_ufunc(classify, *planes, dask="parallelized", output_dtypes=[np.uint8])
    return found.assign_attrs(long_name=codec(UDM).long_name, grid_mapping="spatial_ref")


def _from_udm2(*planes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    classes = np.zeros(planes[0].shape, np.uint8)
    for number, plane in zip(_FLAGS, planes, strict=True):
        classes[plane != 0] = number
    return classes


def _from_udm(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    classes = np.where(bits & 0b10, np.uint8(_CLOUD), np.uint8(0))
    classes[(bits & ~np.uint8(0b10)) != 0] = NO_DATA
    return classes


PLANET_SCENES: SceneSource = PlanetScenes()
