"""Catalogs of the ArcticDEM mosaics' tiles: their interface, and static STAC catalogs."""

import posixpath
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pystac
from odc.geo.geom import BoundingBox

from darts_assets.errors import CubeError, SceneError, SettingsError, SourceUnavailableError
from darts_assets.geo.declared_crs import declared_crs
from darts_assets.remote.stac_client import StaticStacIO

CRS = "EPSG:3413"
NODATA = -9999.0
"""Elevation that means "no data" if neither the file nor its item declares one."""

INDEX_SUFFIXES = (".gpkg", ".parquet", ".shp", ".zip")


@dataclass(frozen=True, slots=True)
class MosaicTile:
    """One tile of a mosaic.

    Attributes:
        id: such as `60_42_10m_v4.1`.
        resolution: metres of a pixel.
        bounds: footprint in EPSG:3413.
        dem: href of the elevations.
        datamask: href of the mask of valid data.
        nodata: elevation that means "no data" if the file declares none.
    """

    id: str
    resolution: float
    bounds: BoundingBox
    dem: str
    datamask: str
    nodata: float = NODATA

    def intersects(self, box: BoundingBox) -> bool:
        """Whether the tile and a box in EPSG:3413 share more than an edge."""
        return bool(
            max(self.bounds.left, box.left) < min(self.bounds.right, box.right)
            and max(self.bounds.bottom, box.bottom) < min(self.bounds.top, box.top)
        )


class TileCatalog(Protocol):
    """The tiles of a mosaic; thread-safe."""

    def under(self, box: BoundingBox, resolution: float) -> Iterable[MosaicTile]:
        """The tiles of a resolution (metres) that intersect a box in EPSG:3413, each once, in any order.

        Raises:
            CubeError: if the catalog is invalid, or has no tiles of this resolution.
            SourceUnavailableError: if a remote catalog does not answer.
        """
        ...


class StaticCatalog:
    """The tiles of a static STAC source, which is read completely when the first tile is requested.

    Args:
        where: path or URL of a document, or a local folder with item files, a `catalog.json` or a `collection.json`.
        document: the document at `where`, if it was read already.
    """

    def __init__(self, where: str, document: dict[str, Any] | None = None) -> None:
        self.where = where.removeprefix("file://")
        self._document = document
        self._lock = threading.Lock()
        self._tiles: list[MosaicTile] | None = None

    def under(self, box: BoundingBox, resolution: float) -> list[MosaicTile]:
        """See `TileCatalog`."""
        with self._lock:
            if self._tiles is None:
                self._tiles = [tile_of(item) for item in self._items()]
        known = {tile.resolution for tile in self._tiles}
        if resolution not in known:
            listed = f"only tiles of {', '.join(f'{metres:g}' for metres in sorted(known))} m" if known else "no items"
            raise CubeError(f"{self.where} lists {listed}, expected ArcticDEM mosaic tiles of {resolution:g} m")
        return [tile for tile in self._tiles if tile.resolution == resolution and tile.intersects(box)]

    def _items(self) -> Iterator[pystac.Item]:
        folder = Path(self.where).expanduser()
        if self._document is not None or not folder.is_dir():
            yield from _items_at(self.where, self._document)
            return
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise CubeError(f"{self.where}: the folder has no STAC item files (*.json)")
        catalog = [path for path in paths if path.name in ("catalog.json", "collection.json")]
        for path in catalog[:1] or paths:
            yield from _items_at(str(path), None)


def _items_at(where: str, document: dict[str, Any] | None) -> Iterator[pystac.Item]:
    """All items at a path or URL, with asset hrefs that can be made absolute."""
    io = StaticStacIO("ArcticDEM catalog")
    href = where if "://" in where else str(Path(where).expanduser().resolve())
    with stac_errors(where):
        document = io.read_json(href) if document is None else document
        kind = document.get("type")
        if kind == "Feature":
            yield pystac.Item.from_dict(document, href=href)
        elif kind == "FeatureCollection":
            for feature in document["features"]:
                item = pystac.Item.from_dict(feature)
                # Relative hrefs of an item without a self link are relative to the file of the collection.
                if item.get_self_href() is None:
                    item.set_self_href(posixpath.join(posixpath.dirname(href), f"{item.id}.json"))
                yield item
        elif kind in ("Catalog", "Collection"):
            root = pystac.read_file(href, stac_io=io)
            assert isinstance(root, pystac.Catalog)
            yield from root.get_items(recursive=True)
        else:
            raise CubeError(f"{where}: expected a STAC catalog, collection, item collection or item, not type {kind!r}")


@contextmanager
def stac_errors(where: str) -> Iterator[None]:
    """Convert errors of pystac and its client to errors with the catalog's location.

    Raises:
        SourceUnavailableError: if a service does not answer, or fails.
        CubeError: for everything else: a catalog that does not exist, is not accessible, or is not STAC.
    """
    try:
        yield
    except CubeError:
        raise
    # pystac raises the errors of its JSON parser and its own, and wraps those of failed requests in them.
    except Exception as error:
        causes: list[BaseException] = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        for cause in causes:
            if isinstance(cause, SourceUnavailableError):
                raise cause from None
            if isinstance(cause, (SettingsError, SceneError)):
                raise CubeError(f"{where} cannot be read as STAC: {cause}") from error
        raise CubeError(f"{where} cannot be read as STAC: {error}") from error


def tile_of(item: pystac.Item) -> MosaicTile:
    """The tile of a STAC item of the Polar Geospatial Center.

    Raises:
        CubeError: if the item is not an ArcticDEM mosaic tile; the text contains its id.
    """
    dem, datamask = (_asset(item, name) for name in ("dem", "datamask"))
    fields: dict[str, Any] = {**item.properties, **dem.extra_fields}
    code = declared_crs(fields)
    if code != CRS:
        raise CubeError(f"item {item.id}: expected an ArcticDEM mosaic tile in {CRS}, not {code}")
    transform, shape, bounds = (fields.get(name) for name in ("proj:transform", "proj:shape", "proj:bbox"))
    if bounds is None and transform and shape:
        left, top = transform[2], transform[5]
        bounds = [left, top + transform[4] * shape[0], left + transform[0] * shape[1], top]
    resolution = fields.get("gsd") or (transform[0] if transform else None)
    if bounds is None or resolution is None:
        raise CubeError(f"item {item.id}: no proj:bbox (or proj:transform and proj:shape), or no gsd")
    xmin, ymin, xmax, ymax = (float(edge) for edge in bounds)
    return MosaicTile(
        id=item.id,
        resolution=float(resolution),
        bounds=BoundingBox(left=xmin, bottom=ymin, right=xmax, top=ymax, crs=CRS),
        dem=_href(item, "dem", dem),
        datamask=_href(item, "datamask", datamask),
        nodata=float(fields.get("nodata", NODATA)),
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
