"""ArcticDEM mosaics v4.1 (2, 10 and 32 m, EPSG:3413): the cube, and its chunks from the mosaic's tiles.

The cube's lattice is that of the Polar Geospatial Center's tile scheme: super tile row and column 0 begin at
-4,100,000 m, which is a whole number of pixels from the pole at 2, 10 and 32 m, so tiles are copied, not resampled
(but for half tiles at 32 m, which begin at odd multiples of 50 km).
The cube covers +-4,100,000 m (the published index reaches to x = -4,000,000 and y = 4,100,000), padded to whole
chunks at the right and the bottom.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox
from rasterio.enums import Resampling

from darts_assets.bands import Band, band
from darts_assets.cubes._items import items_at
from darts_assets.cubes._raster import read_onto, with_raster
from darts_assets.cubes.grid import CubeGrid, whole_chunks
from darts_assets.cubes.spec import ChunkData, CubeSpec
from darts_assets.errors import CubeError, RasterError

CRS = "EPSG:3413"
RESOLUTIONS = (2, 10, 32)

_REACH = 4_100_000
_NODATA = -9999.0

_DEM = Band(
    "dem", np.dtype("float32"), np.dtype("int32"), valid=(-100, 3000), scale=0.01, fill=np.iinfo("int32").min,
    clip=False, long_name="Elevation above the WGS 84 ellipsoid", units="m",
)  # fmt: skip
_MASK = replace(band("arcticdem_data_mask"), stored=np.dtype("uint8"))


def arcticdem_spec(resolution: int) -> CubeSpec:
    """The cube of a resolution: `dem` (kept to 1 cm) and `arcticdem_data_mask`.

    Raises:
        CubeError: if ArcticDEM does not come in that resolution.
    """
    if resolution not in RESOLUTIONS:
        raise CubeError(f"ArcticDEM comes at {', '.join(map(str, RESOLUTIONS))} m, not at {resolution} m")
    geobox = whole_chunks(CRS, resolution, -_REACH, _REACH, 2 * _REACH, 2 * _REACH)
    return CubeSpec(
        name=f"arcticdem_{resolution}m",
        grid=CubeGrid(f"{resolution}m", geobox),
        variables=(_DEM, _MASK),
        title=f"ArcticDEM mosaic v4.1, {resolution} m",
        source="Polar Geospatial Center, University of Minnesota (CC-BY-4.0)",
    )


@dataclass(frozen=True, slots=True)
class MosaicTile:
    """One tile of a mosaic, as its STAC item describes it.

    Attributes:
        id: the item's.
        resolution: metres of a pixel.
        bounds: footprint in EPSG:3413.
        dem: where the elevations are.
        datamask: where the mask of valid data is.
        nodata: elevation that means "no data" where the file does not say.
    """

    id: str
    resolution: float
    bounds: BoundingBox
    dem: str
    datamask: str
    nodata: float


class ArcticDemTiles:
    """The mosaic tiles that a STAC catalog lists; read when the first chunk is asked for.

    Args:
        items: a static catalog, an item collection, one item (paths or URLs), or a folder of item files.
    """

    def __init__(self, items: str) -> None:
        self.items = items

    @cached_property
    def tiles(self) -> tuple[MosaicTile, ...]:
        """All tiles of all resolutions, in the order of their ids: where tiles overlap, the first one wins.

        Raises:
            CubeError: if the catalog cannot be read, or an item is not an ArcticDEM mosaic tile.
        """
        return tuple(sorted((_tile(item) for item in items_at(self.items)), key=lambda tile: tile.id))

    def under(self, geobox: GeoBox) -> list[MosaicTile]:
        """The tiles of the grid's resolution that intersect a grid in EPSG:3413."""
        resolution = abs(float(geobox.resolution.x))
        box = geobox.boundingbox
        return [
            tile
            for tile in self.tiles
            if tile.resolution == resolution
            and max(tile.bounds.left, box.left) < min(tile.bounds.right, box.right)
            and max(tile.bounds.bottom, box.bottom) < min(tile.bounds.top, box.top)
        ]

    def read_chunk(self, geobox: GeoBox) -> ChunkData:
        """The mosaic of every tile that intersects a chunk: in each pixel, the first tile with an elevation wins.

        Tiles on the cube's lattice are copied; others (half tiles at 32 m) are resampled, elevations bilinearly.

        Args:
            geobox: the chunk's grid, EPSG:3413.

        Returns:
            `dem` float32 metres, NaN where no tile has data; `arcticdem_data_mask` uint8, 0 there. The sources are the
            tiles that contributed. A chunk without a tile is empty.

        Raises:
            CubeError: if the catalog cannot be read.
            RasterError: if a tile's file is missing, corrupt or not in EPSG:3413.
            SourceUnavailableError: if a remote tile cannot be read.
        """
        dem = np.full(tuple(geobox.shape), np.nan, dtype=np.float32)
        mask = np.zeros(dem.shape, dtype=np.uint8)
        sources: list[str] = []
        for tile in self.under(geobox):
            wanted = np.isnan(dem)
            if not wanted.any():
                break
            elevation = _read(tile.dem, geobox, np.float32, np.nan, tile.nodata, Resampling.bilinear)
            wanted &= np.isfinite(elevation)
            if not wanted.any():
                continue
            np.copyto(dem, elevation, where=wanted)
            valid = _read(tile.datamask, geobox, np.uint8, 0, None, Resampling.nearest)
            np.copyto(mask, valid != 0, where=wanted)
            sources.append(tile.id)
        return ChunkData({_DEM.name: dem, _MASK.name: mask}, tuple(sources), float(np.isfinite(dem).mean()))


