"""Sentinel-2 quarterly mosaics of CDSE (collection `sentinel-2-global-mosaics`) as scenes.

A mosaic has the first quartile of the cloudless pixels of three months, per band, in the UTM zone of an MGRS tile: COGs
of int16 (-32768 where there was no valid observation), and the number of observations. It has no scene classification,
no sun angles, and no single sensing time: `datetime` is the first day of the quarter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import OBSERVATIONS, VISIBLE_NIR
from darts_assets.errors import SceneError, SettingsError
from darts_assets.remote.s3_auth import S3Options
from darts_assets.scene import Scene
from darts_assets.sources.rasters.reader import fetch, open_raw, scene_grid
from darts_assets.sources.sentinel2.calibrate import calibrated, data_mask
from darts_assets.sources.sentinel2.parse_item import MOSAIC, parse_item
from darts_assets.tiles import TileStream

FEW_OBSERVATIONS = 3
"""Pixels with at most this many observations are of low quality: clouds may remain in them."""


class MosaicScenes:
    """Quarterly mosaics from STAC items; a `ScenesOf[S3Options]`."""

    def parse(self, item: Mapping[str, Any]) -> Scene:
        """The mosaic that a registered STAC item describes; raises SceneError."""
        scene = parse_item(item)
        if scene.source != MOSAIC:
            raise SceneError(
                f"scene {scene.id} is not a quarterly mosaic: the assets B02, B03, B04, B08 and observations were "
                "expected"
            )
        return scene

    def grid(self, scene: Scene, s3: S3Options) -> GeoBox:
        """The 10 m grid of all bands."""
        return scene_grid(scene, VISIBLE_NIR, s3)

    def open_raw(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> xr.Dataset:
        """See `reader.open_raw`."""
        return open_raw(scene, bands, s3=s3)

    def fetch(self, scene: Scene, bands: Sequence[str], s3: S3Options) -> TileStream:
        """See `reader.fetch`."""
        return fetch(scene, bands, s3=s3)

    def calibrate(self, raw: xr.Dataset, quality: Mapping[int, int]) -> xr.Dataset:
        """Reflectance and quality from digital numbers; lazy input gives lazy output.

        A pixel is invalid (quality 0, NaN in every band) without observations or without data in a band, of low quality
        (1) with up to `FEW_OBSERVATIONS`, and of high quality (2) with more.

        Args:
            raw: result of `open_raw` with `observations`; see `calibrate.calibrate`.
            quality: must be empty: mosaics have no classes.

        Raises:
            SettingsError: if `quality` is not empty.
            ValueError: if there is no optical band, no `observations`, or a band lacks its attributes.
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


MOSAIC_SCENES = MosaicScenes()
