"""STAC items of scenes as `Scene` records: asset layouts of the providers, and the fields of an item.

A provider is recognized by the asset keys of the four bands that every scene has. Quarterly mosaics share theirs with
other providers, but only they have an asset with the number of observations. Items of Earth Search have ESA's JPEG 2000
files as `blue-jp2`, ... beside its own GeoTIFFs, or alone. The Planetary Computer and Earth Search v0 share a layout,
and differ in their properties. `safe_item` and `eopf_item` make the items of ESA's products. Items of other providers
work if their bands carry STAC's common names; several bands may then share one file. Parsing reads nothing but the
item.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.utils import str_to_datetime
from shapely.geometry import shape

from darts_assets.bands import OBSERVATIONS, OPTICAL, SCL, VISIBLE_NIR
from darts_assets.errors import SceneError
from darts_assets.geo.declared_crs import declared_crs
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.sentinel2 import safe_item
from darts_assets.sources.sentinel2.offset_evidence import (
    SENTINEL2_SCALE,
    Offset,
    baseline_offset,
    decide_offset,
    declared,
    processing_baseline,
)
from darts_assets.sources.sentinel2.safe_item import LAYOUT as SAFE

COMMON_NAMES = "common_names"
EOPF = "eopf"
MOSAIC = "cdse_mosaic"
PLANETARY_COMPUTER = "planetary_computer"
ORIGINALS = "earth_search_jp2"
PROVIDERS = ("cdse", "earth_search", "sentinel2_bands", MOSAIC, ORIGINALS, SAFE, EOPF)

_ASSET_KEYS: dict[str, tuple[str, str, str, str]] = {
    # band          cdse       earth_search  sentinel2_bands  cdse_mosaic
    #                                        (Planetary Computer, Earth Search v0)
    "blue":         ("B02_10m", "blue",       "B02",           "B02"),
    "green":        ("B03_10m", "green",      "B03",           "B03"),
    "red":          ("B04_10m", "red",        "B04",           "B04"),
    "nir":          ("B08_10m", "nir",        "B08",           "B08"),
    "coastal":      ("B01_20m", "coastal",    "B01",           ""),
    "rededge071":   ("B05_20m", "rededge1",   "B05",           ""),
    "rededge075":   ("B06_20m", "rededge2",   "B06",           ""),
    "rededge078":   ("B07_20m", "rededge3",   "B07",           ""),
    "nir08":        ("B8A_20m", "nir08",      "B8A",           ""),
    "nir09":        ("B09_60m", "nir09",      "B09",           ""),
    "swir16":       ("B11_20m", "swir16",     "B11",           ""),
    "swir22":       ("B12_20m", "swir22",     "B12",           ""),
    SCL:            ("SCL_20m", "scl",        "SCL",           ""),
    OBSERVATIONS:   ("",        "",           "",              "observations"),
}  # fmt: skip

_PICTURES = {"visual", "overview", "thumbnail"}
_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TILE = re.compile(r"(?:MGRS-)?(\d{1,2})([C-HJ-NP-X][A-Z]{2})")
_TILE_IN_NAME = re.compile(r"_T?(\d{2})([C-HJ-NP-X][A-Z]{2})_")
_UTM = re.compile(r"EPSG:(32[67](?:0[1-9]|[1-5]\d|60))")
_LEVEL_1 = re.compile(r"(?:MSI|^|[_-])L(?:EVEL-?)?1[A-C]?(?=[_.-]|$)|S2MSI1", re.IGNORECASE)
_SCL_KEY = re.compile(r"(?:.*[-_.])?scl(?:[-_.].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an item keeps one band: the key of the asset, and the 1-based band of its file."""

    asset: str
    index: int = 1


def _with_readable_errors(parse: Callable[[Mapping[str, Any]], Scene]) -> Callable[[Mapping[str, Any]], Scene]:
    @wraps(parse)
    def parse_or_refuse(item: Mapping[str, Any]) -> Scene:
        try:
            return parse(item)
        except SceneError:
            raise
        # Fields of any type may be anywhere in a malformed item.
        except Exception as error:
            raise SceneError(f"scene {item.get('id')}: a field of its item is malformed: {error!r}") from error

    return parse_or_refuse


