"""Small maps of footprints, scenes and sites in equal-area projections, with meridians and parallels."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from darts_assets.plots import new_figure, render

if TYPE_CHECKING:
    import geopandas as gpd
    import shapely
    from matplotlib.axes import Axes
    from PIL.Image import Image
    from pyproj import Transformer

Points = npt.NDArray[np.floating[Any]]
"""Coordinates, shape (n, 2)."""

_SIDE = 256  # pixels of a map
_SOUTHERN_LIMIT = 45  # degrees of the polar map
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45)  # degrees between lines
SEA, LAND = "#d9e5ec", "#f4f2ec"
"""Colours of sea and land."""

_LINES, _CIRCLE, _TEXT, _MARK = "#c6cccb", "#78a0c8", "#70706c", "#d63e26"
_COARSE = 400_000  # metres: narrower maps have no coastlines, since those at hand are generalized by tens of kilometres
_LABEL: dict[str, Any] = {"fontsize": 7, "color": _TEXT, "clip_on": True}

_PLACES = {
    "Alaska": (-152, 65), "Canada": (-105, 64), "Greenland": (-41, 73), "Svalbard": (18, 78.5), "Lapland": (24, 67),
    "Ural": (62, 65), "Taymyr": (100, 73), "Yakutia": (125, 65), "Chukotka": (175, 66.5), "Quebec": (-73, 56),
    "Iceland": (-19, 64.5), "Baikal": (107, 53),
}  # fmt: skip
"""Place names of the polar map, in degrees."""


def footprint_map(
    footprints: "Sequence[tuple[shapely.Geometry, int]]", area: "shapely.Geometry | None" = None
) -> "Image":
    """Draw footprints, and an area as a red outline.

    Args:
        footprints: at least one, in EPSG:4326, cut at the antimeridian, with the number of scenes: dark means many.
        area: requested area, likewise.

    Returns:
        RGB, 256 x 256; equal-area projection around the centre of all shapes.
    """
    figure = new_figure(_SIDE, _SIDE)
    _draw_footprints(figure.add_axes((0, 0, 1, 1)), footprints, area)
    return render(figure)


def location_map(footprint: "shapely.Geometry") -> "Image":
    """Draw the location of a scene on the globe, and its footprint.

    Args:
        footprint: in EPSG:4326, cut at the antimeridian.

    Returns:
        RGB, 516 x 256: left the Earth north of 45 degrees (for scenes further south, the hemisphere around them) in an
        equal-area projection; right the footprint.
    """
    width = 2 * _SIDE + 4
    figure = new_figure(width, _SIDE)
    _draw_globe(figure.add_axes((0, 0, _SIDE / width, 1)), footprint)
    _draw_footprints(figure.add_axes((1 - _SIDE / width, 0, _SIDE / width, 1)), [(footprint, 1)])
    return render(figure)


def site_map(sites: "gpd.GeoDataFrame", scenes: "gpd.GeoDataFrame") -> "Image | None":
    """Draw sites as dots, from yellow (rarely detected) to dark red (detected by every observing scene), over scenes.

    Args:
        sites: sites of an inventory: `lon`, `lat`, `seen`, `observable`.
        scenes: observed areas in a projected CRS; empty ones are skipped.

    Returns:
        RGB, 256 x 288; None if no scene has an observed area.
    """
    footprints = _grouped_footprints(scenes)
    if not footprints:
        return None
    height = _SIDE + 32
    figure = new_figure(_SIDE, height)
    axes = figure.add_axes((0, 32 / height, 1, _SIDE / height))
    to_map = _draw_footprints(axes, footprints, smallest=5_000, pale=True)
    x, y = to_map.transform(sites["lon"].to_numpy(), sites["lat"].to_numpy())
    dots = axes.scatter(
        x, y, c=sites["seen"] / sites["observable"], cmap="YlOrRd", vmin=-0.15, vmax=1,
        s=20 if len(sites) <= 500 else 3, edgecolors="white", linewidths=0.4, zorder=4,
    )  # fmt: skip
    bar = figure.colorbar(dots, cax=figure.add_axes((0.06, 22 / height, 0.88, 6 / height)), orientation="horizontal")
    bar.ax.set(xlim=(0, 1), xticks=(0.04, 0.5, 0.94), xticklabels=("0 %", "of scenes detect the site", "100 %"))
    bar.ax.tick_params(labelsize=7, length=0, pad=2, labelcolor=_TEXT)
    return render(figure)


def _grouped_footprints(scenes: "gpd.GeoDataFrame") -> "list[tuple[shapely.Geometry, int]]":
    """Observed areas in EPSG:4326 with their counts; areas whose centres share a cell of 20 km are drawn as one."""
    from pyproj import CRS

    from darts_assets.geo.antimeridian import lonlat_area

    observed = scenes[~scenes.geometry.is_empty]
    centres = observed.geometry.centroid
    cells = np.stack([centres.x // 20_000, centres.y // 20_000], axis=1)
    _, first, counts = np.unique(cells, axis=0, return_index=True, return_counts=True)
    crs, shapes = CRS(scenes.crs), observed.geometry.to_numpy()
    return [(lonlat_area(shapes[index], crs), int(count)) for index, count in zip(first, counts, strict=True)]


def _draw_footprints(
    axes: "Axes",
    footprints: "Sequence[tuple[shapely.Geometry, int]]",
    area: "shapely.Geometry | None" = None,
    *,
    smallest: float = 60_000,
    pale: bool = False,
) -> "Transformer":
    """Draw footprints on axes at least `smallest` metres wide; returns the projection, from longitude and latitude."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection

    shapes = [shape for shape, _ in footprints]
    to_map = _local_projection(shapes if area is None else [*shapes, area])
    outline = [] if area is None else list(_rings(area, to_map))
    largest = max(count for _, count in footprints)
    rings, colours = [], []
    for shape, count in sorted(footprints, key=lambda pair: pair[1]):
        share = math.log(count) / math.log(largest) if largest > 1 else 0.2
        parts = list(_rings(shape, to_map))
        rings += parts
        colours += [colormaps["Greens"](0.15 + 0.15 * share if pale else 0.3 + 0.65 * share)] * len(parts)
    points = np.concatenate([*rings, *outline])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    extent = max(float(np.ptp(points, axis=0).max()) * 1.16, smallest)
    _frame(axes, centre, extent)
    if extent >= _COARSE:
        _draw_land(axes, to_map, centre, extent)
    labelled: list[Points] = []
    for line, label in _graticule(to_map, centre, extent):
        axes.plot(*line.T, color=_LINES, linewidth=0.7)
        inside = line[(np.abs(line - centre - extent * np.array([-0.07, 0.06])) < extent * 0.42).all(axis=1)]
        for point in inside[len(inside) // 12 :: 4]:
            if all((np.abs(point - other) > extent * np.array([0.18, 0.06])).any() for other in labelled):
                labelled.append(point)
                axes.annotate(label, point, (2, -2), textcoords="offset pixels", va="top", zorder=5, **_LABEL)
                break
    axes.add_collection(
        PolyCollection(rings, facecolors=colours, edgecolors="#b4cdc1" if pale else "#46786a", linewidths=0.7, zorder=2)
    )
    for ring in outline:
        axes.plot(*ring.T, color=_MARK, linewidth=1.4, zorder=3)
    return to_map


def _frame(axes: "Axes", centre: Points, extent: float) -> None:
    """Limit square axes to `extent` metres around the centre."""
    (x, y), half = centre, extent / 2
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], facecolor=LAND)
    axes.spines[:].set_visible(False)


