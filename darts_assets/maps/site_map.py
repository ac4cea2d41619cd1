"""A small map of the sites of an inventory, for people: where scenes looked, and how often each site was seen."""

from typing import TYPE_CHECKING

import numpy as np

from darts_assets.maps.footprint_map import Dot, footprint_map

if TYPE_CHECKING:
    import geopandas as gpd
    import shapely
    from PIL.Image import Image

_RARELY, _ALWAYS = (244, 190, 70), (150, 20, 40)
_LEGEND = 18
_CELL = 20_000.0  # metres: scenes whose middles are that close are one on the map
_LEAST = 5_000.0  # metres of the map


def site_map(sites: "gpd.GeoDataFrame", scenes: "gpd.GeoDataFrame") -> "Image | None":
    """Sites as dots, from yellow (rarely seen) to dark red (seen by every scene that looked); scenes behind them.

    Args:
        sites: as of an inventory.
        scenes: with the shapes that they looked at, in a projected CRS; those without are left away.

    Returns:
        RGB, 256 x 274; None if no scene looked at anything.
    """
    footprints = _footprints(scenes)
    if not footprints:
        return None
    shares = (sites["seen"] / sites["observable"]).to_numpy()
    dots = [Dot(lon, lat, _colour(share)) for lon, lat, share in zip(sites["lon"], sites["lat"], shares, strict=True)]
    return _with_legend(footprint_map(footprints, dots=dots, least=_LEAST))


def _footprints(scenes: "gpd.GeoDataFrame") -> "list[tuple[shapely.Geometry, int]]":
    """Where scenes looked, in EPSG:4326, with how many did; one of those that are at one place."""
    from pyproj import CRS

    from darts_assets.geo.antimeridian import lonlat_area

    looking = scenes[~scenes.geometry.is_empty]
    middles = looking.geometry.centroid
    cells = np.stack([middles.x // _CELL, middles.y // _CELL], axis=1)
    _, first, counts = np.unique(cells, axis=0, return_index=True, return_counts=True)
    crs = CRS(scenes.crs)
    shapes = looking.geometry.to_numpy()
    return [(lonlat_area(shapes[index], crs), int(count)) for index, count in zip(first, counts, strict=True)]


def _colour(share: float) -> tuple[int, int, int]:
    red, green, blue = (round(few + share * (many - few)) for few, many in zip(_RARELY, _ALWAYS, strict=True))
    return red, green, blue


def _with_legend(image: "Image") -> "Image":
    from PIL import Image, ImageDraw

    both = Image.new("RGB", (image.width, image.height + _LEGEND), (255, 255, 255))
    both.paste(image, (0, 0))
    draw = ImageDraw.Draw(both)
    top = image.height + 4
    draw.text((4, top - 1), "seen: rarely", fill=(60, 60, 60))
    for step in range(60):
        draw.line([(80 + step, top), (80 + step, top + 9)], fill=_colour(step / 59))
    draw.text((146, top - 1), "whenever looked at", fill=(60, 60, 60))
    return both
