"""Items of EOPF products: those of ESA's sample service in one layout, and those made from a store.

The service describes a store in two ways (https://github.com/EOPF-Sample-Service/eopf-stac): with an asset for each
band (`B02_10m`, ..., `SCL_20m`, whose hrefs are arrays), and with the assets `reflectance` and `scl` for groups of all
resolutions. Here each band has the asset `EOPF_B02`, ... with the href of its array:

    X.zarr                                            attributes `stac_discovery`, `other_metadata`
      measurements/reflectance/r10m/b02               uint16, with `scale_factor` and `add_offset`
      conditions/mask/l2a_classification/r20m/scl     uint8
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from darts_assets.bands import SCL
from darts_assets.errors import RasterError, SceneError
from darts_assets.remote.byte_reader import is_remote, local_path, shown
from darts_assets.remote.s3_auth import S3Options
from darts_assets.sources.eopf.zarr_arrays import SUFFIX, ZarrStore, split_array
from darts_assets.sources.sentinel2.safe_item import BANDS

LAYOUT = "eopf"

_SUN = "mean_sun_{}_angle_in_deg_for_all_bands_all_detectors"
_SKIPPED = ("proj:bbox", "proj:wkt2", "proj:shape", "proj:transform", "processing:lineage")


def asset_key(band: str) -> str:
    """Key of a band's asset in an item."""
    return f"EOPF_{BANDS[band][0]}"


def array_path(band: str) -> str:
    """Path of a band's array in a store."""
    name, resolutions, _ = BANDS[band]
    group = "conditions/mask/l2a_classification" if band == SCL else "measurements/reflectance"
    return f"{group}/r{resolutions[0]}m/{name.lower()}"


def is_store(href: str) -> bool:
    """Whether a location is a Zarr store, by its name."""
    return href.rstrip("/").endswith(SUFFIX)


def is_eopf(item: Mapping[str, Any]) -> bool:
    """Whether an item describes an EOPF product, in the layouts of the service."""
    assets = item.get("assets")
    if not isinstance(assets, Mapping) or any(asset_key(band) in assets for band in BANDS):
        return False
    keys = ("B02_10m", "reflectance")
    hrefs = [assets[key].get("href") for key in keys if isinstance(assets.get(key), Mapping)]
    return any(split_array(str(href)) for href in hrefs)


def in_our_layout(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the service with an asset for each band, whose href is an array.

    Items with the asset `reflectance` have the zenith angle of the sun as `view:sun_elevation`
    (template `S02MSIL2A.json.j2` of the service); it is corrected.
    """
    assets, properties = item["assets"], copy.deepcopy(dict(item["properties"]))
    ours: dict[str, Any] = {}
    if isinstance(assets.get("reflectance"), Mapping):
        root = split_array(str(assets["reflectance"]["href"]))
        zenith = properties.get("view:sun_elevation")
        if isinstance(zenith, int | float) and not isinstance(zenith, bool):
            properties["view:sun_elevation"] = 90 - zenith
        fields = {
            key: assets["reflectance"][key] for key in ("raster:scale", "proj:code") if key in assets["reflectance"]
        }
        for band in BANDS:
            if root is not None and (band != SCL or SCL.removeprefix("s2_") in assets):
                own = fields if band != SCL else {}
                ours[asset_key(band)] = {"href": f"{root[0]}/{array_path(band)}", "nodata": 0, **own}
    else:
        for band, (name, resolutions, _) in BANDS.items():
            asset = assets.get(f"{name}_{resolutions[0]}m")
            if isinstance(asset, Mapping) and split_array(str(asset.get("href"))):
                ours[asset_key(band)] = dict(asset)
    kept = {key: value for key, value in properties.items() if key not in _SKIPPED}
    return {**item, "properties": kept, "assets": ours}


def read_store_item(href: str, s3: S3Options) -> dict[str, Any]:
    """The item of a store on a disk, on a web server or on S3.

    Raises:
        SceneError: if it is not the store of a Sentinel-2 product.
        RasterError: if an array is not of the expected kind.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    href = href.rstrip("/") if is_remote(href) else str(local_path(href.rstrip("/")).expanduser().absolute())
    store, name = ZarrStore(href, s3), shown(href)
    attributes = store.attributes()
    discovery, other = attributes.get("stac_discovery"), attributes.get("other_metadata")
    if not isinstance(discovery, Mapping) or not isinstance(discovery.get("properties"), Mapping):
        raise SceneError(f"{name} has no attribute 'stac_discovery'; the store of an EOPF product was expected")
    properties = {key: value for key, value in discovery["properties"].items() if key not in _SKIPPED}
    other = other if isinstance(other, Mapping) else {}
    code = properties.get("proj:code") or (f"EPSG:{epsg}" if (epsg := properties.get("proj:epsg")) else None)
    properties["proj:code"] = code or other.get("horizontal_CRS_code")
    zenith, azimuth = other.get(_SUN.format("zenith")), other.get(_SUN.format("azimuth"))
    properties["view:sun_elevation"] = 90 - zenith if _is_number(zenith) else None
    properties["view:sun_azimuth"] = azimuth if _is_number(azimuth) else None
    assets: dict[str, Any] = {}
    for band in BANDS:
        path = array_path(band)
        try:
            array = store.array(path, f"{name}, band {band}, array {path}")
        except RasterError as error:
            if "there is no such array" in str(error):
                continue
            raise
        asset: dict[str, Any] = {"href": f"{href}/{path}", "nodata": 0}
        if band != SCL:
            given = {"raster:scale": array.attrs.get("scale_factor"), "raster:offset": array.attrs.get("add_offset")}
            asset |= {key: value for key, value in given.items() if value is not None}
        assets[asset_key(band)] = asset
    if asset_key(SCL) not in assets:
        raise SceneError(f"{name}: the scene classification is missing, {array_path(SCL)} was expected")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": href.rpartition("/")[2].removesuffix(SUFFIX),
        "geometry": discovery.get("geometry"),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": assets,
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
