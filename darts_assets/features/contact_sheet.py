"""All features of a scene at one glance: a sheet of small, labelled panels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from darts_assets.bands import FEATURES, TCVIS, band

Values = npt.NDArray[Any]

NOTHING = (150, 40, 110)
"""Where a band holds nothing."""

_COLUMNS, _SIDE, _GAP, _TEXT = 4, 128, 8, 30
_BAR = 36  # pixels of the colours between their lowest and highest value
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_FONT = ImageFont.load_default(12)

_GREY = ((0, 0, 0), (255, 255, 255))
_GREEN = ((120, 84, 50), (238, 226, 190), (20, 96, 36))
_HEIGHT = ((38, 84, 60), (214, 196, 130), (122, 78, 48), (250, 250, 250))
_STEEP = ((250, 246, 232), (226, 120, 60), (84, 20, 40))
_BOTH = ((33, 82, 160), (246, 246, 246), (178, 40, 44))
_ROUND = ((60, 60, 160), (70, 170, 120), (240, 220, 90), (210, 70, 60), (60, 60, 160))
_QUALITY = ((190, 60, 50), (240, 200, 90), (70, 150, 90))


class _Style(NamedTuple):
    """How a band is drawn: colours from its lowest to its highest value, None where the panel finds them out."""

    colours: tuple[tuple[int, int, int], ...]
    low: float | None = None
    high: float | None = None
    around: float | None = None


_STYLES: dict[str, _Style] = {
    **dict.fromkeys(("red", "green", "blue"), _Style(_GREY, 0, 0.2)),
    "nir": _Style(_GREY, 0, 0.5),
    "ndvi": _Style(_GREEN, -0.2, 0.9),
    "dem": _Style(_HEIGHT),
    "relative_elevation": _Style(_BOTH, around=0),
    "slope": _Style(_STEEP, 0),
    "aspect": _Style(_ROUND, 0, 360),
    "hillshade": _Style(_GREY, 0, 1),
    "curvature": _Style(_BOTH, around=0),
    **dict.fromkeys(TCVIS, _Style(_BOTH, around=128)),
    "quality_data_mask": _Style(_QUALITY, 0, 2),
}
_PANELS = ("", *FEATURES, "dem", "quality_data_mask")
_TITLES = {"curvature": "curvature (1/100 m)", "dem": "elevation", "quality_data_mask": "quality"}
_CLASSES = {"quality_data_mask": ("invalid", "high")}  # three of them, of which low is in between
_UNITS = {"1": "", "degree": "°", "1/100 m": ""}


def contact_sheet(preview: Mapping[str, Values]) -> Image.Image:
    """The 13 features, their true colours, elevation and quality, each with its colours and their values.

    Args:
        preview: physical values of each band (height, width), NaN where there is nothing; a few hundred pixels wide.
            Elevation and quality are left out where they are absent.

    Returns:
        RGB, about 550 x 670.
    """
    panels = [name for name in _PANELS if name in preview or not name]
    rows = -(-len(panels) // _COLUMNS)
    size = (_COLUMNS * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _TEXT + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    for number, name in enumerate(panels):
        row, column = divmod(number, _COLUMNS)
        corner = (_GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _TEXT + _GAP))
        if name:
            _panel(sheet, corner, name, preview[name])
        else:
            _draw(sheet, corner, _true_colours(preview))
            _write(sheet, corner, "true colours", "purple: nothing there")
    return sheet


def _panel(sheet: Image.Image, corner: tuple[int, int], name: str, values: Values) -> None:
    style = _STYLES[name]
    known = _known(name, values)
    low, high = _limits(style, values[known].astype(np.float64))
    position = np.where(known, (np.nan_to_num(values).astype(np.float64) - low) / (high - low), 0)
    picture = _coloured(position, style)
    picture[~known] = NOTHING
    _draw(sheet, corner, picture)
    unit = _UNITS.get(band(name).units, f" {band(name).units}")
    first, last = _CLASSES.get(name, (f"{low:.3g}", f"{high:.3g}{unit.rstrip()}"))
    x, y = _write(sheet, corner, _TITLES.get(name, name.replace("_", " ")), first)
    bar = np.linspace(0, 1, _BAR)
    if name in _CLASSES:
        bar = np.rint(bar * 2) / 2
    sheet.paste(Image.fromarray(np.tile(_coloured(bar, style)[None], (6, 1, 1))), (x + 3, y + 5))
    ImageDraw.Draw(sheet).text((x + 6 + _BAR, y), last, fill=_INK, font=_FONT)


def _known(name: str, values: Values) -> npt.NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.isfinite(values)
    # A trend of 0 is none: nobody has looked.
    return values != 0 if name in TCVIS else np.ones(values.shape, dtype=bool)


def _limits(style: _Style, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The values of the first and the last colour: 2 to 98 % of what there is, where the style does not say."""
    if not values.size:
        return (style.low or 0.0, style.high or 1.0)
    if style.around is not None:
        reach = max(float(np.percentile(np.abs(values - style.around), 98)), 1e-3)
        return style.around - reach, style.around + reach
    low = style.low if style.low is not None else float(np.percentile(values, 2))
    high = style.high if style.high is not None else float(np.percentile(values, 98))
    return low, max(high, low + 1e-3)


def _coloured(position: npt.NDArray[np.float64], style: _Style) -> npt.NDArray[np.uint8]:
    """Positions between 0 and 1 as colours: (..., 3)."""
    stops = np.linspace(0, 1, len(style.colours))
    channels = [np.interp(position, stops, channel) for channel in np.transpose(style.colours)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _true_colours(preview: Mapping[str, Values]) -> npt.NDArray[np.uint8]:
    bands = np.stack([preview[name] for name in ("red", "green", "blue")], axis=-1)
    picture = np.rint(np.clip(np.nan_to_num(bands) / _STYLES["red"].high, 0, 1) * 255).astype(np.uint8)
    picture[np.isnan(bands).any(axis=-1)] = NOTHING
    return picture


def _draw(sheet: Image.Image, corner: tuple[int, int], picture: npt.NDArray[np.uint8]) -> None:
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.BOX), corner)


def _write(sheet: Image.Image, corner: tuple[int, int], title: str, below: str) -> tuple[int, int]:
    """Two lines under a panel; returns where the second ends."""
    draw = ImageDraw.Draw(sheet)
    x, y = corner[0], corner[1] + _SIDE + 1
    draw.text((x, y), title, fill=_INK, font=_FONT)
    draw.text((x, y + 13), below, fill=_INK, font=_FONT)
    return x + round(draw.textlength(below, font=_FONT)), y + 13
