"""Which catalog of tiles a place is; the three kinds are told apart by what is there, not by trying each.

1. A file with the suffix `.gpkg`, `.parquet`, `.shp` or `.zip` (perhaps with `#BASE`) is an index of tiles.
2. A URL whose document says that it conforms to STAC API's item search is searched.
3. Anything else is a static STAC source: a catalog or collection, an item collection, an item, a folder of items.
"""

from pystac_client import Client, ConformanceClasses

from darts_assets.cubes._stac_io import PatientStacIO, stac_errors
from darts_assets.cubes.mosaic import TileCatalog
from darts_assets.cubes.stac_search import StacSearch
from darts_assets.cubes.static_catalog import StaticCatalog
from darts_assets.cubes.tile_index import TileIndex, is_index
from darts_assets.errors import CubeError


def open_catalog(where: str) -> TileCatalog:
    """The catalog at a path or URL; local ones are read when the first tile is asked for.

    Raises:
        CubeError: if there is nothing at a URL, or nothing that is STAC, or if it is none of http(s).
        SourceUnavailableError: if the URL's server does not answer.
    """
    if is_index(where):
        return TileIndex(where)
    if not where.startswith(("http://", "https://")):
        if "://" in where.removeprefix("file://"):
            raise CubeError(
                f"{where}: a catalog of tiles is a path or http(s)://...; its tiles may be on s3:// as well"
            )
        return StaticCatalog(where)
    api = PatientStacIO()
    with stac_errors(where):
        document = api.read_json(where)
        if document.get("type") == "Catalog":
            client = api.stac_object_from_dict(document, href=where)
            assert isinstance(client, Client)
            client.set_root(client)  # it would be read again
            if client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                return StacSearch(where, client)
    return StaticCatalog(where, document)
