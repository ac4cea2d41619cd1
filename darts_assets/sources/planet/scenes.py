"""Registered Planet images as scenes: pixels, one band of classes from the usable data mask, and quality.

`planet_udm` has the class of each pixel: the number of the `udm2` band that is set, 1 clear, 2 snow, 3 shadow,
4 light haze, 5 heavy haze, 6 cloud (the highest if several are), 8 no data regardless of the others, 0 if none is set.
The older `udm` has bits instead: 0 outside of the image, 1 cloud, 2 and above a band with missing or suspect data.
These become 8, 6 and 8; pixels without a bit become 0.
https://docs.planet.com/data/imagery/udm
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import UDM, VISIBLE_NIR
from darts_assets.bands import band as codec
from darts_assets.errors import SceneError
from darts_assets.remote.s3_auth import S3Options
from darts_assets.scene import Scene
from darts_assets.sources.planet.delivery_catalog import PlanetFolders
from darts_assets.sources.planet.image_item import parse_image_item
from darts_assets.sources.rasters.reader import check_names, open_raw, scene_attributes, scene_grid, stream
from darts_assets.sources.scene_source import SceneSource, SourceOptions
from darts_assets.sources.sentinel2.calibrate import calibrated, data_mask, graded, quality_table
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
        """The STAC items of all images in a folder or below `s3://bucket/prefix`.

        Raises:
            SceneError: if there are none, or any of them cannot be used; the message lists all problems.
            SettingsError, SourceUnavailableError: see `find_deliveries`.
        """
        folders = PlanetFolders([href], s3)
        items = list(folders.items())
        if folders.problems:
            raise SceneError("; ".join(folders.problems))
        if not items:
            raise SceneError(f"{href} contains no Planet image")
        return items

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """See `parse_image_item`."""
        return parse_image_item(item)

    def grid(self, scene: Scene, options: SourceOptions) -> GeoBox:
        """The grid of the image's pixels."""
        return scene_grid(scene, VISIBLE_NIR, options.s3)

    def open_raw(
        self, scene: Scene, bands: Sequence[str], options: SourceOptions, *, window_rows: int = WINDOW_ROWS
    ) -> xr.Dataset:
        """See `reader.open_raw`; the mask becomes the classes of `planet_udm`."""
        check_names(scene, bands)
        optical = [name for name in bands if name != UDM]
        if len(optical) == len(bands):
            return open_raw(scene, bands, window_rows=window_rows, s3=options.s3)
        raw = open_raw(scene, optical, window_rows=window_rows, s3=options.s3) if optical else None
        grid = self.grid(scene, options) if raw is None else raw.odc.geobox
        mask = _with_flags(scene)
        flags = open_raw(mask, list(mask.bands), grid=grid, window_rows=window_rows, s3=options.s3)
        classes = _classes(flags, is_udm2=scene.bands[UDM].asset == "udm2")
        verified = {} if raw is None else dict(raw.attrs.get("checksums", {}))
        if of_mask := set(flags.attrs.get("checksums", {}).values()):
            verified[UDM] = of_mask.pop()  # all flags are in one file
        attributes = scene_attributes(scene) | ({"checksums": verified} if verified else {})
        if raw is None:
            return xr.Dataset({UDM: classes}, coords=flags.coords, attrs=attributes)
        # Blocks of the two files may differ in height.
        return raw.assign({UDM: classes.chunk({"y": raw.chunksizes["y"]})}).assign_attrs(attributes)

    def fetch(self, scene: Scene, bands: Sequence[str], options: SourceOptions) -> TileStream:
        """See `reader.fetch`."""
        return stream(self.open_raw(scene, bands, options, window_rows=2 * WINDOW_ROWS))

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """Reflectance and quality from digital numbers; lazy input gives lazy output.

        A pixel is invalid (quality 0, NaN in every band) if the mask or a band has no data; else its class decides.

        Args:
            raw: result of `open_raw` with `planet_udm`; see `calibrate.calibrate`.
            quality: class -> quality, changes to `PLANET_QUALITY`.

        Raises:
            SettingsError: if `quality` has an unknown class, or a quality other than 0, 1 or 2.
        """
        grades = graded(raw[UDM], quality_table(PLANET_QUALITY, quality))
        valid = data_mask(raw) & (raw[UDM] != NO_DATA)
        return calibrated(raw, valid, xr.where(valid, grades, np.uint8(0)))


def _with_flags(scene: Scene) -> Scene:
    """The scene with the bands of its mask file as its only bands."""
    mask = scene.bands[UDM]
    indices = _FLAGS if mask.asset == "udm2" else (1,)
    return replace(scene, bands={(name := f"{UDM}-{n}"): replace(mask, name=name, index=n) for n in indices})


def _classes(flags: xr.Dataset, *, is_udm2: bool) -> xr.DataArray:
    planes = list(flags.data_vars.values())
    classify = _from_udm2 if is_udm2 else _from_udm
    classes: xr.DataArray = xr.apply_ufunc(classify, *planes, dask="parallelized", output_dtypes=[np.uint8])
    return classes.assign_attrs(codec(UDM).description(), grid_mapping="spatial_ref")


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
