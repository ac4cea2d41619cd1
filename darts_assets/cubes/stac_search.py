"""Tiles from the item search of a STAC API, such as the Polar Geospatial Center's."""

import math
import threading
from collections.abc import Iterator

import pyproj
import pystac
import shapely
from odc.geo.geom import BoundingBox
from pystac_client import Client

from darts_assets.cubes._stac_io import stac_errors
from darts_assets.cubes.mosaic import CRS, MosaicTile, tile_of
from darts_assets.errors import CubeError
from darts_assets.geo.antimeridian import lonlat_area

COLLECTION = "arcticdem-mosaics-v4.1-{resolution:g}m"

_PAGE = 250
_SQUARE = 300_000.0  # metres: a scene lies in one to four, each with some 60 tiles of 2 m or 25 others
_ORIGIN = -_SQUARE / 2  # the pole lies inside a square
_MARGIN = 1_000.0  # metres, for corners on a square's edge


class StacSearch:
    """Tiles found by searches for squares of 300 km, each searched once.

    Footprints of items are polygons of longitudes and latitudes, whose straight lines between the corners can be
    kilometres off, or lead around the world where a tile crosses the antimeridian. But their corners are right, and a
    tile that reaches into a square, which is wider than the tile, has a corner in it: so it is found. Which tiles
    really intersect is then decided in EPSG:3413.

    Args:
        where: URL of the API, for errors.
        client: the opened API.
    """

    def __init__(self, where: str, client: Client) -> None:
        self.where = where
        self._client = client
        self._lock = threading.Lock()  # also: one search at a time, the first one for an area serves all threads
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
            # Searching a collection that does not exist finds nothing: chunks would be recorded as empty.
            if collection not in self._collections:
                if self._client.get_collection(collection) is None:
                    raise CubeError(f"{self.where} has no collection {collection}")
                self._collections.add(collection)
            found = self._client.search(
                collections=[collection], intersects=shapely.geometry.mapping(area), limit=_PAGE
            )
            return [tile_of(pystac.Item.from_dict(item)) for item in found.items_as_dicts()]


def _squares(box: BoundingBox) -> Iterator[tuple[int, int]]:
    """Rows and columns of the squares that a box touches."""
    first_col, last_col = (math.floor((x - _ORIGIN) / _SQUARE) for x in (box.left, box.right))
    first_row, last_row = (math.floor((y - _ORIGIN) / _SQUARE) for y in (box.bottom, box.top))
    for row in range(first_row, last_row + 1):
        for col in range(first_col, last_col + 1):
            yield row, col
