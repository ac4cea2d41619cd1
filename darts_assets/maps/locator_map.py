"""Where on Earth a scene lies: its part of the globe with a mark, and beside it the footprint among its degrees."""

from typing import TYPE_CHECKING, Any

import numpy as np

from darts_assets.maps.footprint_map import footprint_map

if TYPE_CHECKING:
    import shapely
    from PIL import Image, ImageDraw

_SIDE = 256
_FINER = 3  # lines are drawn in so many times the pixels, and smoothed
_SOUTHERNMOST = 45  # degrees of the polar map
_GROUND, _LINES, _CIRCLE, _WORDS, _MARK = (
    (238, 238, 232),
    (205, 205, 200),
    (120, 160, 200),
    (120, 120, 116),
    (214, 62, 38),
)

_PLACES = {
    "Alaska": (-152, 65), "Canada": (-105, 64), "Greenland": (-41, 73), "Svalbard": (18, 78.5), "Lapland": (24, 67),
    "Ural": (62, 65), "Taymyr": (100, 73), "Yakutia": (125, 65), "Chukotka": (175, 66.5), "Quebec": (-73, 56),
    "Iceland": (-19, 64.5), "Baikal": (107, 53),
}  # fmt: skip
"""Names to find oneself by, and where they stand: there are no coastlines here."""

_MERIDIANS = (
    ("90W", (128, 254), "mb"), ("0", (254, 128), "rm"), ("90E", (128, 2), "mt"), ("180", (2, 128), "lm"),
)  # fmt: skip
"""Names of meridians, and the pixels and anchors of the text, on a map with 90 degrees west at its bottom."""


def location_map(footprint: "shapely.Geometry") -> "Image.Image":
    """A scene on the globe and from near.

    Args:
        footprint: in EPSG:4326, cut at the antimeridian.

    Returns:
        RGB, 516 x 256: the north from 45 degrees on (for scenes south of that, the half of the globe around them) in an
        equal-area projection; and the footprint with meridians and parallels.
    """
    from PIL import Image

    both = Image.new("RGB", (2 * _SIDE + 4, _SIDE), (255, 255, 255))
    both.paste(_overview(footprint), (0, 0))
    both.paste(footprint_map([(footprint, 1)]), (_SIDE + 4, 0))
    return both


def _overview(footprint: "shapely.Geometry") -> "Image.Image":
    from PIL import Image, ImageDraw
    from pyproj import Transformer

    lon, lat = footprint.representative_point().coords[0]  # type: ignore[attr-defined]
    polar = lat > _SOUTHERNMOST
    around = "+lat_0=90 +lon_0=-90" if polar else f"+lat_0={lat} +lon_0={lon}"
    to_map = Transformer.from_crs("EPSG:4326", f"+proj=laea {around}", always_xy=True)
    # The edge of the map: the southernmost parallel, or a quarter of the globe away.
    reach = abs(to_map.transform(-90, _SOUTHERNMOST)[1]) if polar else 9.0e6
    side = _SIDE * _FINER

    def pixels(points: Any) -> "np.ndarray[Any, Any]":
        x, y = to_map.transform(*np.asarray(points, dtype=float).reshape(-1, 2).T)
        return (np.stack([x, -y], axis=1) / (2 * reach) + 0.5) * side

    image = Image.new("RGB", (side, side), _GROUND)
    draw = ImageDraw.Draw(image)
    _lines(draw, pixels, polar)
    x, y = pixels([(lon, lat)])[0]
    draw.ellipse([(x - 12, y - 12), (x + 12, y + 12)], fill=_MARK, outline=(255, 255, 255), width=_FINER)
    image = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    names: dict[str, tuple[float, float]] = dict(_PLACES) if polar else {}
    names |= {f"{at}N": (-135, at) for at in (50, 60, 70, 80)} if polar else {}
    for name, place in names.items():
        spot = pixels([place])[0] / _FINER
        if np.hypot(*(spot - np.array([x, y]) / _FINER)) > 16:
            draw.text((spot[0], spot[1]), name, fill=_WORDS, anchor="mm")
    for text, where, anchor in _MERIDIANS if polar else ():
        draw.text(where, text, fill=_WORDS, anchor=anchor)
    return image


def _lines(draw: "ImageDraw.ImageDraw", pixels: Any, polar: bool) -> None:
    """Meridians, parallels and the Arctic circle."""
    round_about = np.linspace(-180, 180, 181)
    lowest = 40 if polar else -80
    parallels = [(at, _LINES) for at in range(lowest, 90, 10)] + [(66.56, _CIRCLE)]
    for at, colour in parallels:
        _line(draw, pixels(np.stack([round_about, np.full(181, at)], axis=1)), colour)
    for at in range(-180, 180, 30):
        line = np.stack(
            [np.full(60, at), np.linspace(lowest - 10 if polar else -89, 89 if not polar else 80, 60)], axis=1
        )
        _line(draw, pixels(line), _LINES)


def _line(draw: "ImageDraw.ImageDraw", points: "np.ndarray[Any, Any]", colour: tuple[int, int, int]) -> None:
    known = points[np.isfinite(points).all(axis=1)]
    # Beyond the other side of the globe a projection jumps.
    breaks = np.flatnonzero(np.hypot(*np.diff(known, axis=0).T) > _SIDE * _FINER / 4) + 1
    for part in np.split(known, breaks):
        if len(part) > 1:
            draw.line([(float(x), float(y)) for x, y in part], fill=colour, width=_FINER)