def _read(
    href: str, geobox: GeoBox, dtype: Any, fill: float, nodata: float | None, resampling: Resampling
) -> npt.NDArray[Any]:
    def use(source: Any) -> npt.NDArray[Any]:
        if source.crs is None or source.crs.to_epsg() != 3413:
            raise RasterError(f"{href} is in {source.crs}, expected {CRS}")
        if np.dtype(source.dtypes[0]) != dtype:
            raise RasterError(f"{href} holds {source.dtypes[0]}, expected {np.dtype(dtype)}")
        return read_onto(source, geobox, [1], fill=fill, nodata=nodata, resampling=resampling)[0]

    return with_raster(href, use)


def _tile(item: pystac.Item) -> MosaicTile:
    dem, datamask = (_asset(item, name) for name in ("dem", "datamask"))
    facts: dict[str, Any] = {**item.properties, **dem.extra_fields}
    code = facts.get("proj:code") or f"EPSG:{facts.get('proj:epsg')}"
    if code != CRS:
        raise CubeError(f"item {item.id}: an ArcticDEM mosaic tile is in {CRS}, not {code}")
    transform, shape, bounds = (facts.get(name) for name in ("proj:transform", "proj:shape", "proj:bbox"))
    if bounds is None and transform and shape:
        left, top = transform[2], transform[5]
        bounds = [left, top + transform[4] * shape[0], left + transform[0] * shape[1], top]
    resolution = facts.get("gsd") or (transform[0] if transform else None)
    if bounds is None or resolution is None:
        raise CubeError(f"item {item.id}: no proj:bbox (or proj:transform and proj:shape), or no gsd")
    xmin, ymin, xmax, ymax = (float(edge) for edge in bounds)
    return MosaicTile(
        id=item.id,
        resolution=float(resolution),
        bounds=BoundingBox(left=xmin, bottom=ymin, right=xmax, top=ymax, crs=CRS),
        dem=_href(item, "dem", dem),
        datamask=_href(item, "datamask", datamask),
        nodata=float(facts.get("nodata", _NODATA)),
    )


def _asset(item: pystac.Item, name: str) -> pystac.Asset:
    if name not in item.assets:
        raise CubeError(f"item {item.id}: no asset {name!r}; it has {', '.join(item.assets) or 'none'}")
    return item.assets[name]


def _href(item: pystac.Item, name: str, asset: pystac.Asset) -> str:
    href = asset.get_absolute_href()
    if href is None:
        raise CubeError(f"item {item.id}: the relative href {asset.href!r} of asset {name!r} cannot be resolved")
    return href
