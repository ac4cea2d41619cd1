"""A small map of where scenes are, for people: the footprints, and meridians and parallels to find oneself."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import shapely
    from PIL.Image import Image
    from pyproj import Transformer

_SIDE = 256
_FINER = 3  # lines are drawn in so many times the pixels, and smoothed
_MARGIN = 0.08  # of the extent
_LEAST = 60_000.0  # metres of the extent
_MANY_DOTS = 500  # more are drawn smaller
_EDGE = 0.5  # degrees between the points of an edge
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45)  # degrees between lines

_GROUND, _LINES, _WORDS, _AREA = (238, 238, 232), (205, 205, 200), (120, 120, 116), (214, 62, 38)
_RIM = (255, 255, 255)
_PALE = (222, 234, 228), (164, 196, 184)
_FEW, _MANY, _OUTLINE = (176, 215, 196), (16, 82, 66), (70, 120, 104)


class Dot(NamedTuple):
    """A place, in degrees, and its colour."""

    lon: float
    lat: float
    colour: tuple[int, int, int]


def footprint_map(
    footprints: "Sequence[tuple[shapely.Geometry, int]]",
    area: "shapely.Geometry | None" = None,
    *,
    dots: Sequence[Dot] = (),
    least: float = _LEAST,
) -> "Image":
    """Footprints (and an area, red) in EPSG:4326, cut at the antimeridian, on an equal-area map around their middle.

    Args:
        footprints: with the number of scenes; at least one. The darker, the more.
        area: what was asked for.
        dots: places within the footprints.
        least: metres that the map shows at least.

    Returns:
        RGB, 256 x 256.
    """
    from PIL import Image, ImageDraw

    shapes = [shape for shape, _ in footprints]
    to_map = _projection(shapes if area is None else [*shapes, area])
    rings = [(list(_rings(shape, to_map)), count) for shape, count in footprints]
    outline = [] if area is None else list(_rings(area, to_map))
    points = np.concatenate([ring for group, _ in rings for ring in group] + outline)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    extent = max(float(np.ptp(points, axis=0).max()) * (1 + 2 * _MARGIN), least)
    side = _SIDE * _FINER

    def pixels(ring: Any) -> list[tuple[float, float]]:
        x, y = ((ring - middle) * (1, -1) / extent + 0.5).T * side
        return list(zip(x.tolist(), y.tolist(), strict=True))

    image = Image.new("RGB", (side, side), _GROUND)
    draw = ImageDraw.Draw(image)
    labels = []
    for line, text in _graticule(to_map, middle, extent):
        draw.line(pixels(line), fill=_LINES, width=_FINER)
        inside = [(x, y) for x, y in pixels(line) if 0 <= x < side - 90 and 0 <= y < side - 36]
        labels += [(inside[len(inside) // 12], text)] if inside else []
    most = max(count for _, count in footprints)
    for group, count in sorted(rings, key=lambda pair: pair[1]):
        share = math.log1p(count - 1) / math.log1p(most - 1) if most > 1 else 0.3
        # Dots have to stand out.
        colour = tuple(round(a + share * (b - a)) for a, b in zip(*(_PALE if dots else (_FEW, _MANY)), strict=True))
        for ring in group:
            draw.polygon(pixels(ring), fill=colour, outline=_OUTLINE)
    for ring in outline:
        draw.line(pixels(ring), fill=_AREA, width=2 * _FINER)
    if dots:
        radius = _FINER * (3 if len(dots) <= _MANY_DOTS else 1)
        places = np.stack(to_map.transform([dot.lon for dot in dots], [dot.lat for dot in dots]), axis=1)
        for (x, y), dot in zip(pixels(places), dots, strict=True):
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=dot.colour, outline=_RIM, width=_FINER // 2
            )
    image = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    for (x, y), text in labels:
        draw.text((x / _FINER + 2, y / _FINER + 1), text, fill=_WORDS)
    return image


def _projection(shapes: "Iterable[shapely.Geometry]") -> "Transformer":
    """To an equal-area projection around the middle of all: nothing is cut there, at the pole or elsewhere."""
    import shapely
    from pyproj import Transformer

    lon, lat = np.radians(shapely.get_coordinates(list(shapes)).T)
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
    lon0, lat0 = math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))
    return Transformer.from_crs("EPSG:4326", f"+proj=laea +lon_0={lon0} +lat_0={lat0}", always_xy=True)


def _rings(shape: "shapely.Geometry", to_map: "Transformer") -> "Iterator[np.ndarray[Any, Any]]":
    """The outer rings of a geometry, in metres of the map."""
    import shapely

    for part in shapely.get_parts(shape):
        ring = part.exterior if isinstance(part, shapely.Polygon) else part
        points = _projected(shapely.get_coordinates(shapely.segmentize(ring, _EDGE)), to_map)
        if len(points):
            yield points


def _graticule(
    to_map: "Transformer", middle: "np.ndarray[Any, Any]", extent: float
) -> "Iterator[tuple[np.ndarray[Any, Any], str]]":
    """Parallels and meridians in metres of the map, with their names."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 24)] * 2), axis=-1).reshape(-1, 2) * extent + middle
    lon, lat = to_map.transform(grid[:, 0], grid[:, 1], direction="INVERSE")
    known = np.isfinite(lon) & np.isfinite(lat)
    south, north = lat[known].min(), lat[known].max()
    east = np.sort(lon[known] % 360)
    gaps = np.diff([*east, east[0] + 360])
    start = east[(int(gaps.argmax()) + 1) % len(east)]
    width = 360 - gaps.max()
    for at in _round_numbers(south, north):
        line = np.stack([start + np.linspace(0, width, 100), np.full(100, at)], axis=1)
        yield _projected(line, to_map), f"{abs(at):g}{'N' if at >= 0 else 'S'}"
    for at in _round_numbers(start, start + width):
        line = np.stack([np.full(100, at), np.linspace(south, min(north, 89.5), 100)], axis=1)
        turned = (at + 180) % 360 - 180
        yield _projected(line, to_map), f"{abs(turned):g}{'E' if turned >= 0 else 'W'}"


def _round_numbers(low: float, high: float) -> "np.ndarray[Any, Any]":
    step = next((step for step in _STEPS if (high - low) / step <= 5), _STEPS[-1])
    return np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step


def _projected(points: "np.ndarray[Any, Any]", to_map: "Transformer") -> "np.ndarray[Any, Any]":
    found = np.stack(to_map.transform(*points.T), axis=1)
    return found[np.isfinite(found).all(axis=1)]
