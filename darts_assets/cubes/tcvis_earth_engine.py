"""TCVIS from Earth Engine, one request per chunk, on the chunk's grid."""

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from darts_assets.bands import TCVIS
from darts_assets.cubes.tcvis import PROVIDER_NAMES, collection_of, sides
from darts_assets.cubes.variables import ChunkData
from darts_assets.earth_engine import EarthEngine, EarthEngineError, EarthEngineOptions
from darts_assets.errors import CubeError


class EarthEngineTcvis:
    """Reader of the trends in Earth Engine, one image collection per vintage.

    Args:
        options: connection to Earth Engine; its account must have access to the collections.
    """

    def __init__(self, options: EarthEngineOptions) -> None:
        self._engine = EarthEngine(options)

    def read_chunk(self, vintage: int, geobox: GeoBox) -> ChunkData:
        """The mosaic of a vintage on a chunk's grid, by one request (two across the antimeridian).

        Args:
            vintage: last year of the trends.
            geobox: the chunk's grid, EPSG:4326; longitudes may exceed 180.

        Returns:
            Three uint8 arrays, 0 where the mosaic has no data.

        Raises:
            CubeError: if the collection does not exist, is not accessible, or has other bands than expected.
            SourceUnavailableError: if the service does not answer, or quotas stay exceeded.
            SettingsError: if there are no credentials or no project, or if the service refuses them.
        """
        collection = collection_of(vintage)

        def image(ee: Any) -> Any:
            # Without the last argument, pixels outside the images' footprints would stay masked.
            return ee.ImageCollection(collection).mosaic().select(list(PROVIDER_NAMES)).unmask(0, False).toByte()

        values = {name: np.zeros(tuple(geobox.shape), dtype=np.uint8) for name in TCVIS}
        for columns, side in sides(geobox):
            try:
                pixels = self._engine.pixels(collection, image, side)
            except EarthEngineError as error:
                raise CubeError(f"TCVIS of vintage {vintage} cannot be read: {error}") from error
            kinds = {name: str(dtype) for name, (dtype, *_) in (pixels.dtype.fields or {}).items()}
            if kinds != dict.fromkeys(PROVIDER_NAMES, "uint8"):
                raise CubeError(
                    f"TCVIS of vintage {vintage}: Earth Engine returned {collection} with the bands "
                    f"{', '.join(f'{name} {kind}' for name, kind in kinds.items())}, "
                    f"expected {', '.join(PROVIDER_NAMES)} of uint8"
                )
            for name, provider_name in zip(TCVIS, PROVIDER_NAMES, strict=True):
                values[name][:, columns] = pixels[provider_name]
        has_data = np.logical_or.reduce([array != 0 for array in values.values()])
        return ChunkData(
            values=values,
            sources=(collection,) if has_data.any() else (),
            fill_fraction=float(has_data.mean()),
        )
