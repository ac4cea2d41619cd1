"""Tiles of the ArcticDEM mosaics: what a STAC item says of one, and what a catalog of them can be asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import pystac
from odc.geo.geom import BoundingBox

from darts_assets.errors import CubeError

CRS = "EPSG:3413"
NODATA = -9999.0
"""Elevation that means "no data" where neither the file nor its item says."""


@dataclass(frozen=True, slots=True)
class MosaicTile:
    """One tile of a mosaic.

    Attributes:
        id: such as `60_42_10m_v4.1`.
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
    nodata: float = NODATA

    def intersects(self, box: BoundingBox) -> bool:
        """Whether the tile and a box in EPSG:3413 share more than an edge."""
        return bool(
            max(self.bounds.left, box.left) < min(self.bounds.right, box.right)
            and max(self.bounds.bottom, box.bottom) < min(self.bounds.top, box.top)
        )


class TileCatalog(Protocol):
    """Knows where the tiles of a mosaic are; may be asked from several threads at once."""

    def under(self, box: BoundingBox, resolution: float) -> Iterable[MosaicTile]:
        """The tiles of a resolution (metres) that intersect a box in EPSG:3413, each once, in any order.

        Raises:
            CubeError: if the catalog cannot be understood, or has no such resolution.
            SourceUnavailableError: if a remote catalog does not answer.
        """
        ...


def tile_of(item: pystac.Item) -> MosaicTile:
    """The tile that a STAC item of the Polar Geospatial Center describes.

    Raises:
        CubeError: if the item is not an ArcticDEM mosaic tile; the text names it.
    """
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
        nodata=float(facts.get("nodata", NODATA)),
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
