"""Tile indexes of the Polar Geospatial Center: vector files with the footprint of each tile.

Supported are the indexes of v4.1 (`ArcticDEM_Mosaic_Index_v4_1_*`: a layer or a file for each of 2, 10 and 32 m, with
`tile` and `gsd`) and of release 7 (one row per super tile, with `tile` and `resolution`). A super tile `60_42` is the
square of 100 km in row 60 and column 42 of the tile scheme. At 2 m it consists of four tiles, `60_42_1_1` to
`60_42_2_2`, rows from south to north and columns from west to east. Rows of 2 m thus define tiles of 10 and 32 m, too.

An index has no links to files. Their base is PGC's public bucket, or follows a `#`:
    ArcticDEM_Mosaic_Index_v4_1_gpkg.gpkg
    ArcticDEM_Mosaic_Index_v4_1_gpkg.gpkg#/data/arcticdem/v4.1
    -> BASE/10m/60_42/60_42_10m_v4.1_dem.tif, BASE/2m/60_42/60_42_2_2_2m_v4.1_datamask.tif, ...
"""

import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import shapely
from odc.geo.geom import BoundingBox
from shapely.geometry.base import BaseGeometry

from darts_assets.cubes.mosaic_catalog import CRS, MosaicTile
from darts_assets.errors import CubeError
from darts_assets.geo.vector_files import vector_layers

if TYPE_CHECKING:
    import geopandas as gpd

logger = logging.getLogger(__name__)

BASE = "s3://pgc-opendata-dems/arcticdem/mosaics/v4.1"

_VERSION = "v4.1"
_RESOLUTIONS = (2, 10, 32)
_FINEST = 2
_NAME = re.compile(r"\d\d_\d\d(_[12]_[12])?")
_ORIGIN = -4_100_000  # metres; the south-west corner of row 0, column 0
_SUPER_TILE = 100_000
_QUARTERS = ((1, 1), (1, 2), (2, 1), (2, 2))


class _Row(NamedTuple):
    tile: str
    resolution: float
    footprint: BaseGeometry


class TileIndex:
    """The tiles of a published index, which is read completely when the first tile is requested.

    Args:
        where: `FILE` or `FILE#BASE`, see above; a local file. A `.zip` may contain files of the other kinds.
    """

    def __init__(self, where: str) -> None:
        self.file, _, base = where.partition("#")
        self.base = (base or BASE).rstrip("/")
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._tiles: dict[float, tuple[list[_Row], shapely.STRtree]] = {}

    def under(self, box: BoundingBox, resolution: float) -> list[MosaicTile]:
        """See `TileCatalog`."""
        with self._lock:
            self._rows = self._rows or self._read()
            if resolution not in self._tiles:
                rows = self._rows_of(resolution)
                self._tiles[resolution] = rows, shapely.STRtree([row.footprint for row in rows])
        rows, tree = self._tiles[resolution]
        area = shapely.box(box.left, box.bottom, box.right, box.top)
        hits = (rows[n] for n in tree.query(area, predicate="intersects"))
        return [self._tile(row) for row in hits if not area.touches(row.footprint)]

    def _tile(self, row: _Row) -> MosaicTile:
        resolution = f"{row.resolution:g}m"
        tile = f"{row.tile}_{resolution}_{_VERSION}"
        path = f"{self.base}/{resolution}/{_super_tile(row.tile)}/{tile}"
        left, bottom, right, top = row.footprint.bounds
        bounds = BoundingBox(left, bottom, right, top, crs=CRS)
        return MosaicTile(tile, row.resolution, bounds, dem=f"{path}_dem.tif", datamask=f"{path}_datamask.tif")

    def _rows_of(self, resolution: float) -> list[_Row]:
        """One row per tile of a resolution."""
        own = [row for row in self._rows if row.resolution == resolution]
        rows = own or [row for row in self._rows if row.resolution == _FINEST]
        if not rows or resolution not in _RESOLUTIONS:
            known = ", ".join(f"{metres:g}" for metres in sorted({row.resolution for row in self._rows}))
            raise CubeError(
                f"{self.file} lists tiles of {known or 'no'} m, expected ArcticDEM tiles of {resolution:g} m"
            )
        if resolution == _FINEST:
            return [tile for row in rows for tile in _fine_tiles(row)]
        parts: dict[str, list[BaseGeometry]] = {}
        for row in rows:
            parts.setdefault(_super_tile(row.tile), []).append(row.footprint)
        return [_Row(name, resolution, shapely.union_all(footprints)) for name, footprints in parts.items()]

    def _read(self) -> list[_Row]:
        if "://" in self.file:
            raise CubeError(f"{self.file}: an index of tiles must be a local file; download it first")
        try:
            layers = [table for _, table in vector_layers(Path(self.file).expanduser())]
        except (OSError, ValueError) as error:
            raise CubeError(f"{self.file} cannot be read as an index of tiles: {error}") from error
        return [row for layer in layers for row in self._rows_in(layer)]

    def _rows_in(self, layer: "gpd.GeoDataFrame") -> Iterator[_Row]:
        if layer.crs is None or layer.crs.to_epsg() != 3413:
            raise CubeError(f"{self.file} is in {layer.crs and layer.crs.name}, expected an index of tiles in {CRS}")
        columns = {str(name).lower(): list(layer[name]) for name in layer.columns}
        tiles, resolutions = columns.get("tile"), columns.get("gsd", columns.get("resolution"))
        if tiles is None or resolutions is None:
            raise CubeError(
                f"{self.file} has the columns {', '.join(map(str, layer.columns))}; an index of ArcticDEM tiles has "
                "tile, and gsd or resolution"
            )
        versions = columns.get("dem_id", columns.get("name", [""]))
        if not all(str(version).endswith(_VERSION) for version in versions):
            logger.warning("%s is not an index of %s: it lacks areas that were mapped later", self.file, _VERSION)
        for tile, resolution, footprint in zip(tiles, resolutions, layer.geometry, strict=True):
            if not _NAME.fullmatch(str(tile)):
                raise CubeError(f"{self.file}: {tile!r} is not an ArcticDEM tile such as 60_42 or 60_42_2_2")
            yield _Row(tile, float(resolution), footprint)


def _super_tile(tile: str) -> str:
    return tile[: len("60_42")]


def _fine_tiles(row: _Row) -> Iterator[_Row]:
    """A row as tiles of 2 m: the row itself, or the quarters of a super tile that its footprint covers."""
    if row.tile != _super_tile(row.tile):
        yield row
        return
    half = _SUPER_TILE / 2
    left, bottom = (_ORIGIN + int(part) * _SUPER_TILE for part in reversed(row.tile.split("_")))
    for i, j in _QUARTERS:
        west, south = left + (j - 1) * half, bottom + (i - 1) * half
        part = row.footprint & shapely.box(west, south, west + half, south + half)
        if part.area > 0:
            yield _Row(f"{row.tile}_{i}_{j}", row.resolution, part)
