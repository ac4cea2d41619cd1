"""What a scene looks like, in the metadata of its materializations: small pictures, drawn from small copies.

The event log keeps them forever, so they are WebP of some ten kilobytes each; nothing is read to draw them but the
bands of the last one, `quicklook`.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import FEATURES
from darts_assets.orchestration.core.metadata import image_link

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from PIL.Image import Image

    from darts_assets.scene import Scene
    from darts_assets.stores.tiles import WrittenTile

Pictures = dict[str, dg.MetadataValue[Any]]


def of_tile(written: "WrittenTile") -> Pictures:
    """A sheet of the features, or a histogram of the probabilities: what the tile holds of them."""
    pictures: Pictures = {}
    if set(FEATURES) <= written.preview.keys():
        from darts_assets.plots import contact_sheet

        pictures["features"] = _photo(contact_sheet(written.preview))
    if "probabilities" in written.statistics:
        from darts_assets.model.sanity import percent_counts
        from darts_assets.plots import histogram

        pictures["histogram"] = _drawing(histogram(percent_counts(written.statistics["probabilities"])))
    return pictures


def of_location(scene: "Scene", geobox: "GeoBox") -> Pictures:
    """Where a scene lies: its footprint, or its grid where the item gives no footprint."""
    from pyproj import CRS

    from darts_assets.geo.antimeridian import footprint, lonlat_area
    from darts_assets.maps import location_map

    area = footprint(scene.geometry) or lonlat_area(geobox.extent.geom, CRS(str(geobox.crs)))
    return {"location": _drawing(location_map(area))}


def of_detections(thumbnail: "Image", geobox: "GeoBox", objects: int) -> Pictures:
    """The scene in its colours with the outlines of detections, a legend and a scale."""
    from darts_assets.plots import captioned

    metres = max(geobox.shape) * abs(geobox.resolution.x) / max(thumbnail.size)
    return {"thumbnail": _photo(captioned(thumbnail, metres, objects))}


def _photo(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", quality=80, method=4))


def _drawing(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", lossless=True, method=4))
