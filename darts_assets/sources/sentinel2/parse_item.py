"""What a STAC item says about a scene, as a `Scene`: pure, nothing is read but the item."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.utils import str_to_datetime
from shapely.geometry import shape

from darts_assets.errors import SceneError
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.sentinel2.asset_layouts import (
    MOSAIC,
    OBSERVATIONS,
    SCL,
    Location,
    digital_numbers,
    locate_bands,
)
from darts_assets.sources.sentinel2.radiometry import (
    declared,
    mosaic_scale_and_offset,
    processing_baseline,
    scale_and_offset,
)

_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TILE = re.compile(r"(?:MGRS-)?(\d{1,2})([C-HJ-NP-X][A-Z]{2})")
_TILE_IN_NAME = re.compile(r"_T?(\d{2})([C-HJ-NP-X][A-Z]{2})_")
_UTM = re.compile(r"EPSG:(32[67](?:0[1-9]|[1-5]\d|60))")


def parse_item(item: Mapping[str, Any]) -> Scene:
    """The scene that a STAC item describes.

    Args:
        item: a STAC item (1.0 or 1.1) with asset hrefs that can be opened, as `read_item` gives it.

    Raises:
        SceneError: if the item lacks what a scene needs, or contradicts itself; the text names scene and band.
    """
    scene_id = _checked_id(item.get("id"))
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise SceneError(f"scene {scene_id} is not a STAC item: objects 'properties' and 'assets' were expected")
    source, locations = locate_bands(scene_id, assets)
    # A mosaic is made of scenes of many baselines.
    baseline = None if source == MOSAIC else processing_baseline({"id": scene_id, "properties": properties})
    epsg = _one_crs(scene_id, properties, {loc.asset: assets[loc.asset] for loc in locations.values()})
    bands = {}
    for name, location in locations.items():
        try:
            bands[name] = _band(source, name, location, assets[location.asset], properties, baseline, epsg)
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
        geometry=_footprint(item.get("geometry")),
        item=dict(item),
    )


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
        codes.setdefault(_crs_code(asset) or _crs_code(properties) or "none", []).append(key)
    if len(codes) > 1:
        listed = "; ".join(f"{code}: {', '.join(keys)}" for code, keys in codes.items())
        raise SceneError(f"scene {scene_id}: its assets have several CRSs ({listed}); one UTM zone was expected")
    (code,) = codes
    utm = _UTM.fullmatch(code)
    if utm is None:
        raise SceneError(f"scene {scene_id}: its CRS is {code}; a UTM zone was expected (EPSG:326xx or EPSG:327xx)")
    return int(utm[1])


def _crs_code(holder: Mapping[str, Any]) -> str | None:
    if holder.get("proj:code"):
        return str(holder["proj:code"]).upper()
    return f"EPSG:{holder['proj:epsg']}" if holder.get("proj:epsg") else None


def _band(
    source: str,
    name: str,
    location: Location,
    asset: Mapping[str, Any],
    properties: Mapping[str, Any],
    baseline: str | None,
    epsg: int,
) -> SceneBand:
    href = asset.get("href")
    if not isinstance(href, str):
        raise SceneError("it has no href")
    numbers = digital_numbers(source, name)
    nodata = numbers.nodata
    if (given := declared(asset, location.index, "nodata")) not in (None, nodata):
        raise SceneError(f"its nodata value is {given:g}; {nodata} was expected")
    size = asset.get("file:size")
    checksum = asset.get("file:checksum")
    if name in (SCL, OBSERVATIONS):
        scale, offset = 1.0, 0.0
    elif source == MOSAIC:
        scale, offset = mosaic_scale_and_offset(asset, location.index)
    else:
        scale, offset = scale_and_offset(asset, location.index, properties, baseline)
    return SceneBand(
        name=name,
        asset=location.asset,
        href=href,
        index=location.index,
        scale=scale,
        offset=offset,
        nodata=nodata,
        dtype=numbers.dtype,
        grid=_promised_grid(asset, properties, epsg),
        size=None if size is None else int(size),
        checksum=None if checksum is None else str(checksum),
    )


def _promised_grid(asset: Mapping[str, Any], properties: Mapping[str, Any], epsg: int) -> GeoBox | None:
    # An item-level grid is the assets' only where they have none of their own: bands differ in resolution.
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
    for key in keys:
        if isinstance(properties.get(key), int | float):
            return float(properties[key])
    return default


def _tile(scene_id: str, properties: Mapping[str, Any]) -> str | None:
    codes = (_TILE.fullmatch(str(properties.get(key, ""))) for key in ("grid:code", "s2:mgrs_tile"))
    found = next((code for code in codes if code), None) or _TILE_IN_NAME.search(scene_id)
    return f"{int(found[1]):02d}{found[2]}" if found else None


def _footprint(geometry: object) -> dict[str, Any] | None:
    """The geometry if it is one, valid, and not torn across the antimeridian; None otherwise."""
    if not isinstance(geometry, dict):
        return None
    try:
        footprint = shape(geometry)
    except (shapely.errors.ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    if footprint.is_empty or not footprint.is_valid:
        return None
    # A polygon that crosses the antimeridian uncut seems to span the globe the other way round.
    torn = any(part.bounds[2] - part.bounds[0] > 180 for part in shapely.get_parts(footprint))
    return None if torn else geometry
