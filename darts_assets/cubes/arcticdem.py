"""ArcticDEM mosaics v4.1 (2, 10 and 32 m, EPSG:3413): specification of the cube, and chunks from the mosaic's tiles.

The cube's lattice is that of the Polar Geospatial Center's tile scheme: super tile row and column 0 begin at
-4,100,000 m, a whole number of pixels from the pole at 2, 10 and 32 m, so that tiles are copied, not resampled (except
at 32 m half tiles at odd multiples of 50 km, and published tiles that begin 100 m before their square).
The cube covers +-4,100,000 m (the published index reaches to x = -4,000,000 and y = 4,100,000), padded to whole
chunks at the right and the bottom.
"""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from darts_assets.bands import Band, band
from darts_assets.cubes._raster import OpenRasters, read_onto, with_raster
from darts_assets.cubes.grid import CubeGrid, whole_chunks
from darts_assets.cubes.mosaic_catalog import (
    CRS,
    INDEX_SUFFIXES,
    MosaicTile,
    StaticCatalog,
    TileCatalog,
    stac_errors,
)
from darts_assets.cubes.variables import ChunkData, CubeSpec
from darts_assets.errors import CubeError, RasterError
from darts_assets.remote.stac_client import RateLimitedStacIO

RESOLUTIONS = (2, 10, 32)

_REACH = 4_100_000

_DEM = Band(
    "dem", np.dtype("float32"), np.dtype("int32"), valid=(-100, 3000), scale=0.01, fill=np.iinfo("int32").min,
    clip=False, long_name="Elevation above the WGS 84 ellipsoid", units="m",
    standard_name="height_above_reference_ellipsoid",
)  # fmt: skip
_MASK = replace(band("arcticdem_data_mask"), stored=np.dtype("uint8"))


def arcticdem_spec(resolution: int) -> CubeSpec:
    """The cube of a resolution: `dem` (stored to 1 cm) and `arcticdem_data_mask`.

    Raises:
        CubeError: if ArcticDEM is not published at that resolution.
    """
    if resolution not in RESOLUTIONS:
        raise CubeError(f"ArcticDEM is published at {', '.join(map(str, RESOLUTIONS))} m, not at {resolution} m")
    geobox = whole_chunks(CRS, resolution, -_REACH, _REACH, 2 * _REACH, 2 * _REACH)
    return CubeSpec(
        name=f"arcticdem_{resolution}m",
        grid=CubeGrid(f"{resolution}m", geobox),
        variables=(_DEM, _MASK),
        title=f"ArcticDEM mosaic v4.1, {resolution} m",
        source="Polar Geospatial Center, University of Minnesota (CC-BY-4.0)",
    )


class ArcticDemTiles:
    """Reads chunks from the mosaic's tiles listed in a catalog; thread-safe.

    Args:
        where: a STAC API (such as `https://stac.pgc.umn.edu/api/v1/`), a static STAC source (a catalog, a collection,
            an item collection, one item: paths or URLs; or a folder of item files), or an index of tiles
            (`.gpkg`, `.parquet`, `.shp`, `.zip`; see `tile_index`).
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._rasters = OpenRasters()
        self._opening = threading.Lock()
        self._catalog: TileCatalog | None = None

    def under(self, geobox: GeoBox) -> list[MosaicTile]:
        """The tiles of the grid's resolution that intersect a grid in EPSG:3413, sorted by id.

        Raises:
            CubeError: if the catalog is invalid, or has no tiles of that resolution.
            SourceUnavailableError: if a remote catalog does not answer.
        """
        with self._opening:
            self._catalog = self._catalog or open_catalog(self.where)
        tiles = self._catalog.under(geobox.boundingbox, abs(float(geobox.resolution.x)))
        return sorted(tiles, key=lambda tile: tile.id)

    def read_chunk(self, geobox: GeoBox) -> ChunkData:
        """The mosaic of all tiles that intersect a chunk; each pixel is of the first tile, by id, that has data there.

        Tiles on the cube's lattice are copied; others (half tiles at 32 m) are resampled, elevations bilinearly.

        Args:
            geobox: the chunk's grid, EPSG:3413.

        Returns:
            `dem` float32 metres, NaN where no tile has data; `arcticdem_data_mask` uint8, 0 there. The sources are the
            ids of the contributing tiles. A chunk without tiles is empty.

        Raises:
            CubeError: see `under`.
            RasterError: if a tile's file is missing, corrupt or not in EPSG:3413.
            SourceUnavailableError: if a remote catalog does not answer, or a remote tile cannot be read.
        """
        dem = np.full(tuple(geobox.shape), np.nan, dtype=np.float32)
        mask = np.zeros(dem.shape, dtype=np.uint8)
        sources: list[str] = []
        for tile in self.under(geobox):
            open_pixels = np.isnan(dem)
            if not open_pixels.any():
                break
            elevation = self._read(tile.dem, geobox, np.float32, np.nan, tile.nodata, Resampling.bilinear)
            open_pixels &= np.isfinite(elevation)
            if not open_pixels.any():
                continue
            np.copyto(dem, elevation, where=open_pixels)
            valid = self._read(tile.datamask, geobox, np.uint8, 0, None, Resampling.nearest)
            np.copyto(mask, valid != 0, where=open_pixels)
            sources.append(tile.id)
        return ChunkData({_DEM.name: dem, _MASK.name: mask}, tuple(sources), float(np.isfinite(dem).mean()))

    def _read(
        self, href: str, geobox: GeoBox, dtype: Any, fill: float, nodata: float | None, resampling: Resampling
    ) -> npt.NDArray[Any]:
        def use(source: Any) -> npt.NDArray[Any]:
            if source.crs is None or source.crs.to_epsg() != 3413:
                raise RasterError(f"{href} is in {source.crs}, expected {CRS}")
            if np.dtype(source.dtypes[0]) != dtype:
                raise RasterError(f"{href} holds {source.dtypes[0]}, expected {np.dtype(dtype)}")
            return read_onto(source, geobox, [1], fill=fill, nodata=nodata, resampling=resampling)[0]

        return with_raster(href, use, self._rasters)


def open_catalog(where: str) -> TileCatalog:
    """The catalog at a path or URL; local ones are read when the first tile is requested.

    The kind of catalog is detected from its content, not by trial:
    1. A file with the suffix `.gpkg`, `.parquet`, `.shp` or `.zip` (optionally followed by `#BASE`) is a tile index.
    2. A URL of a document that conforms to the item search of STAC API is searched.
    3. Anything else is a static STAC source: a catalog, collection, item collection, item, or a folder of items.

    Raises:
        CubeError: if a URL does not exist, is not STAC, or has another scheme than http(s).
        SourceUnavailableError: if the server of the URL does not answer.
    """
    if Path(where.partition("#")[0]).suffix.lower() in INDEX_SUFFIXES:
        from darts_assets.cubes.tile_index import TileIndex

        return TileIndex(where)
    if not where.startswith(("http://", "https://")):
        if "://" in where.removeprefix("file://"):
            raise CubeError(f"{where}: expected a path or http(s)://...; only the tiles themselves may be on s3://")
        return StaticCatalog(where)
    from pystac_client import Client, ConformanceClasses

    from darts_assets.cubes.stac_search import StacSearch

    api = RateLimitedStacIO("ArcticDEM catalog")
    with stac_errors(where):
        document = api.read_json(where)
        if document.get("type") == "Catalog":
            client = api.stac_object_from_dict(document, href=where)
            assert isinstance(client, Client)
            client.set_root(client)  # it would be read again
            if client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                return StacSearch(where, client)
    return StaticCatalog(where, document)
