"""QGIS styles: a file `NAME.qml` beside `NAME.tif` or `NAME.gpkg`, which QGIS applies when it opens the layer."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from xml.etree import ElementTree

from darts_assets.bands import OPTICAL, TCVIS, Flag, band

MEDIA_TYPE = "application/x-qgis-layer-settings"

RED, ORANGE = "#d7301f", "#ffa500"


class Ramp(NamedTuple):
    """Colours from the lowest to the highest physical value, evenly spaced."""

    low: float
    high: float
    colors: Sequence[str]
    unit: str = ""


RAMPS: Mapping[str, Ramp] = MappingProxyType(
    {
        "probabilities": Ramp(0, 100, ("#fff7ec", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000"), " %"),
        "ndvi": Ramp(-0.2, 0.8, ("#8c510a", "#f6e8c3", "#c7e9b4", "#41ab5d", "#00441b")),
        "slope": Ramp(0, 40, ("#ffffff", "#fee391", "#fe9929", "#993404"), "°"),
        "relative_elevation": Ramp(-10, 10, ("#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"), " m"),
        "aspect": Ramp(0, 360, ("#ca0020", "#f4a582", "#0571b0", "#92c5de", "#ca0020"), "°"),
        "hillshade": Ramp(0, 1, ("#000000", "#ffffff")),
        "curvature": Ramp(-1, 1, ("#2166ac", "#f7f7f7", "#b2182b")),
        **dict.fromkeys(TCVIS, Ramp(0, 255, ("#542788", "#b2abd2", "#f7f7f7", "#fdb863", "#b35806"))),
        **dict.fromkeys(OPTICAL, Ramp(0, 0.4, ("#000000", "#ffffff"))),
    }
)
"""Product or band -> colours."""

COMPOSITES: Mapping[tuple[str, ...], tuple[float, float]] = MappingProxyType(
    {("red", "green", "blue"): (0, 0.2), TCVIS: (0, 255)}
)
"""Three bands that are shown as red, green and blue -> physical values stretched to black and full colour."""

_CLASSES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Limits of the classes of mean probability of a detection."""
_CLASS_COLORS = ("#ffffb2", "#fed976", "#feb24c", "#fd8d3c", "#f03b20", "#bd0026")


def categories(product: str) -> tuple[Flag, ...]:
    """Classes of a raster of one band, by the name of the band or `binarized`; empty for continuous ones."""
    return band("binarized_segmentation" if product == "binarized" else product).flags


def write_raster_style(raster: Path, bands: Sequence[str]) -> Path:
    """Write the style of a raster beside it.

    Args:
        raster: path of the raster.
        bands: names of its bands; `probabilities` and `binarized` for those products.
    """
    root = _root()
    pipe = ElementTree.SubElement(root, "pipe")
    composite = COMPOSITES.get(tuple(bands[:3]))
    if composite:
        _composite(pipe, *composite)
    elif classes := categories(bands[0]):
        _paletted(pipe, classes)
    else:
        _pseudocolor(pipe, RAMPS[bands[0]])
    return _write(raster, root)


def write_vector_style(table: Path) -> Path:
    """Write the style of a vector file beside it: by its name, `prediction_segments`, `prediction_extent` or others."""
    root = _root()
    if table.stem.startswith("prediction_segments"):
        _by_probability(root)
    else:
        renderer = ElementTree.SubElement(root, "renderer-v2", type="singleSymbol")
        symbols = ElementTree.SubElement(renderer, "symbols")
        is_extent = table.stem == "prediction_extent"
        _symbol(symbols, "0", None if is_extent else RED, ORANGE if is_extent else RED)
    return _write(table, root)


