"""Sentinel-2 images of Earth Engine as STAC items: the properties to request, and the item made of the answer."""

import datetime as dt
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import shapely
from pyproj import CRS
from pystac.utils import datetime_to_str

from darts_assets.bands import SCL
from darts_assets.earth_engine import EarthEngineError
from darts_assets.geo.antimeridian import footprint, lonlat_area
from darts_assets.sources.sentinel2.offset_evidence import SENTINEL2_SCALE, baseline_offset, processing_baseline

HARMONIZED = "COPERNICUS/S2_SR_HARMONIZED"
"""Digital numbers without ESA's offset of 1000, in all years."""

ORIGINAL = "COPERNICUS/S2_SR"
"""Digital numbers as published by ESA."""

SCHEME = "ee://"
"""Prefix of the hrefs of assets, before the image's id in Earth Engine."""

BANDS: Mapping[str, str] = MappingProxyType({
    "blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "coastal": "B1", "rededge071": "B5", "rededge075": "B6",
    "rededge078": "B7", "nir08": "B8A", "nir09": "B9", "swir16": "B11", "swir22": "B12", SCL: "SCL",
})  # fmt: skip
"""Canonical name -> Earth Engine's name and asset key."""

_PROPERTIES = {
    "eo:cloud_cover": "CLOUDY_PIXEL_PERCENTAGE",
    "eo:snow_cover": "SNOW_ICE_PERCENTAGE",
    "view:sun_azimuth": "MEAN_SOLAR_AZIMUTH_ANGLE",
    "processing:version": "PROCESSING_BASELINE",
    "s2:product_uri": "PRODUCT_ID",
    "s2:datastrip_id": "DATASTRIP_ID",
}
_TILE = "MGRS_TILE"
_ZENITH = "MEAN_SOLAR_ZENITH_ANGLE"
_EXTENSIONS = (
    "eo/v2.0.0", "grid/v1.1.0", "processing/v1.2.0", "projection/v2.0.0", "raster/v2.0.0", "view/v1.0.0",
)  # fmt: skip
_STAC_COLLECTION = "https://storage.googleapis.com/earthengine-stac/catalog/COPERNICUS/{}.json"
_GLOBE = shapely.box(-180, -90, 180, 90)
_OFFSET_SINCE = dt.datetime(2022, 1, 25, tzinfo=dt.UTC)


def described(ee: Any, image: Any) -> Any:
    """An `ee.Feature` with the properties of an `ee.Image` that `item_of` needs, for `ImageCollection.map`."""
    # The description that `getInfo` returns, of one band, as text, so that it fits into a table.
    bands = ee.Dictionary(ee.ApiFunction.call_("Describe", image.select(BANDS["blue"]))).get("bands")
    computed = {
        "index": image.get("system:index"),
        "time": image.get("system:time_start"),
        "grid": ee.String.encodeJSON(ee.List(bands).get(0)),
    }
    return ee.Feature(image.geometry()).copyProperties(image, [*_PROPERTIES.values(), _TILE, _ZENITH]).set(computed)


def item_of(collection: str, feature: Mapping[str, Any]) -> dict[str, Any]:
    """The STAC item of an image.

    Args:
        collection: id of the image's collection.
        feature: GeoJSON of the feature made by `described`.

    Returns:
        An item whose id is the image's index, with an asset for each band, all on the image's 10 m grid.

    Raises:
        EarthEngineError: if the feature lacks index, time or grid.
    """
    facts = feature["properties"]
    try:
        index, grid = facts["index"], json.loads(facts["grid"])
        time = dt.datetime.fromtimestamp(float(facts["time"]) / 1000, dt.UTC)
        rows_and_columns = [int(n) for n in reversed(grid["dimensions"])]
        projection = {"proj:code": grid["crs"], "proj:shape": rows_and_columns, "proj:transform": grid["crs_transform"]}
    except (KeyError, TypeError, ValueError) as error:
        raise EarthEngineError(f"Earth Engine's answer for an image of {collection} lacks {error}: {facts}") from error
    properties = {
        "datetime": datetime_to_str(time),
        **{name: facts[key] for name, key in _PROPERTIES.items() if facts.get(key) is not None},
        **projection,
    }
    if facts.get(_TILE):
        properties["grid:code"] = f"MGRS-{facts[_TILE]}"
    if facts.get(_ZENITH) is not None:
        properties["view:sun_elevation"] = 90 - facts[_ZENITH]
    offset = _offset(collection, time, processing_baseline({"id": index, "properties": properties}))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in _EXTENSIONS],
        "id": index,
        "collection": collection,
        **_outline(feature.get("geometry")),
        "properties": properties,
        "links": [{"rel": "collection", "href": _STAC_COLLECTION.format(collection.replace("/", "_"))}],
        "assets": {key: _asset(f"{SCHEME}{collection}/{index}", name, offset) for name, key in BANDS.items()},
    }


def _asset(href: str, name: str, offset: float) -> dict[str, Any]:
    if name == SCL:
        band: dict[str, Any] = {"name": BANDS[name], "data_type": "uint8", "nodata": 0}
    else:
        band = {
            "name": BANDS[name], "eo:common_name": name, "data_type": "uint16", "nodata": 0,
            "raster:scale": SENTINEL2_SCALE, "raster:offset": offset,
        }  # fmt: skip
    return {"href": href, "roles": ["data"], "bands": [band]}


def _offset(collection: str, time: dt.datetime, baseline: str | None) -> float:
    """Reflectance of digital number 0.

    The processing baseline decides if it is known: acquisitions from before 2022 were reprocessed with the offset.
    """
    if collection == HARMONIZED:
        return 0.0
    if baseline is None:
        return -0.1 if time >= _OFFSET_SINCE else 0.0
    return baseline_offset(baseline)


def _outline(geometry: Mapping[str, Any] | None) -> dict[str, Any]:
    """`geometry` and `bbox` of an item; footprints of Earth Engine may be rings and may exceed 180 degrees."""
    if geometry and geometry.get("type") == "LinearRing":
        geometry = {"type": "Polygon", "coordinates": [geometry["coordinates"]]}
    outline = footprint(geometry)
    if outline is not None and not _GLOBE.contains(outline):
        outline = lonlat_area(outline, CRS.from_epsg(4326))
    if outline is None or outline.is_empty:
        return {"geometry": None}
    west, south, east, north = outline.bounds
    if east - west > 180:  # at the antimeridian, a GeoJSON box begins in the east
        parts = shapely.get_parts(outline)
        west = min(part.bounds[0] for part in parts if part.bounds[0] >= 0)
        east = max(part.bounds[2] for part in parts if part.bounds[0] < 0)
    return {"geometry": json.loads(shapely.to_geojson(outline)), "bbox": [west, south, east, north]}