@_with_readable_errors
def parse_item(item: Mapping[str, Any]) -> Scene:
    """The scene that a STAC item describes.

    Args:
        item: a STAC item (1.0 or 1.1) with absolute asset hrefs, as `read_item` returns it.

    Raises:
        SceneError: if the item lacks required fields or contradicts itself; the message has scene and band.
    """
    scene_id = _checked_id(item.get("id"))
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise SceneError(f"scene {scene_id} is not a STAC item: objects 'properties' and 'assets' were expected")
    _check_level(scene_id, item)
    source, locations = locate_bands(scene_id, assets)
    if source == "sentinel2_bands" and "s2:mgrs_tile" in properties:
        source = PLANETARY_COMPUTER
    # A mosaic combines scenes of several baselines.
    baseline = None if source == MOSAIC else processing_baseline({"id": scene_id, "properties": properties})
    epsg = _one_crs(scene_id, properties, {loc.asset: assets[loc.asset] for loc in locations.values()})
    bands, offsets = {}, {}
    for name, location in locations.items():
        try:
            if name in OPTICAL:
                offsets[name] = _offset(source, location, item)
            bands[name] = _band(source, name, location, item, offsets.get(name), epsg)
        except SceneError as error:
            raise SceneError(f"scene {scene_id}, band {name} (asset {location.asset}): {error}") from error
    zenith = _number(properties, "s2:mean_solar_zenith")
    return Scene(
        id=scene_id,
        source=source,
        datetime=_sensing_time(scene_id, properties),
        epsg=epsg,
        bands=bands,
        sun_azimuth=_number(properties, "view:sun_azimuth", "s2:mean_solar_azimuth"),
        sun_elevation=_number(properties, "view:sun_elevation", default=None if zenith is None else 90 - zenith),
        cloud_cover=_number(properties, "eo:cloud_cover"),
        snow_cover=_number(properties, "eo:snow_cover", "s2:snow_ice_percentage"),
        tile=_tile(scene_id, properties),
        processing_baseline=baseline,
        offset_evidence=_by_band({name: offset.decision for name, offset in offsets.items()}),
        offset_contradiction=_by_band({name: offset.contradicted for name, offset in offsets.items()}),
        geometry=_footprint(item.get("geometry")),
        item=dict(item),
    )


def asset_keys(provider: str) -> dict[str, str]:
    """Canonical band name -> asset key of one of `PROVIDERS`, for the bands that it has."""
    if provider == ORIGINALS:
        return {band: f"{key}-jp2" for band, key in asset_keys("earth_search").items()}
    if provider in (SAFE, EOPF):
        prefix = provider.upper()
        return {band: f"{prefix}_{code}" for band, (code, *_) in safe_item.BANDS.items()}
    column = PROVIDERS.index(provider)
    return {band: keys[column] for band, keys in _ASSET_KEYS.items() if keys[column]}


def locate_bands(scene_id: str, assets: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Location]]:
    """Provider whose layout the assets follow, and location of each band, in storage order.

    Args:
        scene_id: for messages.
        assets: `assets` of a STAC item.

    Raises:
        SceneError: if no layout or more than one fits, or one of the four bands that every scene has is missing.
    """
    possible = [p for p in PROVIDERS if (p == MOSAIC) == (OBSERVATIONS in assets)]
    fitting = [p for p in possible if any(asset_keys(p)[band] in assets for band in VISIBLE_NIR)]
    if len(fitting) > 1 and ORIGINALS in fitting:
        fitting.remove(ORIGINALS)  # the others are the provider's own files
    if len(fitting) > 1:
        raise SceneError(f"scene {scene_id} fits several layouts ({', '.join(fitting)}); its assets: {_listed(assets)}")
    if fitting:
        source = fitting[0]
        expected = asset_keys(source)
        locations = {band: Location(key) for band, key in expected.items() if key in assets}
    else:
        source = COMMON_NAMES
        expected = {band: f"common name {band}" for band in OPTICAL}
        locations = _by_common_name(scene_id, assets)
        if not locations:
            known = "; ".join(f"{p}: {', '.join(asset_keys(p)[b] for b in VISIBLE_NIR)}" for p in PROVIDERS)
            raise SceneError(
                f"scene {scene_id} has an unknown layout. Expected the assets of one of {known}; or bands with "
                f"common names {', '.join(VISIBLE_NIR)}. Its assets: {_listed(assets)}"
            )
    missing = [f"{band} ({expected[band]})" for band in VISIBLE_NIR if band not in locations]
    if missing:
        raise SceneError(
            f"scene {scene_id}, layout {source}: band {', '.join(missing)} is missing; its assets: {_listed(assets)}"
        )
    return source, {band: locations[band] for band in (*OPTICAL, SCL, OBSERVATIONS) if band in locations}


