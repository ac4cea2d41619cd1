"""TCVIS from Earth Engine: a chunk is one request, on the chunk's own grid."""

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from tenacity.wait import wait_base

from darts_assets.bands import TCVIS
from darts_assets.cubes.tcvis import PROVIDER_NAMES, collection_of, sides
from darts_assets.cubes.variables import ChunkData
from darts_assets.earth_engine import BACKOFF, EarthEngine, EarthEngineError, EarthEngineOptions
from darts_assets.errors import CubeError


class EarthEngineTcvis:
    """The trends in Earth Engine, one image collection for each vintage.

    Args:
        options: how to talk to Earth Engine; the collections must be readable for its account.
        wait: how long to wait before another attempt, where the service does not ask for longer.
    """

    def __init__(self, options: EarthEngineOptions, *, wait: wait_base = BACKOFF) -> None:
        self._engine = EarthEngine(options, wait=wait)

    def read_chunk(self, vintage: int, geobox: GeoBox) -> ChunkData:
        """A vintage's mosaic under a chunk; two requests for one that crosses the antimeridian.

        Args:
            vintage: last year of the trends.
            geobox: the chunk's grid, EPSG:4326; longitudes past 180 are those of the other side.

        Returns:
            Three uint8 arrays, 0 where the mosaic has nothing.

        Raises:
            CubeError: if the collection does not exist, may not be read, or is not what is expected.
            SourceUnavailableError: if the service does not answer, or quotas stay exceeded.
            SettingsError: if there are no credentials or no project, or if the service refuses them.
        """
        collection = collection_of(vintage)

        def image(ee: Any) -> Any:
            # Without the last argument, what lies outside the images' footprints would stay masked.
            return ee.ImageCollection(collection).mosaic().select(list(PROVIDER_NAMES)).unmask(0, False).toByte()

        values = {name: np.zeros(tuple(geobox.shape), dtype=np.uint8) for name in TCVIS}
        for columns, side in sides(geobox):
            try:
                found = self._engine.pixels(collection, image, side)
            except EarthEngineError as error:
                raise CubeError(f"TCVIS of vintage {vintage} cannot be read: {error}") from error
            kinds = {name: str(dtype) for name, (dtype, *_) in (found.dtype.fields or {}).items()}
            if kinds != dict.fromkeys(PROVIDER_NAMES, "uint8"):
                raise CubeError(
                    f"TCVIS of vintage {vintage}: Earth Engine answers for {collection} with the bands "
                    f"{', '.join(f'{name} {kind}' for name, kind in kinds.items())}, "
                    f"expected {', '.join(PROVIDER_NAMES)} of uint8"
                )
            for name, provider_name in zip(TCVIS, PROVIDER_NAMES, strict=True):
                values[name][:, columns] = found[provider_name]
        has_data = np.logical_or.reduce([array != 0 for array in values.values()])
        return ChunkData(
            values=values,
            sources=(collection,) if has_data.any() else (),
            fill_fraction=float(has_data.mean()),
        )
