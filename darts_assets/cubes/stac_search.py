"""Tiles from the item search of a STAC API, such as the Polar Geospatial Center's."""

import math
import threading
from collections.abc import Iterator

import pyproj
import pystac
import shapely
from odc.geo.geom import BoundingBox
from pystac_client import Client

from darts_assets.cubes.mosaic_catalog import CRS, MosaicTile, stac_errors, tile_of
from darts_assets.errors import CubeError
from darts_assets.geo.antimeridian import lonlat_area

COLLECTION = "arcticdem-mosaics-v4.1-{resolution:g}m"

_PAGE = 250
_SQUARE = 300_000.0  # metres; a scene lies in one to four squares, each with about 60 tiles of 2 m or 25 others
_ORIGIN = -_SQUARE / 2  # the pole is inside a square
_MARGIN = 1_000.0  # metres, for corners on the edge of a square


class StacSearch:
    """Tiles from searches for squares of 300 km, each searched once.

    Footprints of items are polygons of longitudes and latitudes. Their straight edges can be kilometres off, or span
    the globe where a tile crosses the antimeridian, but their corners are exact. A tile that overlaps a square has a
    corner in it, because squares are larger than tiles. Intersections are then computed in EPSG:3413.

    Args:
        where: URL of the API, for errors.
        client: the opened API.
    """

    def __init__(self, where: str, client: Client) -> None:
        self.where = where
        self._client = client
        self._lock = threading.Lock()  # one search at a time; its result serves all threads
        self._collections: set[str] = set()
        self._squares: dict[tuple[str, int, int], list[MosaicTile]] = {}

    def under(self, box: BoundingBox, resolution: float) -> list[MosaicTile]:
        """See `TileCatalog`."""
        collection = COLLECTION.format(resolution=resolution)
        tiles: dict[str, MosaicTile] = {}
        with self._lock:
            for square in _squares(box):
                key = collection, *square
                if key not in self._squares:
                    self._squares[key] = self._search(collection, *square)
                tiles |= {tile.id: tile for tile in self._squares[key]}
        return [tile for tile in tiles.values() if tile.intersects(box)]

    def _search(self, collection: str, row: int, col: int) -> list[MosaicTile]:
        left, bottom = _ORIGIN + col * _SQUARE - _MARGIN, _ORIGIN + row * _SQUARE - _MARGIN
        side = _SQUARE + 2 * _MARGIN
        area = lonlat_area(shapely.box(left, bottom, left + side, bottom + side), pyproj.CRS(CRS))
        with stac_errors(self.where):
            # A search of a missing collection succeeds without items, and chunks would be recorded as empty.
            if collection not in self._collections:
                if self._client.get_collection(collection) is None:
                    raise CubeError(f"{self.where} has no collection {collection}")
                self._collections.add(collection)
            geometry = shapely.geometry.mapping(area)
            search = self._client.search(collections=[collection], intersects=geometry, limit=_PAGE)
            return [tile_of(pystac.Item.from_dict(item)) for item in search.items_as_dicts()]


def _squares(box: BoundingBox) -> Iterator[tuple[int, int]]:
    """Rows and columns of the squares that intersect a box."""
    first_col, last_col = (math.floor((x - _ORIGIN) / _SQUARE) for x in (box.left, box.right))
    first_row, last_row = (math.floor((y - _ORIGIN) / _SQUARE) for y in (box.bottom, box.top))
    for row in range(first_row, last_row + 1):
        for col in range(first_col, last_col + 1):
            yield row, col
