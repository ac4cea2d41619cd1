"""Pictures of scenes, auxiliary cubes and statistics, drawn by matplotlib; chunks and thumbnails are pixel arrays."""

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from darts_assets.bands import FEATURES, TCVIS, band
from darts_assets.tiles import geobox_of
from darts_assets.true_colour import NO_DATA, Pixels, stretch, true_colours

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from matplotlib.figure import Figure
    from PIL.Image import Image

# A kernel of Jupyter passes its backend on to processes that may lack it, and could not import matplotlib then.
_scheme, _, _backend = os.environ.get("MPLBACKEND", "").partition("://")
if _scheme == "module" and importlib.util.find_spec(_backend.partition(".")[0]) is None:
    del os.environ["MPLBACKEND"]

Values = npt.NDArray[Any]
NO_DATA_COLOR = "#" + bytes(NO_DATA).hex()
"""Colour of pixels without data, for matplotlib."""

CHUNK_SIDE = 128
"""Width and height of a chunk's picture in pixels."""

EXTENT_COLOR, DETECTION_COLOR = (90, 220, 255), (255, 40, 140)
"""Colours of outlines in thumbnails."""

HATCH_COLOR = (255, 150, 0)
"""Colour of the lines over clouds, shadow and snow in thumbnails."""

COVERAGE_COLORS = {"empty": "#8ca5c8", "filled": "#2e8b57", "missing": "#d63e26"}
"""Colours of chunks in a coverage map, in drawing order."""

_DPI, _TEXT = 100, 7.5  # text in points
_INK, _GRID = "0.2", "0.87"
_SUBPIXEL_BITS = 4
_HATCH_STEP = 9
_WIDE = 470  # pixels in which the whole legend fits


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """An empty figure of a size in pixels; it uses the Agg canvas and no global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # imported late: it takes half a second

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def render(figure: "Figure") -> "Image":
    """Draw a figure as an RGB image."""
    from PIL import Image

    figure.canvas.draw()
    return Image.fromarray(np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))  # type: ignore[attr-defined]


class _Style(NamedTuple):
    """Colormap and limits of a band; a limit of None is the 2nd or 98th percentile, `centre` makes limits symmetric."""

    cmap: str
    low: float | None = None
    high: float | None = None
    centre: float | None = None


_STYLES: dict[str, _Style] = {
    **dict.fromkeys(("red", "green", "blue"), _Style("gray", 0, 0.2)),
    "nir": _Style("gray", 0, 0.5),
    "ndvi": _Style("RdYlGn", -0.2, 0.9),
    "dem": _Style("gist_earth"),
    "relative_elevation": _Style("RdBu_r", centre=0),
    "slope": _Style("magma_r", 0),
    "aspect": _Style("twilight", 0, 360),
    "hillshade": _Style("gray", 0, 1),
    "curvature": _Style("RdBu_r", centre=0),
    **dict.fromkeys(TCVIS, _Style("RdBu_r", centre=128)),
    "quality_data_mask": _Style("RdYlGn", 0, 2),
}
_TITLES = {"curvature": "curvature (1/100 m)", "dem": "elevation", "quality_data_mask": "quality"}
_UNITS = {"1": "", "degree": "°", "0.01 m-1": ""}
_COLUMNS, _SIDE, _GAP, _CAPTION = 4, 128, 8, 30  # pixels of the contact sheet


def contact_sheet(preview: Mapping[str, Values]) -> "Image":
    """Draw true colours, the 13 features, elevation and quality, each with its colour scale.

    Args:
        preview: physical values of each band (height, width), NaN where unknown; a few hundred pixels wide.
            Elevation and quality are optional.

    Returns:
        RGB, 552 x 672.
    """
    names = ["true colours", *(name for name in (*FEATURES, "dem", "quality_data_mask") if name in preview)]
    rows = -(-len(names) // _COLUMNS)
    width, height = _COLUMNS * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _CAPTION + _GAP) + _GAP
    figure = new_figure(width, height)
    for number, name in enumerate(names):
        row, column = divmod(number, _COLUMNS)
        x, y = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _CAPTION + _GAP)

        def box(left: int, top: int, wide: int, high: int, x: int = x, y: int = y) -> Any:
            return (x + left) / width, 1 - (y + top + high) / height, wide / width, high / height

        axes = figure.add_axes(box(0, 0, _SIDE, _SIDE), anchor="NW")
        axes.set_axis_off()
        text = figure.add_axes(box(0, _SIDE, _SIDE, _CAPTION), xlim=(0, _SIDE), ylim=(_CAPTION, 0))
        text.set_axis_off()
        text.text(0, 9, _TITLES.get(name, name.replace("_", " ")), fontsize=_TEXT, color=_INK, va="center")
        if name not in preview:
            axes.imshow(_true_colours(preview))
            text.text(0, 22, "purple: no data", fontsize=_TEXT, color=_INK, va="center")
            continue
        style, values = _STYLES[name], _masked(name, preview[name])
        low, high = _limits(style, values.compressed().astype(np.float64))
        cmap = _colormap(style.cmap)
        axes.imshow(values, cmap=cmap, vmin=low, vmax=high)
        unit = _UNITS.get(band(name).units, f" {band(name).units}").rstrip()
        first, last = ("invalid", "high") if name == "quality_data_mask" else (f"{low:.3g}", f"{high:.3g}{unit}")
        label = text.text(0, 22, first, fontsize=_TEXT, color=_INK, va="center")
        end = label.get_window_extent().width + 4
        bar = np.linspace(0, 1, 3 if name == "quality_data_mask" else 36)
        text.imshow(bar[None], cmap=cmap, extent=(end, end + 36, 25, 19), aspect="auto", interpolation="nearest")
        text.text(end + 40, 22, last, fontsize=_TEXT, color=_INK, va="center")
        text.set(xlim=(0, _SIDE), ylim=(_CAPTION, 0))
    return render(figure)


def _colormap(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=NO_DATA_COLOR)


def _masked(name: str, values: Values) -> "np.ma.MaskedArray[Any, Any]":
    """Values without missing data; 0 is the nodata value of TCVIS."""
    return np.ma.masked_equal(values, 0) if name in TCVIS else np.ma.masked_invalid(values)


def _limits(style: _Style, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The values of the first and the last colour."""
    if not values.size:
        return (style.low or 0.0, style.high or 1.0)
    if style.centre is not None:
        reach = max(float(np.percentile(np.abs(values - style.centre), 98)), 1e-3)
        return style.centre - reach, style.centre + reach
    low = style.low if style.low is not None else float(np.percentile(values, 2))
    high = style.high if style.high is not None else float(np.percentile(values, 98))
    return low, max(high, low + 1e-3)


