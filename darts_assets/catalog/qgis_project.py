"""QGIS projects (`.qgs`): a tree of styled layers with relative paths."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from pyproj import CRS

from darts_assets.qgis_styles import write_raster_style, write_vector_style

Element = ElementTree.Element


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a project.

    Attributes:
        name: shown in the tree.
        source: path of the file, relative to the project.
        crs: CRS of the file, such as `EPSG:32608`.
        bands: names of the bands of a raster; empty for a GeoPackage.
        table: layer of a GeoPackage; its name also decides the style.
    """

    name: str
    source: str
    crs: str
    bands: Sequence[str] = ()
    table: str = ""


class QgisProject:
    """A project in the making.

    Args:
        title: shown by QGIS.
        crs: CRS of the map.
    """

    def __init__(self, title: str, crs: str) -> None:
        self._root = Element("qgis", version="3.22.0", projectname=title)
        _child(self._root, "title", title)
        _spatial(_child(self._root, "projectCrs"), crs, wkt=True)  # QGIS 3.22 ignores it without WKT
        self._tree = _child(self._root, "layer-tree-group")
        self._layers = _child(self._root, "projectlayers")
        properties = _child(self._root, "properties")
        _child(_child(properties, "Paths"), "Absolute", "false", type="bool")
        _child(_child(properties, "SpatialRefSys"), "ProjectionsEnabled", "1", type="int")  # else no CRS is read
        self._styles: dict[tuple[str, tuple[str, ...]], list[Element]] = {}

    def add_group(self, name: str, layers: Sequence[Layer], *, visible: bool) -> None:
        """Add a group of layers, the first one on top; a group that is not visible is collapsed."""
        checked = "Qt::Checked" if visible else "Qt::Unchecked"
        group = _child(self._tree, "layer-tree-group", name=name, checked=checked, expanded=str(int(visible)))
        for layer in layers:
            key = f"layer_{len(self._layers):06d}"  # QGIS ignores ids of ten characters or less
            provider = "gdal" if layer.bands else "ogr"
            source = f"./{layer.source}|layername={layer.table}" if layer.table else f"./{layer.source}"
            _child(
                group, "layer-tree-layer", id=key, name=layer.name, source=source, providerKey=provider,
                checked="Qt::Checked", expanded="0",
            )  # fmt: skip
            kind = {"type": "raster"} if layer.bands else {"type": "vector", "geometry": "Polygon"}
            node = _child(self._layers, "maplayer", **kind)
            for tag, text in (("id", key), ("datasource", source), ("layername", layer.name), ("provider", provider)):
                _child(node, tag, text)
            _spatial(_child(node, "srs"), layer.crs)
            node.extend(self._style(layer))

    def write(self, path: Path) -> None:
        """Write the project file."""
        ElementTree.indent(self._root)
        ElementTree.ElementTree(self._root).write(path, encoding="utf-8", xml_declaration=False)

    def _style(self, layer: Layer) -> list[Element]:
        key = layer.table, tuple(layer.bands)
        if key not in self._styles:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, layer.table or "raster")
                style = write_raster_style(path, layer.bands) if layer.bands else write_vector_style(path)
                self._styles[key] = list(ElementTree.parse(style).getroot())
        return self._styles[key]


def _child(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _spatial(parent: Element, crs: str, *, wkt: bool = False) -> None:
    system = _child(parent, "spatialrefsys")
    authority = CRS(crs).to_authority()
    if wkt or authority is None:
        _child(system, "wkt", CRS(crs).to_wkt())
    if authority:
        _child(system, "authid", ":".join(authority))