def write_category_style(table: Path, column: str, colors: Mapping[str, str], kind: str = "string") -> Path:
    """Write the style of a vector file beside it: a colour for each value of a column.

    Args:
        table: path of the file.
        column: with text or whole numbers.
        colors: value -> colour, such as `#d7301f`, in the order of the legend.
        kind: of the values, `string` or `integer`.
    """
    root = _root()
    renderer = ElementTree.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=column)
    listed, symbols = ElementTree.SubElement(renderer, "categories"), ElementTree.SubElement(renderer, "symbols")
    for index, (value, color) in enumerate(colors.items()):
        label = value.replace("_", " ")
        ElementTree.SubElement(
            listed, "category", symbol=str(index), value=value, label=label, render="true", type=kind
        )
        _symbol(symbols, str(index), color, color)
    return _write(table, root)


def _root() -> ElementTree.Element:
    return ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")


def _write(file: Path, root: ElementTree.Element) -> Path:
    path = file.with_suffix(".qml")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    path.write_text(f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n", encoding="utf-8")
    return path


def _composite(pipe: ElementTree.Element, low: float, high: float) -> None:
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="multibandcolor", opacity="1", alphaBand="-1",
        redBand="1", greenBand="2", blueBand="3",
    )  # fmt: skip
    for color in ("red", "green", "blue"):
        stretch = ElementTree.SubElement(renderer, f"{color}ContrastEnhancement")
        for name, text in (("minValue", low), ("maxValue", high), ("algorithm", "StretchToMinimumMaximum")):
            ElementTree.SubElement(stretch, name).text = str(text)


def _paletted(pipe: ElementTree.Element, classes: Iterable[Flag]) -> None:
    renderer = ElementTree.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for flag in classes:
        label = flag.meaning.replace("_", " ")
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(flag.value), color=flag.color, alpha="255", label=label
        )


def _pseudocolor(pipe: ElementTree.Element, ramp: Ramp) -> None:
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="singlebandpseudocolor", band="1", opacity="1", alphaBand="-1",
        classificationMin=str(ramp.low), classificationMax=str(ramp.high),
    )  # fmt: skip
    shader = ElementTree.SubElement(ElementTree.SubElement(renderer, "rastershader"), "colorrampshader", {
        "colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0",
        "minimumValue": str(ramp.low), "maximumValue": str(ramp.high),
    })  # fmt: skip
    for index, color in enumerate(ramp.colors):
        value = ramp.low + (ramp.high - ramp.low) * index / (len(ramp.colors) - 1)
        ElementTree.SubElement(
            shader, "item", value=f"{value:g}", color=color, alpha="255", label=f"{value:g}{ramp.unit}"
        )


def _by_probability(root: ElementTree.Element) -> None:
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="graduatedSymbol", attr="mean", graduatedMethod="GraduatedColor"
    )
    ranges, symbols = ElementTree.SubElement(renderer, "ranges"), ElementTree.SubElement(renderer, "symbols")
    for index, (low, high) in enumerate(pairwise(_CLASSES)):
        label = f"{low:.0%} to {high:.0%}"
        ElementTree.SubElement(
            ranges, "range", symbol=str(index), lower=str(low), upper=str(high), label=label, render="true"
        )
        _symbol(symbols, str(index), _CLASS_COLORS[index], "#7f0000")


def _symbol(symbols: ElementTree.Element, name: str, fill: str | None, outline: str) -> None:
    """A polygon symbol: an outline, and a half transparent fill if it has a color."""
    symbol = ElementTree.SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
    layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0", "locked": "0"})
    options = ElementTree.SubElement(layer, "Option", type="Map")
    values = {
        "color": _rgba(fill or outline, 128), "style": "solid" if fill else "no", "outline_color": _rgba(outline, 255),
        "outline_style": "solid", "outline_width": "0.4", "outline_width_unit": "MM",
    }  # fmt: skip
    for key, value in values.items():
        ElementTree.SubElement(options, "Option", type="QString", name=key, value=value)


def _rgba(color: str, alpha: int) -> str:
    return ",".join(str(part) for part in (*bytes.fromhex(color[1:]), alpha))
