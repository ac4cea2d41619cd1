"""STAC items of Sentinel-2 products in the SAFE format, from the metadata of the products.

Scale and offset are those of the product (`BOA_QUANTIFICATION_VALUE`, `BOA_ADD_OFFSET` of each band; none before
processing baseline 04.00), the sun's angles the mean ones of the tile, checksums those of `manifest.safe`.
Names of elements: Sentinel-2 Products Specification Document, https://sentiwiki.copernicus.eu/web/s2-documents.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.bands import SCL
from darts_assets.errors import SceneError
from darts_assets.geo.antimeridian import footprint

LAYOUT = "safe"

BANDS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "blue":       ("B02", (10,),    "1"),
    "green":      ("B03", (10,),    "2"),
    "red":        ("B04", (10,),    "3"),
    "nir":        ("B08", (10,),    "7"),
    "coastal":    ("B01", (20, 60), "0"),
    "rededge071": ("B05", (20,),    "4"),
    "rededge075": ("B06", (20,),    "5"),
    "rededge078": ("B07", (20,),    "6"),
    "nir08":      ("B8A", (20,),    "8"),
    "nir09":      ("B09", (60,),    "9"),
    "swir16":     ("B11", (20,),    "11"),
    "swir22":     ("B12", (20,),    "12"),
    SCL:          ("SCL", (20,),    ""),
}  # fmt: skip
"""Band -> its name in files, the resolutions of its files (m; the preferred one first), its id in the metadata."""

_REQUIRED = ("blue", "green", "red", "nir", SCL)
_MULTIHASH = {"SHA3-256": ("1620", 64), "MD5": ("d50110", 32)}
_TILE = re.compile(r"_T(\d{2}[C-HJ-NP-X][A-Z]{2})(?=_|$)")


@dataclass(frozen=True, slots=True)
class SafeFile:
    """A band's file.

    Attributes:
        path: in the product.
        href: path, URL, or member of an archive.
        size: bytes.
    """

    path: str
    href: str
    size: int


def asset_key(band: str) -> str:
    """Key of a band's asset in an item."""
    return f"SAFE_{BANDS[band][0]}"


def safe_item(
    name: str,
    product_xml: bytes,
    tile_xml: bytes,
    manifest_xml: bytes | None,
    files: Mapping[tuple[str, int], SafeFile],
) -> dict[str, Any]:
    """The STAC item of a product of one tile.

    Args:
        name: of the product, for messages.
        product_xml: `MTD_MSIL2A.xml`.
        tile_xml: `MTD_TL.xml`.
        manifest_xml: `manifest.safe`, if there is one.
        files: name of the band (`B02`) and resolution (m) -> file.

    Returns:
        An item with an asset for each band (keys: see `asset_key`).

    Raises:
        SceneError: if the product is not Level-2A, if a band that every scene has or the scene classification is
            missing, or if metadata are malformed.
    """
    product, tile = _parsed(product_xml, f"{name}: MTD_MSIL2A.xml"), _parsed(tile_xml, f"{name}: MTD_TL.xml")
    level = _text(product, "PROCESSING_LEVEL")
    if level is None or not level.startswith("Level-2A"):
        raise SceneError(f"{name}: its processing level is {level}; reflectance at the surface, Level-2A, was expected")
    chosen = _chosen(name, files)
    tile_id = _text(tile, "TILE_ID", "TILE_ID_2A") or ""
    uri = _required(product, f"{name}: MTD_MSIL2A.xml", "PRODUCT_URI", "PRODUCT_URI_2A")
    code = _TILE.search(tile_id)
    grids = dict(_grids(tile, name))
    checksums = dict(_checksums(manifest_xml, name)) if manifest_xml else {}
    offsets = _offsets(product, name)
    quantification = _number(_required(product, name, "BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"), name)
    if not quantification > 0:
        raise SceneError(f"{name}: its BOA_QUANTIFICATION_VALUE is {quantification:g}, a positive number was expected")
    crs = _required(tile, f"{name}: MTD_TL.xml", "HORIZONTAL_CS_CODE")
    geometry = _geometry(_text(product, "EXT_POS_LIST"))
    properties = {
        "datetime": _required(product, f"{name}: MTD_MSIL2A.xml", "PRODUCT_START_TIME"),
        "platform": (_text(product, "SPACECRAFT_NAME") or "").lower() or None,
        "constellation": "sentinel-2",
        "eo:cloud_cover": _known(product, "Cloud_Coverage_Assessment"),
        "eo:snow_cover": _known(product, "SNOW_ICE_PERCENTAGE"),
        "grid:code": f"MGRS-{code[1]}" if code else None,
        "processing:version": _text(product, "PROCESSING_BASELINE"),
        "sat:relative_orbit": _whole(_text(product, "SENSING_ORBIT_NUMBER")),
        "s2:product_uri": uri,
        "s2:product_type": _text(product, "PRODUCT_TYPE"),
        "s2:generation_time": _text(product, "GENERATION_TIME"),
        "s2:datatake_id": next((e.get("datatakeIdentifier") for e in _all(product, "Datatake")), None),
        "s2:datastrip_id": _text(tile, "DATASTRIP_ID"),
        "s2:tile_id": tile_id or None,
        **_sun(tile),
    }
    assets = {}
    for band, (file, resolution) in chosen.items():
        asset: dict[str, Any] = {
            "href": file.href,
            "type": "image/jp2",
            "roles": ["data"],
            "gsd": resolution,
            "proj:code": crs,
            "file:size": file.size,
            "nodata": 0,
        }
        if grid := grids.get(resolution):
            asset |= {"proj:shape": grid[0], "proj:transform": grid[1]}
        if checksum := checksums.get(file.path):
            asset["file:checksum"] = checksum
        if band != SCL:
            number = offsets.get(BANDS[band][2], None if offsets else 0.0)
            if number is None:
                raise SceneError(f"{name}: its BOA_ADD_OFFSET_VALUES_LIST lacks band {BANDS[band][0]}")
            asset |= {
                "bands": [{"name": BANDS[band][0], "eo:common_name": band}],
                "raster:scale": 1 / quantification,
                "raster:offset": number / quantification,
            }
        assets[asset_key(band)] = asset
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": uri.strip().removesuffix(".SAFE"),
        "geometry": None if geometry is None else shapely.geometry.mapping(geometry),
        **({} if geometry is None else {"bbox": list(geometry.bounds)}),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": assets,
    }


