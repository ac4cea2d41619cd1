"""Digital numbers to reflectance and quality: coefficients from the STAC item, and their application.

Reflectance is `DN * scale + offset`. ESA adds 1000 to Sentinel-2's digital numbers since processing baseline 04.00
(25 January 2022), so that reflectance may be negative: the offset is -0.1 from then on, and 0 before
(https://sentiwiki.copernicus.eu/web/s2-products).
"""

import functools
import logging
import math
import operator
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from darts_assets.bands import MASKS, OPTICAL, SCL
from darts_assets.bands import band as codec
from darts_assets.errors import SceneError, SettingsError

logger = logging.getLogger(__name__)

SENTINEL2_SCALE = 1e-4
QUALITY = "quality_data_mask"

S2_QUALITY: Mapping[int, int] = MappingProxyType(
    {0: 0, 1: 0, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1, 9: 1, 10: 2, 11: 1}
)
"""Quality (0 invalid, 1 low, 2 high) of each class of Sentinel-2's scene classification.

Invalid: no data, saturated. Low: cloud shadow, cloud of medium or high probability, snow. Thin cirrus (10), water (6)
and dark areas (2) count as high, which is debatable; users can change the table.
"""

_BASELINE_IN_PRODUCT_NAME = re.compile(r"_N(\d{2})(\d{2})_")


def processing_baseline(item: Mapping[str, Any]) -> str | None:
    """Processing baseline of a Sentinel-2 item, such as `05.10`; None if the item does not contain it."""
    properties = item["properties"]
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        version = str(properties.get(key, ""))
        if re.fullmatch(r"\d{2}\.\d{2}", version):
            return version
    for name in (item["id"], properties.get("s2:product_uri", ""), properties.get("sentinel:product_id", "")):
        if match := _BASELINE_IN_PRODUCT_NAME.search(name):
            return f"{match[1]}.{match[2]}"
    return None


def baseline_offset(baseline: str) -> float:
    """Reflectance of digital number 0 in products of a processing baseline."""
    return -0.1 if baseline >= "04.00" else 0.0


def scale_and_offset(
    asset: Mapping[str, Any], index: int, properties: Mapping[str, Any], default_offset: float | None
) -> tuple[float, float]:
    """Scale and offset of one band of a STAC asset; the item's own values have precedence over the defaults.

    Args:
        asset: a STAC asset.
        index: 1-based band of its file.
        properties: properties of its item.
        default_offset: offset where the item has none; None if the processing baseline is unknown.

    Raises:
        SceneError: if neither the item nor the baseline determines them, or a value of the item is invalid.
    """
    scale, offset = declared(asset, index, "scale"), declared(asset, index, "offset")
    if scale is None:
        if default_offset is None:
            raise SceneError("reflectance needs raster:scale and raster:offset, or a processing baseline")
        scale = SENTINEL2_SCALE
    if not scale > 0:
        raise SceneError(f"its scale is {scale}, a positive number was expected")
    # Earth Search subtracts the 1000 when it makes its COGs and sets this property, but keeps the offset of the
    # original files, -0.1: the property is right (Element84/earth-search issue 9).
    if any(properties.get(f"{prefix}:boa_offset_applied") is True for prefix in ("earthsearch", "sentinel")):
        return scale, 0.0
    return scale, (default_offset or 0.0) if offset is None else offset


def declared(asset: Mapping[str, Any], index: int, field: str) -> float | None:
    """`scale`, `offset` or `nodata` of one band of an asset, None if the item does not declare it.

    Fields of the asset have precedence over `raster:bands`, and those over `bands`.

    Raises:
        SceneError: if the value is not a finite number.
    """
    holders: list[Mapping[str, Any]] = [asset]
    for key in ("raster:bands", "bands"):
        bands = asset.get(key) or ()
        if len(bands) >= index:
            holders.append(bands[index - 1])
    for holder in holders:
        value = holder.get(f"raster:{field}", holder.get(field))
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise SceneError(f"its {field} is {value!r}, a number was expected")
            return float(value)
    return None