def _by_common_name(scene_id: str, assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Location]:
    locations: dict[str, Location] = {}
    for key, asset in assets.items():
        if _PICTURES & set(asset.get("roles") or ()):
            continue
        named = [(SCL, Location(key))] if _SCL_KEY.fullmatch(key) else _named_bands(key, asset)
        for band, location in named:
            if band in locations:
                raise SceneError(
                    f"scene {scene_id}: assets {locations[band].asset} and {key} both claim to be band {band}"
                )
            locations[band] = location
    return locations


def _named_bands(key: str, asset: Mapping[str, Any]) -> Iterator[tuple[str, Location]]:
    for index, description in enumerate(asset.get("bands") or asset.get("eo:bands") or (), start=1):
        name = description.get("eo:common_name") or description.get("common_name")
        if name in OPTICAL:
            yield name, Location(key, index)


def _listed(assets: Mapping[str, Any]) -> str:
    return ", ".join(assets) or "none"


def _checked_id(scene_id: object) -> str:
    if not isinstance(scene_id, str) or not _ID.fullmatch(scene_id):
        raise SceneError(
            f"scene id {scene_id!r} cannot name a partition and a folder: up to 200 letters, digits, '_', '-' and '.' "
            "are expected, such as S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_20230615T145678"
        )
    return scene_id


def _one_crs(scene_id: str, properties: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]) -> int:
    codes: dict[str, list[str]] = {}
    for key, asset in assets.items():
        codes.setdefault(declared_crs(asset) or declared_crs(properties) or "none", []).append(key)
    if len(codes) > 1:
        listed = "; ".join(f"{code}: {', '.join(keys)}" for code, keys in codes.items())
        raise SceneError(f"scene {scene_id}: its assets have several CRSs ({listed}); one UTM zone was expected")
    (code,) = codes
    utm = _UTM.fullmatch(code)
    if utm is None:
        raise SceneError(f"scene {scene_id}: its CRS is {code}; a UTM zone was expected (EPSG:326xx or EPSG:327xx)")
    return int(utm[1])


def _check_level(scene_id: str, item: Mapping[str, Any]) -> None:
    """Raise SceneError if anything in an item marks it as Level-1C, whose values are at the top of the atmosphere."""
    properties = item["properties"]
    fields = {key: properties.get(key) for key in ("s2:product_uri", "s2:product_type", "product:type")}
    fields |= {"processing:level": properties.get("processing:level"), "collection": item.get("collection")}
    for name, value in {"id": scene_id, **fields}.items():
        if _LEVEL_1.search(str(value)):
            raise SceneError(
                f"scene {scene_id} is Level-1C ({name} {value}): reflectance at the surface, Level-2A, was expected"
            )


def _offset(source: str, location: Location, item: Mapping[str, Any]) -> Offset:
    asset = item["assets"][location.asset]
    given = declared(asset, location.index, "offset")
    if source == MOSAIC:
        # Reflectance is DN / 10000; the offsets of the scenes were applied, so that numbers may be negative:
        # https://documentation.dataspace.copernicus.eu/Data/SentinelMissions/Sentinel2.html
        return Offset(given or 0.0, "the layout of quarterly mosaics")
    if source == SAFE and given is not None:
        baseline = processing_baseline(item)
        differs = baseline is not None and baseline_offset(baseline) != given
        contradicted = f"processing baseline {baseline} ({baseline_offset(str(baseline)):g})" if differs else ""
        return Offset(given, "BOA_ADD_OFFSET of the product", contradicted)
    path, media_type = str(asset.get("href")).partition("?")[0].lower(), str(asset.get("type")).lower()
    is_original = source in (ORIGINALS, EOPF) or path.endswith(".jp2") or "jp2" in media_type
    return decide_offset(item, given, is_original=is_original, is_sentinel2=source != COMMON_NAMES)