def _draw_land(axes: "Axes", to_map: "Transformer", centre: Points, extent: float) -> None:
    """Fill the land; the rest of the map becomes sea."""
    import shapely
    from matplotlib.collections import PolyCollection

    from darts_assets.geo.land import land

    axes.set_facecolor(SEA)
    south, north, west, width = _reach(to_map, centre, 1.2 * extent)
    if width > 180:  # with a pole
        west, width, south, north = 0, 360, south - 10, north + 10
    boxes = [shapely.box(at, south, at + width, north) for at in (west, west - 360)]
    rings = []
    for ring in _rings(shapely.intersection(land(), shapely.union_all(boxes)), to_map):
        # Equal-area projections stretch what is far away across the whole map.
        near = ring[np.hypot(*(ring - centre).T) < 1.5 * extent]
        if len(near) > 2:
            rings.append(near)
    axes.add_collection(PolyCollection(rings, facecolors=LAND, edgecolors="none", zorder=0.5))


def _local_projection(shapes: "Iterable[shapely.Geometry]") -> "Transformer":
    """To a Lambert azimuthal equal-area projection around the mean position, continuous at poles and antimeridian."""
    import shapely

    lon, lat = np.radians(shapely.get_coordinates(list(shapes)).T)
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
    return _equal_area(math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))


def _equal_area(lon: float, lat: float) -> "Transformer":
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", f"+proj=laea +lon_0={lon} +lat_0={lat}", always_xy=True)