def calibrate(raw: xr.Dataset, quality: Mapping[int, int] = S2_QUALITY) -> xr.Dataset:
    """Reflectance and quality from digital numbers; lazy input gives lazy output.

    A pixel is invalid, NaN in every optical band, if its scene classification is 0 or any optical band of the dataset
    has no data.

    Args:
        raw: result of `open_raw`, or the same from a store opened with `mask_and_scale=False`: uint16 bands (y, x) with
            the attributes `scale_factor`, `add_offset` and `_FillValue`, and `s2_scl` (uint8) if there is one.
        quality: class of the scene classification -> quality; other classes are invalid.

    Returns:
        Dataset (y, x): the optical bands as float32 reflectance, `quality_data_mask` as uint8, and `s2_scl` unchanged.
        Without `s2_scl` every pixel with data is of high quality, and the attribute `scl` is "absent".

    Raises:
        ValueError: if optical bands or their attributes are missing, or a quality is not 0, 1 or 2.
    """
    if not set(quality.values()) <= {0, 1, 2}:
        raise ValueError(f"quality must be 0, 1 or 2, not {sorted(set(quality.values()))}")
    has_data = data_mask(raw)
    if SCL in raw:
        mask = xr.where(has_data, graded(raw[SCL], quality), np.uint8(0))
        return calibrated(raw, has_data & (raw[SCL] != 0), mask)
    logger.warning(
        "scene %s has no scene classification: every pixel with data counts as high quality, clouds too",
        raw.attrs.get("scene_id", "(unnamed)"),
    )
    return calibrated(raw, has_data, has_data.astype(np.uint8) * np.uint8(2)).assign_attrs(scl="absent")


def quality_table(defaults: Mapping[int, int], changes: Mapping[int, int]) -> dict[int, int]:
    """A table class -> quality with some entries changed.

    Raises:
        SettingsError: if `changes` has a class that `defaults` lacks, or a quality other than 0, 1 or 2.
    """
    wrong = {key: value for key, value in changes.items() if key not in defaults or value not in (0, 1, 2)}
    if wrong:
        classes = ", ".join(map(str, defaults))
        raise SettingsError(f"quality {wrong}: expected classes of {classes}, and a quality of 0, 1 or 2 for each")
    return {**defaults, **changes}


def data_mask(raw: xr.Dataset) -> xr.DataArray:
    """True where every optical band of a dataset of digital numbers has data; raises ValueError as `calibrate`."""
    has_data = [raw[name] != _attribute(raw[name], "_FillValue") for name in _optical(raw)]
    return functools.reduce(operator.and_, has_data)


def calibrated(raw: xr.Dataset, valid: xr.DataArray, quality: xr.DataArray) -> xr.Dataset:
    """Reflectance (float32, NaN where not valid), `quality` as `quality_data_mask`, and the masks of `raw`."""
    bands = {name: _reflectance(raw[name], valid) for name in _optical(raw)}
    grid_mapping = _georeference(next(iter(bands.values())))
    bands[QUALITY] = quality.assign_attrs(long_name=codec(QUALITY).long_name, **grid_mapping)
    masks = {name: raw[name] for name in MASKS if name in raw}
    return xr.Dataset({**bands, **masks}, attrs=dict(raw.attrs))


def graded(classification: xr.DataArray, quality: Mapping[int, int]) -> xr.DataArray:
    """Quality (uint8) of the class (uint8) of each pixel; classes missing in `quality` are invalid."""
    table = np.zeros(256, np.uint8)
    table[list(quality)] = list(quality.values())
    return xr.apply_ufunc(table.__getitem__, classification, dask="parallelized", output_dtypes=[np.uint8])


def _optical(raw: xr.Dataset) -> list[str]:
    if optical := [name for name in OPTICAL if name in raw]:
        return optical
    raise ValueError(f"no optical band in {', '.join(map(str, raw.data_vars))}")


def _reflectance(numbers: xr.DataArray, valid: xr.DataArray) -> xr.DataArray:
    scale, offset = (np.float32(_attribute(numbers, key)) for key in ("scale_factor", "add_offset"))
    reflectance = (numbers.astype(np.float32) * scale + offset).where(valid)
    attributes = {"long_name": codec(str(numbers.name)).long_name, "units": codec(str(numbers.name)).units}
    reflectance.attrs = attributes | _georeference(numbers)
    return reflectance


def _attribute(numbers: xr.DataArray, key: str) -> float:
    if key not in numbers.attrs:
        raise ValueError(f"band {numbers.name} has no {key}; open its store with mask_and_scale=False")
    return float(numbers.attrs[key])


def _georeference(numbers: xr.DataArray) -> dict[str, str]:
    return {key: numbers.attrs[key] for key in ("grid_mapping",) if key in numbers.attrs}
