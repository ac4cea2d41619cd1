"""The STAC item of a Planet image, made from its files and metadata, and the scene that such an item describes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from odc.geo.geobox import GeoBox

from darts_assets.bands import UDM, VISIBLE_NIR
from darts_assets.errors import RasterError, SceneError
from darts_assets.geo.antimeridian import footprint
from darts_assets.remote.byte_reader import S3Options, shown
from darts_assets.remote.raster_files import open_raster
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.folders import File
from darts_assets.sources.planet.deliveries import Delivery
from darts_assets.sources.planet.image_metadata import Metadata
from darts_assets.sources.planet.names import image_id
from darts_assets.sources.rasters.odc_driver import GdalFiles
from darts_assets.sources.sentinel2.parse_item import parse_item

SR_SCALE = 1e-4
"""Surface reflectance of one digital number."""

UDM2_BANDS = ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "no_data")

_BAND_ORDER: Mapping[int, tuple[str, ...]] = {
    4: VISIBLE_NIR,
    8: ("coastal", "blue", "", "green", "", "red", "rededge071", "nir"),
}
"""Count of bands -> canonical names in Planet's order; "" for unused bands (green I, yellow).

4: blue, green, red, near infrared. 8 (SuperDove, `_8b`): coastal blue 443 nm, blue 490, green I 531, green 565, yellow
610, red 665, red edge 705, near infrared 865. Files of five bands (RapidEye, or 4 and red edge) are ambiguous.
"""

_DESCRIPTIONS: Mapping[str, str] = {
    "blue": "blue", "green": "green", "red": "red", "nir": "nir", "near infrared": "nir", "near-infrared": "nir",
    "coastal blue": "coastal", "coastal": "coastal", "rededge": "rededge071", "red edge": "rededge071",
}  # fmt: skip
"""Descriptions of bands in the files -> canonical names."""

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v2.0.0", "view/v1.0.0", "projection/v2.0.0", "raster/v2.0.0", "file/v2.1.0")
]


@dataclass(frozen=True)
class _Header:
    """Grid, EPSG code, CRS (as text) and band descriptions of a raster."""

    grid: GeoBox
    epsg: int | None
    crs: str
    descriptions: tuple[str | None, ...]


def make_item(delivery: Delivery, metadata: Metadata, s3: S3Options) -> dict[str, Any]:
    """The STAC item of an image, with assets `sr` (or `toa`), `udm2` (or `udm`) and those of its metadata.

    Without surface reflectance, top-of-atmosphere digital numbers are used; without `udm2`, the older `udm`, which
    flags only clouds and bad pixels.

    Args:
        delivery: a complete delivery.
        metadata: its metadata.
        s3: how to reach `s3://`.

    Raises:
        SceneError: if files are missing or ambiguous, or the bands are not the expected ones.
        RasterError: if a raster cannot be opened, or has no CRS.
        SourceUnavailableError, SettingsError: from the service.
    """
    kind, image = _reflectance(delivery)
    mask_kind, mask = _mask(delivery)
    header = _read_header(delivery, image, s3)
    if header.epsg is None:
        raise RasterError(f"{delivery}: {image.name} has {header.crs}; a UTM zone was expected")
    try:
        names = band_names(header.descriptions)
        scales = [SR_SCALE] * len(names) if kind == "sr" else _toa_scales(metadata.coefficients, len(names))
    except SceneError as error:
        raise SceneError(f"{delivery}: {image.name} has {error}") from None
    grid = {"proj:shape": list(header.grid.shape), "proj:transform": list(header.grid.affine)[:6]}
    assets = {
        kind: {**_asset(delivery, image, "data"), **grid, "bands": _bands(names, scales)},
        mask_kind: {**_asset(delivery, mask, "data-mask"), "bands": _mask_bands(mask_kind)},
        **{
            name: _asset(delivery, file, "metadata")
            for name, of_kind in (("metadata", "json"), ("metadata_xml", "xml"))
            for file in delivery.of_kind(of_kind)  # type: ignore[arg-type]
        },
    }
    geometry = metadata.geometry or header.grid.footprint("EPSG:4326").json
    shape = footprint(geometry)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": _EXTENSIONS,
        "id": delivery.id.id,
        "geometry": geometry,
        "bbox": None if shape is None else list(shape.bounds),
        "properties": _properties(delivery, metadata, header.epsg),
        "links": [],
        "assets": assets,
    }


def parse_image_item(item: Mapping[str, Any]) -> Scene:
    """The scene that an item of `make_item` describes; `planet_udm` points to the last band of the mask that is read.

    Raises:
        SceneError: if it is not an item of a Planet image.
    """
    scene = parse_item(item)
    assets = item["assets"]
    kind = next((name for name in ("udm2", "udm") if name in assets), None)
    if kind is None:
        raise SceneError(f"scene {scene.id} is not a Planet image: an asset udm2 or udm was expected")
    size, checksum = assets[kind].get("file:size"), assets[kind].get("file:checksum")
    # A file with the last band has the others as well.
    index = len(UDM2_BANDS) if kind == "udm2" else 1
    mask = SceneBand(UDM, kind, assets[kind]["href"], index, "uint8", nodata=None, size=size, checksum=checksum)
    cell = item["properties"].get("pl:grid_cell")
    return replace(scene, source="planet", bands={**scene.bands, UDM: mask}, tile=cell)


def band_names(descriptions: Sequence[str | None]) -> tuple[str, ...]:
    """Canonical name of each band of a file, "" for unused bands.

    The descriptions of the bands decide; without them, Planet's order of four or eight bands.

    Args:
        descriptions: of all bands of the file, None where a band has none.

    Raises:
        SceneError: if there are neither four nor eight bands, or the descriptions lack blue, green, red or nir.
    """
    count = len(descriptions)
    if count not in _BAND_ORDER:
        raise SceneError(
            f"{count} band(s); 4 were expected (blue, green, red, nir), or 8 (coastal blue, blue, green I, green, "
            "yellow, red, red edge, nir)"
        )
    texts = [(text or "").strip().lower().replace("_", " ") for text in descriptions]
    names = tuple(_DESCRIPTIONS.get(text, "") for text in texts)
    if not set(names) & set(VISIBLE_NIR):
        return _BAND_ORDER[count]
    if wrong := [name for name in VISIBLE_NIR if names.count(name) != 1]:
        raise SceneError(f"bands described as {', '.join(texts)}; {', '.join(wrong)} were expected once each")
    return names


def _toa_scales(coefficients: Mapping[int, float], count: int) -> tuple[float, ...]:
    """Top-of-atmosphere reflectance of one digital number, for each band of a file."""
    if wrong := [number for number in range(1, count + 1) if not coefficients.get(number, 0) > 0]:
        raise SceneError(
            "top-of-atmosphere digital numbers, but its *_metadata.xml has no reflectanceCoefficient of band "
            f"{', '.join(map(str, wrong))}: they cannot be converted to reflectance"
        )
    return tuple(coefficients[number] for number in range(1, count + 1))


def _reflectance(delivery: Delivery) -> tuple[str, File]:
    if surface := delivery.only("sr", "surface reflectance"):
        return "sr", _checked(delivery, surface)
    if top := delivery.only("toa", "top-of-atmosphere digital numbers"):
        if not delivery.of_kind("xml"):
            raise SceneError(
                f"{delivery} has top-of-atmosphere digital numbers ({top.name}) without the *_metadata.xml that has "
                "their coefficients; that file, or surface reflectance (*_SR.tif or *_SR_clip.tif) was expected"
            )
        return "toa", _checked(delivery, top)
    raise SceneError(
        f"{delivery} has no reflectance: *_SR.tif, *_SR_clip.tif, or *_AnalyticMS.tif with its *_metadata.xml was "
        f"expected; its files: {_listed(delivery)}"
    )


def _mask(delivery: Delivery) -> tuple[str, File]:
    if usable := delivery.only("udm2", "usable data mask"):
        return "udm2", _checked(delivery, usable)
    if older := delivery.only("udm", "unusable data mask"):
        return "udm", _checked(delivery, older)
    raise SceneError(
        f"{delivery} has no usable data mask: *_udm2.tif or *_udm2_clip.tif was expected; its files: "
        f"{_listed(delivery)}"
    )


def _checked(delivery: Delivery, file: File) -> File:
    other = image_id(file.name)
    if other is not None and other.id != delivery.id.id:
        raise SceneError(f"{delivery} has a file of another image: {file.name}")
    return file


def _read_header(delivery: Delivery, file: File, s3: S3Options) -> _Header:
    def read() -> _Header:
        with open_raster(file.href) as dataset:
            epsg = dataset.crs.to_epsg() if dataset.crs else None
            crs = f"the CRS {dataset.crs.to_string()}" if dataset.crs else "no CRS"
            grid = GeoBox(dataset.shape, dataset.transform, dataset.crs or None)
            return _Header(grid, epsg, crs, tuple(dataset.descriptions))

    where = f"{delivery}: {file.name}"
    return GdalFiles([file.href], s3).read(file.href, where, read, "cannot be opened as a raster")


def _asset(delivery: Delivery, file: File, role: str) -> dict[str, Any]:
    kinds = {"json": "application/json", "xml": "text/xml"}
    checksum = delivery.checksum(file)
    return {
        "href": file.href,
        "type": kinds.get(file.name.rpartition(".")[2].lower(), "image/tiff; application=geotiff"),
        "roles": [role],
        "file:size": file.size,
        **({"file:checksum": checksum} if checksum else {}),
    }


def _bands(names: Sequence[str], scales: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {
            "name": name or f"band_{number}",
            **({"eo:common_name": name} if name else {}),
            "data_type": "uint16",
            "nodata": 0,
            "raster:scale": scale,
            "raster:offset": 0.0,
        }
        for number, (name, scale) in enumerate(zip(names, scales, strict=True), start=1)
    ]


def _mask_bands(kind: str) -> list[dict[str, Any]]:
    return [{"name": name, "data_type": "uint8"} for name in (UDM2_BANDS if kind == "udm2" else ("unusable",))]


def _properties(delivery: Delivery, metadata: Metadata, epsg: int) -> dict[str, Any]:
    properties: Mapping[str, Any] = {
        "datetime": metadata.time.isoformat().replace("+00:00", "Z"),
        "constellation": "planetscope",
        "platform": delivery.id.satellite,
        "instruments": [metadata.instrument] if metadata.instrument else None,
        "pl:item_type": delivery.id.item_type,
        "pl:grid_cell": delivery.id.cell,
        "proj:code": f"EPSG:{epsg}",
        "eo:cloud_cover": metadata.cloud_cover,
        "view:sun_azimuth": metadata.sun_azimuth,
        "view:sun_elevation": metadata.sun_elevation,
    }
    return {name: value for name, value in properties.items() if value is not None}


def _listed(delivery: Delivery) -> str:
    return ", ".join(sorted(shown(file.name) for file in delivery.files)) or "none"