def _rings(shape: "shapely.Geometry", to_map: "Transformer") -> Iterator[Points]:
    """The outer rings of a geometry, in metres of the map."""
    import shapely

    for part in shapely.get_parts(shape):
        ring = part.exterior if isinstance(part, shapely.Polygon) else part
        points = _project(shapely.get_coordinates(shapely.segmentize(ring, 0.5)), to_map)
        if len(points):
            yield points


def _reach(to_map: "Transformer", centre: Points, extent: float) -> tuple[float, float, float, float]:
    """South, north, west (0 to 360) and width of a map in degrees."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 24)] * 2), axis=-1).reshape(-1, 2) * extent + centre
    lon, lat = to_map.transform(grid[:, 0], grid[:, 1], direction="INVERSE")
    valid = np.isfinite(lon) & np.isfinite(lat)
    # The map covers all longitudes but the widest gap between its points.
    east = np.sort(lon[valid] % 360)
    gaps = np.diff([*east, east[0] + 360])
    west = east[(int(gaps.argmax()) + 1) % len(east)]
    return float(lat[valid].min()), float(lat[valid].max()), float(west), float(360 - gaps.max())


def _graticule(to_map: "Transformer", centre: Points, extent: float) -> Iterator[tuple[Points, str]]:
    """Parallels and meridians in metres of the map, with labels."""
    south, north, start, width = _reach(to_map, centre, extent)
    for at in _round_numbers(south, north):
        line = np.stack([start + np.linspace(0, width, 100), np.full(100, at)], axis=1)
        yield _project(line, to_map), f"{abs(at):g}°{'N' if at >= 0 else 'S'}"
    for at in _round_numbers(start, start + width):
        line = np.stack([np.full(100, at), np.linspace(south, min(north, 89.5), 100)], axis=1)
        signed = (at + 180) % 360 - 180
        yield _project(line, to_map), f"{abs(signed):g}°{'E' if signed >= 0 else 'W'}"


def _round_numbers(low: float, high: float) -> Points:
    step = next((step for step in _STEPS if (high - low) / step <= 5), _STEPS[-1])
    return np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step


def _project(points: Points, to_map: "Transformer") -> Points:
    """Points in metres of the map, without those that the projection cannot show."""
    projected = np.stack(to_map.transform(*points.T), axis=1)
    return projected[np.isfinite(projected).all(axis=1)]


def _draw_globe(axes: "Axes", footprint: "shapely.Geometry") -> None:
    """Draw the Arctic, or the hemisphere around a southern footprint, with a mark at the footprint."""
    lon, lat = footprint.representative_point().coords[0]  # type: ignore[attr-defined]
    polar = lat > _SOUTHERN_LIMIT
    to_map = _equal_area(-90, 90) if polar else _equal_area(lon, lat)
    reach = abs(to_map.transform(-90, _SOUTHERN_LIMIT)[1]) if polar else 9.0e6
    _frame(axes, np.zeros(2), 2 * reach)
    _draw_land(axes, to_map, np.zeros(2), 2 * reach)
    lowest = 40 if polar else -80
    all_longitudes = np.linspace(-180, 180, 181)
    parallels = [(at, _LINES) for at in range(lowest, 90, 10)] + [(66.56, _CIRCLE)]
    lines = [(np.stack([all_longitudes, np.full(181, at)], axis=1), colour) for at, colour in parallels]
    latitudes = np.linspace(lowest - 10, 80 if polar else 89, 60)
    lines += [(np.stack([np.full(60, at), latitudes], axis=1), _LINES) for at in range(-180, 180, 30)]
    for line, colour in lines:
        points = _project(line, to_map)
        # The projection jumps at the antipode: split the line there.
        jumps = np.flatnonzero(np.hypot(*np.diff(points, axis=0).T) > reach / 2) + 1
        for part in np.split(points, jumps):
            axes.plot(*part.T, color=colour, linewidth=0.7)
    mark = np.array(to_map.transform(lon, lat))
    axes.plot(*mark, "o", color=_MARK, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
    if not polar:
        return
    labels = _PLACES | {f"{at}°N": (-135, at) for at in (50, 60, 70, 80)}
    for label, place in labels.items():
        x, y = to_map.transform(*place)
        if math.dist(mark, (x, y)) > reach / 8:
            axes.text(x, y, label, ha="center", va="center", **_LABEL)
    edge = 0.98 * reach
    for label, x, y, ha, va in (
        ("90°W", 0, -edge, "center", "bottom"), ("0°", edge, 0, "right", "center"),
        ("90°E", 0, edge, "center", "top"), ("180°", -edge, 0, "left", "center"),
    ):  # fmt: skip
        axes.text(x, y, label, ha=ha, va=va, **_LABEL)