def _true_colours(preview: Mapping[str, Values]) -> Pixels:
    bands = np.stack([preview[name] for name in ("red", "green", "blue")], axis=-1)
    quality = preview.get("quality_data_mask")
    return true_colours(bands, stretch(bands, None if quality is None else quality == 2))


def histogram(counts: npt.NDArray[np.int64], threshold: int = 50) -> "Image":
    """Draw the number of pixels at each percent of probability on a logarithmic axis.

    Args:
        counts: pixels at 0, 1, ... 100 percent (101,).
        threshold: percent; bars above it are red, as `polygons` detects slumps there by default.

    Returns:
        RGB, 365 x 198.
    """
    figure = new_figure(365, 198, layout="constrained")
    axes = figure.add_subplot()
    percent = np.arange(101)
    axes.bar(percent, counts, color=np.where(percent > threshold, "#e22882", "#788696"), width=0.8)
    axes.set(yscale="log", xlim=(-1, 101), ylim=(0.7, max(10, counts.max() * 1.5)), xticks=range(0, 101, 25))
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.tick_params(labelsize=_TEXT, length=2)
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    share = counts[threshold + 1 :].sum() / max(counts.sum(), 1)
    axes.set_title(f"pixels by probability; {100 * share:.3g} % above {threshold} %", fontsize=_TEXT + 0.5, loc="left")
    return render(figure)


def chunk_picture(values: Mapping[str, Values]) -> Pixels:
    """A chunk of an auxiliary cube: elevation shaded from the north-west, or TCVIS as red, green and blue.

    Args:
        values: variable -> (1024, 1024) physical values; `dem` or the TCVIS bands.

    Returns:
        RGB, 128 x 128; `NO_DATA` where less than half of a pixel has data.
    """
    if "dem" in values:
        dem, valid = _block_means(values["dem"], np.isfinite(values["dem"]))
        picture = np.repeat(_shaded(dem, valid)[..., np.newaxis], 3, axis=2)
    else:
        any_valid = np.logical_or.reduce([values[name] > 0 for name in TCVIS])
        bands = [_block_means(values[name], any_valid) for name in TCVIS]
        valid = bands[0][1]
        picture = np.stack([mean for mean, _ in bands], axis=2).astype(np.uint8)
    picture[~valid] = NO_DATA
    return picture