def _by_band(texts: Mapping[str, str]) -> str | None:
    """The text of all bands, or each text with its bands; None if all are empty."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values())) or None
    distinct = filter(None, dict.fromkeys(texts.values()))
    return "; ".join(f"{', '.join(name for name in texts if texts[name] == text)}: {text}" for text in distinct)


def _band(
    source: str, name: str, location: Location, item: Mapping[str, Any], offset: Offset | None, epsg: int
) -> SceneBand:
    asset, properties = item["assets"][location.asset], item["properties"]
    href = asset.get("href")
    if not isinstance(href, str):
        raise SceneError("it has no href")
    of_mosaic = source == MOSAIC and name in OPTICAL
    dtype, nodata = ("int16", -32768) if of_mosaic else ("uint8" if name == SCL else "uint16", 0)
    if (given := declared(asset, location.index, "nodata")) not in (None, nodata):
        raise SceneError(f"its nodata value is {given:g}; {nodata} was expected")
    scale = 1.0
    if offset is not None:
        stated = declared(asset, location.index, "scale")
        if stated is None and source == COMMON_NAMES and processing_baseline(item) is None:
            raise SceneError("reflectance needs raster:scale and raster:offset, or a processing baseline")
        scale = SENTINEL2_SCALE if stated is None else stated
        if not scale > 0:
            raise SceneError(f"its scale is {scale:g}, a positive number was expected")
    size, checksum = asset.get("file:size"), asset.get("file:checksum")
    return SceneBand(
        name=name,
        asset=location.asset,
        href=href,
        index=location.index,
        dtype=dtype,
        scale=scale,
        offset=0.0 if offset is None else offset.value,
        nodata=nodata,
        grid=_declared_grid(asset, properties, epsg),
        size=None if size is None else int(size),
        checksum=None if checksum is None else str(checksum),
    )


def _declared_grid(asset: Mapping[str, Any], properties: Mapping[str, Any], epsg: int) -> GeoBox | None:
    # The item's grid applies only to assets without one: bands differ in resolution.
    holder = asset if "proj:shape" in asset or "proj:transform" in asset else properties
    size, transform = holder.get("proj:shape"), holder.get("proj:transform")
    if not size or not transform:
        return None
    try:
        height, width = (int(n) for n in size)
        return GeoBox((height, width), Affine(*(float(t) for t in transform[:6])), f"EPSG:{epsg}")
    except (TypeError, ValueError) as error:
        raise SceneError(f"its proj:shape {size} and proj:transform {transform} are not a grid") from error


def _sensing_time(scene_id: str, properties: Mapping[str, Any]) -> dt.datetime:
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        return str_to_datetime(str(text)).astimezone(dt.UTC)
    except ValueError as error:
        raise SceneError(f"scene {scene_id}: its datetime is {text!r}; a time in ISO 8601 was expected") from error


def _number(properties: Mapping[str, Any], *keys: str, default: float | None = None) -> float | None:
    """The first finite number; NaN, which services write for unknown values, is none."""
    for key in keys:
        value = properties.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return default


def _tile(scene_id: str, properties: Mapping[str, Any]) -> str | None:
    codes = (_TILE.fullmatch(str(properties.get(key, ""))) for key in ("grid:code", "s2:mgrs_tile"))
    tile = next((code for code in codes if code), None) or _TILE_IN_NAME.search(scene_id)
    return f"{int(tile[1]):02d}{tile[2]}" if tile else None


def _footprint(geometry: object) -> dict[str, Any] | None:
    """The geometry, or None if it is invalid or torn across the antimeridian."""
    if not isinstance(geometry, dict):
        return None
    try:
        footprint = shape(geometry)
    except (shapely.errors.ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    if footprint.is_empty or not footprint.is_valid:
        return None
    # A polygon that crosses the antimeridian uncut spans the globe the other way round.
    torn = any(part.bounds[2] - part.bounds[0] > 180 for part in shapely.get_parts(footprint))
    return None if torn else geometry
