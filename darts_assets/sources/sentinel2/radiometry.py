"""Reflectance of digital numbers: `reflectance = DN * scale + offset`, from the item or from the processing baseline.

From processing baseline 04.00 on (25 January 2022) ESA adds 1000 to Sentinel-2's digital numbers, so that reflectance
may be negative: the offset is -0.1, and 0 before (https://sentiwiki.copernicus.eu/web/s2-products).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from darts_assets.errors import SceneError

SENTINEL2_SCALE = 1e-4
_OFFSET_SINCE = "04.00"
_IN_PRODUCT_NAME = re.compile(r"_N(\d{2})(\d{2})_")


def processing_baseline(item: Mapping[str, Any]) -> str | None:
    """The processing baseline such as `05.10` of a Sentinel-2 item, None where it does not tell."""
    properties = item["properties"]
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        version = str(properties.get(key, ""))
        if re.fullmatch(r"\d{2}\.\d{2}", version):
            return version
    for name in (item["id"], properties.get("s2:product_uri", ""), properties.get("sentinel:product_id", "")):
        if found := _IN_PRODUCT_NAME.search(name):
            return f"{found[1]}.{found[2]}"
    return None


def scale_and_offset(
    asset: Mapping[str, Any], index: int, properties: Mapping[str, Any], baseline: str | None
) -> tuple[float, float]:
    """Scale and offset of one band of an asset.

    Args:
        asset: a STAC asset.
        index: 1-based band of its file.
        properties: properties of its item.
        baseline: processing baseline of the item, None where unknown.

    Raises:
        SceneError: if neither item nor baseline tells, or the item's numbers make no sense.
    """
    scale, offset = declared(asset, index, "scale"), declared(asset, index, "offset")
    if scale is None and baseline is None:
        raise SceneError("neither raster:scale and raster:offset nor a processing baseline tells its reflectance")
    scale = _positive(SENTINEL2_SCALE if scale is None else scale)
    if offset is None:
        offset = -0.1 if baseline is not None and baseline >= _OFFSET_SINCE else 0.0
    if _offset_was_applied(properties):
        offset = 0.0
    return scale, offset


def mosaic_scale_and_offset(asset: Mapping[str, Any], index: int) -> tuple[float, float]:
    """Scale and offset of one band of a quarterly mosaic, whose items and files are silent about them.

    Reflectance is DN / 10000: the offsets of the scenes were applied, so that numbers may be negative
    (https://documentation.dataspace.copernicus.eu/Data/SentinelMissions/Sentinel2.html).

    Raises:
        SceneError: if the item gives other ones that make no sense.
    """
    scale, offset = declared(asset, index, "scale"), declared(asset, index, "offset")
    return _positive(SENTINEL2_SCALE if scale is None else scale), 0.0 if offset is None else offset


def _positive(scale: float) -> float:
    if not scale > 0:
        raise SceneError(f"its scale is {scale}, a positive number was expected")
    return scale


def _offset_was_applied(properties: Mapping[str, Any]) -> bool:
    # Earth Search subtracts the 1000 when it makes its COGs, says so in this property, and lists the offset of the
    # original files, -0.1, all the same: the property is the truth (Element84/earth-search issue 9).
    return any(properties.get(f"{prefix}:boa_offset_applied") is True for prefix in ("earthsearch", "sentinel"))


def declared(asset: Mapping[str, Any], index: int, what: str) -> float | None:
    """A number (`scale`, `offset`, `nodata`) of one band of an asset, None where the item does not give it.

    Raises:
        SceneError: if what it gives is not a finite number.
    """
    places: list[Mapping[str, Any]] = [asset]
    for key in ("raster:bands", "bands"):
        described = asset.get(key) or ()
        if len(described) >= index:
            places.append(described[index - 1])
    for place in places:
        value = place.get(f"raster:{what}", place.get(what))
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise SceneError(f"its {what} is {value!r}, a number was expected")
            return float(value)
    return None