def _block_means(values: Values, valid: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Means of valid pixels per block, and the blocks of which at least half is valid."""
    factor = len(values) // CHUNK_SIDE
    blocks = (CHUNK_SIDE, factor, CHUNK_SIDE, factor)
    count = valid.reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    total = np.where(valid, values, 0).reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    return total / np.maximum(count, 1), count >= factor**2 / 2


def _shaded(dem: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Pixels:
    """Grey levels of a terrain: 60 % hillshade and 40 % elevation, both stretched to the chunk's range."""
    if not valid.any():
        return np.zeros(dem.shape, dtype=np.uint8)
    low, high = np.percentile(dem[valid], (2, 98))
    height = np.clip((np.where(valid, dem, low) - low) / max(high - low, 1.0), 0, 1)
    down, right = np.gradient(np.where(valid, dem, np.nan))
    light = np.nan_to_num(down + right)  # ground that rises to the south-east is lit; edges of holes are neutral
    spread = float(np.sqrt(np.mean(np.square(light[valid])))) or 1.0
    shade = 0.5 + 0.5 * np.tanh(light / (1.5 * spread))
    return np.rint(40 + 200 * (0.6 * shade + 0.4 * height)).astype(np.uint8)


def coverage_map(shape: tuple[int, int], chunks: Mapping[str, npt.NDArray[np.int64]]) -> "Image":
    """Draw a map of a cube's chunks, cropped to the known chunks and a margin.

    Args:
        shape: rows and columns of chunks in the cube.
        chunks: state (`COVERAGE_COLORS`) -> (n, 2) rows and columns of its chunks. Missing chunks are drawn last and
            at least 4 pixels wide, so that one among many thousands is visible.

    Returns:
        RGB, 300 x 280; with the numbers of rows and columns and the counts of each state.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(300, 280)
    axes = figure.add_axes((0.13, 0.2, 0.84, 0.78), facecolor="#eeeee8")
    states = {name: np.reshape(chunks[name], (-1, 2)) for name in COVERAGE_COLORS}
    known = np.concatenate([*states.values()]) if any(map(len, states.values())) else np.zeros((1, 2), np.int64)
    first, last = np.maximum(known.min(axis=0) - 1, 0), np.minimum(known.max(axis=0) + 1, np.subtract(shape, 1))
    side = int((last - first).max()) + 1
    pixels = 0.78 * 280 / side  # of a chunk
    for name, cells in states.items():
        size = max(4.0 if name == "missing" else 1.0, pixels - (1 if pixels >= 10 else 0)) * 72 / _DPI
        markers: dict[str, Any] = {
            "marker": "s",
            "linestyle": "none",
            "color": COVERAGE_COLORS[name],
            "markeredgewidth": 0,
        }
        axes.plot(cells[:, 1], cells[:, 0], markersize=size, **markers)
        axes.plot([], [], markersize=6, label=f"{len(cells):,} {name}", **markers)
    middle = (first + last) / 2
    axes.set(
        xlim=(middle[1] - side / 2, middle[1] + side / 2), ylim=(middle[0] + side / 2, middle[0] - side / 2),
        aspect="equal", anchor="C",
    )  # fmt: skip
    for axis, label in ((axes.xaxis, "column"), (axes.yaxis, "row")):
        axis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_label_text(label, fontsize=_TEXT)
    axes.tick_params(labelsize=_TEXT, length=2)
    figure.legend(loc="lower center", ncols=3, fontsize=_TEXT, frameon=False, borderaxespad=0.1, handletextpad=0.2)
    return render(figure)


def thumbnail(features: "xr.Dataset", vectors: Mapping[str, "gpd.GeoDataFrame"], size: int = 512) -> "Image":
    """A scene in true colours with the outlines of detections and of the clear part of the valid area.

    Clouds, shadow and snow are hatched: the parts of the valid area that are not clear.

    Args:
        features: lazy tile with `red`, `green`, `blue` reflectance, shown as of `stretch`, read decimated. Without
            `quality_data_mask`, the whole valid area is outlined.
        vectors: `segments` and `extent`, in the tile's CRS.
        size: longest side in pixels; a smaller tile keeps its size.
    """
    import cv2
    import shapely
    from PIL import Image

    geobox = geobox_of(features)
    height, width = geobox.shape
    scale = min(1.0, size / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    step = max(1, min(height // shape[0], width // shape[1]))
    every = slice(step // 2, None, step)
    # One call for all bands, so that their chunks are read and decoded in parallel.
    names = [name for name in ("red", "green", "blue", "quality_data_mask") if name in features]
    sampled = features[names].isel(y=every, x=every).compute()
    reflectance = np.stack([sampled[name].to_numpy() for name in names[:3]], axis=-1)
    quality = sampled["quality_data_mask"].to_numpy() if len(names) > 3 else None
    limits = stretch(reflectance, None if quality is None else quality == 2)
    pixels = true_colours(np.nan_to_num(reflectance), limits)
    picture: Pixels = np.asarray(cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def lines(name: str) -> list[npt.NDArray[np.int32]]:
        rings = shapely.get_rings(shapely.get_parts(vectors[name].geometry.to_numpy()))
        points, of_point = shapely.get_coordinates(rings, return_index=True)
        columns, rows = geobox.wld2pix(points[:, 0], points[:, 1])
        # OpenCV's origin is the centre of the first pixel, that of grids its corner.
        x, y = columns * shape[1] / width - 0.5, rows * shape[0] / height - 0.5
        fixed = np.rint(np.stack([x, y], axis=-1) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        return np.split(fixed, np.flatnonzero(np.diff(of_point)) + 1) if len(fixed) else []

    outlines = lines("extent")
    if quality is not None:
        small = cv2.resize(quality.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
        _hatch(picture, small == 1)
        outlines = _clear_outlines(outlines, (small == 2).astype(np.uint8))
    for paths, color in ((outlines, EXTENT_COLOR), (lines("segments"), DETECTION_COLOR)):
        cv2.polylines(picture, paths, isClosed=True, color=color, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return Image.fromarray(picture)


def _hatch(picture: Pixels, area: npt.NDArray[np.bool_]) -> None:
    """Draw diagonal lines over an area; specks of less than 5 x 5 are ignored."""
    import cv2

    area = cv2.medianBlur(area.astype(np.uint8), 5) == 1
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    picture[area & ((rows + columns) % _HATCH_STEP == 0)] = HATCH_COLOR


def _clear_outlines(extent: list[npt.NDArray[np.int32]], clear: Pixels) -> list[npt.NDArray[np.int32]]:
    """Outlines of the clear part of an area.

    Args:
        extent: rings of the area, (points, 2) each, columns and rows in units of `1 / (1 << _SUBPIXEL_BITS)`.
        clear: (height, width), 1 for clear pixels; specks of less than 5 x 5 are ignored.

    Returns:
        Rings as in `extent`, which is returned itself if it is clear.
    """
    import cv2

    inside = np.zeros_like(clear)
    cv2.fillPoly(inside, extent, 1, shift=_SUBPIXEL_BITS)  # even-odd: holes stay empty
    both = cv2.min(cv2.medianBlur(clear, 5), inside)
    if (both == inside).all():
        return extent
    contours, _ = cv2.findContours(both, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [contour.reshape(-1, 2).astype(np.int32) << _SUBPIXEL_BITS for contour in contours]


def scene_picture(features: "xr.Dataset", vectors: Mapping[str, "gpd.GeoDataFrame"]) -> "Image":
    """The `thumbnail` of a scene with a legend and a scale bar below it; arguments as there."""
    picture, geobox = thumbnail(features, vectors), geobox_of(features)
    metres = max(geobox.shape) * abs(geobox.resolution.x) / max(picture.size)
    return captioned(picture, metres, len(vectors["segments"]))


def captioned(picture: "Image", metres: float, objects: int) -> "Image":
    """A thumbnail with a legend and a scale bar below it.

    Args:
        picture: result of `thumbnail`.
        metres: ground size of one of its pixels.
        objects: number of detections.
    """
    width, height, line = max(picture.width, 300), picture.height, 22
    strip = line if width >= _WIDE else 2 * line
    figure = new_figure(width, height + strip)
    figure.figimage(np.asarray(picture), 0, strip, origin="upper")
    axes = figure.add_axes((0, 0, 1, strip / (height + strip)), xlim=(0, width), ylim=(0, strip))
    axes.set_axis_off()
    text: dict[str, Any] = {"va": "center_baseline", "fontsize": _TEXT + 1, "color": _INK}
    x, y = 8.0, strip - line / 2
    legend = {
        f"thaw slumps: {objects}": DETECTION_COLOR, "clear area": EXTENT_COLOR, "cloud, shadow, snow": HATCH_COLOR,
    }  # fmt: skip
    for label, color in legend.items():
        if color == HATCH_COLOR and strip > line:
            x, y = 8.0, line / 2
        axes.plot([x, x + 10], [y, y], color=np.divide(color, 255), linewidth=2.5)
        x = axes.text(x + 15, y, label, **text).get_window_extent().x1 + 14
    y = strip - line / 2
    lengths = (digit * 10**power for power in range(7) for digit in (1, 2, 5))
    ground = next(length for length in lengths if length / metres >= 36)
    start, end = width - 8 - ground / metres, width - 8
    axes.plot([start, start, end, end], [y + 4, y - 4, y - 4, y + 4], color=_INK, linewidth=1)
    label = f"{ground // 1000} km" if ground >= 1000 else f"{ground} m"
    axes.text(start - 5, y, label, ha="right", **text)
    return render(figure)