def _chosen(name: str, files: Mapping[tuple[str, int], SafeFile]) -> dict[str, tuple[SafeFile, int]]:
    """The file of each band, and its resolution."""
    chosen = {}
    for band, (code, resolutions, _) in BANDS.items():
        present = next(((files[code, res], res) for res in resolutions if (code, res) in files), None)
        if present is not None:
            chosen[band] = present
        elif band in _REQUIRED:
            what = "the scene classification" if band == SCL else f"band {band}"
            raise SceneError(
                f"{name}: {what} is missing, IMG_DATA/R{resolutions[0]}m/*_{code}_{resolutions[0]}m.jp2 was expected; "
                "the product is not complete"
            )
    return chosen


def _parsed(content: bytes, name: str) -> ElementTree.Element:
    # ESA's metadata have no document type; one could only serve to declare entities.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise SceneError(f"{name} declares a document type, which metadata of a SAFE product do not have")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SceneError(f"{name} is not XML ({error}); the product may be incomplete") from None


def _all(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Elements of a name in any namespace: that of the root changes with the version of the format."""
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == name)


def _text(root: ElementTree.Element, *names: str) -> str | None:
    """The text of the first element of any of the names."""
    elements = (element for name in names for element in _all(root, name))
    return next((element.text.strip() for element in elements if element.text and element.text.strip()), None)


def _required(root: ElementTree.Element, where: str, *names: str) -> str:
    value = _text(root, *names)
    if value is None:
        raise SceneError(f"{where} has no {names[0]}; metadata of a Level-2A product were expected")
    return value


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SceneError(f"{where}: {text!r:.40} stands in place of a number")
    return value


def _known(root: ElementTree.Element, name: str) -> float | None:
    """A number, None if it is missing or NaN."""
    try:
        value = float(_text(root, name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _offsets(product: ElementTree.Element, name: str) -> dict[str, float]:
    """Id of the band -> BOA_ADD_OFFSET; empty if the product has none."""
    elements = _all(product, "BOA_ADD_OFFSET")
    return {str(element.get("band_id")): _number(element.text, f"{name}: BOA_ADD_OFFSET") for element in elements}


def _sun(tile: ElementTree.Element) -> dict[str, float | None]:
    """Mean angles of the sun over the tile, degrees."""
    mean = next(_all(tile, "Mean_Sun_Angle"), None)
    if mean is None:
        return {}
    zenith = _known(mean, "ZENITH_ANGLE")
    elevation = None if zenith is None else 90 - zenith
    return {"view:sun_azimuth": _known(mean, "AZIMUTH_ANGLE"), "view:sun_elevation": elevation}


def _grids(tile: ElementTree.Element, name: str) -> Iterator[tuple[int, tuple[list[int], list[float]]]]:
    """Resolution (m) -> rows and columns, and transform."""
    where = f"{name}: MTD_TL.xml"
    sizes = {element.get("resolution"): element for element in _all(tile, "Size")}
    for position in _all(tile, "Geoposition"):
        resolution = position.get("resolution")
        if resolution not in sizes or not str(resolution).isdecimal():
            continue
        rows, columns = (int(_number(_text(sizes[resolution], key), where)) for key in ("NROWS", "NCOLS"))
        left, top, x, y = (_number(_text(position, key), where) for key in ("ULX", "ULY", "XDIM", "YDIM"))
        yield int(str(resolution)), ([rows, columns], [x, 0, left, 0, y, top])


def _checksums(manifest: bytes, name: str) -> Iterator[tuple[str, str]]:
    """Path in the product -> multihash, of the files that the manifest lists."""
    for stream in _all(_parsed(manifest, f"{name}: manifest.safe"), "byteStream"):
        location, checksum = next(_all(stream, "fileLocation"), None), next(_all(stream, "checksum"), None)
        if location is None or checksum is None:
            continue
        kind, digits = _MULTIHASH.get(str(checksum.get("checksumName")), ("", 0))
        digest = (checksum.text or "").strip().lower()
        if kind and re.fullmatch(rf"[0-9a-f]{{{digits}}}", digest):
            yield str(location.get("href")).removeprefix("./"), kind + digest


def _geometry(positions: str | None) -> BaseGeometry | None:
    """The footprint from `latitude longitude latitude longitude ...`, cut at the antimeridian."""
    try:
        numbers = [float(text) for text in (positions or "").split()]
        points = list(zip(numbers[1::2], numbers[::2], strict=True))
        if len(points) < 4 or not all(map(math.isfinite, numbers)):
            return None
        return footprint({"type": "Polygon", "coordinates": [points]})
    except ValueError:
        return None
