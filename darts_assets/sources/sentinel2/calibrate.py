"""Digital numbers to reflectance and quality."""

import functools
import logging
import operator
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import xarray as xr

from darts_assets.bands import OPTICAL
from darts_assets.bands import band as codec
from darts_assets.sources.sentinel2.asset_layouts import MASKS, SCL

logger = logging.getLogger(__name__)

QUALITY = "quality_data_mask"

S2_QUALITY: Mapping[int, int] = MappingProxyType(
    {0: 0, 1: 0, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1, 9: 1, 10: 2, 11: 1}
)
"""Quality (0 invalid, 1 low, 2 high) of each class of Sentinel-2's scene classification.

Invalid are no data and saturated; low are cloud shadow, cloud of medium and high probability, and snow. That thin
cirrus (10), water (6) and dark areas (2) count as high is debatable, hence a table.
"""


def calibrate(raw: xr.Dataset, quality: Mapping[int, int] = S2_QUALITY) -> xr.Dataset:
    """Reflectance and quality of digital numbers, lazily where they are lazy.

    A pixel is invalid, NaN in every optical band, where the scene classification is 0 or any optical band of the
    dataset has no data.

    Args:
        raw: what `open_raw` gives: uint16 bands (y, x) with the attributes `scale_factor`, `add_offset` and
            `_FillValue`, and `s2_scl` (uint8) where there is one; also from a store opened with `mask_and_scale=False`.
        quality: class of the scene classification -> quality; classes that it lacks are invalid.

    Returns:
        Dataset (y, x): the optical bands as float32 reflectance, `quality_data_mask` as uint8, and `s2_scl` as it was.
        Without `s2_scl` every pixel with data is of high quality, and the attribute `scl` says "absent".

    Raises:
        ValueError: if there is no optical band, one lacks its attributes, or a quality is not 0, 1 or 2.
    """
    if not set(quality.values()) <= {0, 1, 2}:
        raise ValueError(f"quality must be 0, 1 or 2, not {sorted(set(quality.values()))}")
    has_data = data_mask(raw)
    valid, mask, attributes = has_data, has_data.astype(np.uint8) * np.uint8(2), {}
    if SCL in raw:
        valid = has_data & (raw[SCL] != 0)
        mask = xr.where(has_data, graded(raw[SCL], quality), np.uint8(0))
    else:
        attributes["scl"] = "absent"
        logger.warning(
            "scene %s has no scene classification: every pixel with data counts as high quality, clouds too",
            raw.attrs.get("scene_id", "(unnamed)"),
        )
    return calibrated(raw, valid, mask).assign_attrs(attributes)


def data_mask(raw: xr.Dataset) -> xr.DataArray:
    """Where every optical band of a dataset of digital numbers has data; raises ValueError as `calibrate`."""
    has_data = [raw[name] != _attribute(raw[name], "_FillValue") for name in _optical(raw)]
    return functools.reduce(operator.and_, has_data)


def calibrated(raw: xr.Dataset, valid: xr.DataArray, quality: xr.DataArray) -> xr.Dataset:
    """Reflectance where pixels are valid, NaN elsewhere, beside `quality` (uint8) and the other bands as they were."""
    bands = {name: _reflectance(raw[name], valid) for name in _optical(raw)}
    bands[QUALITY] = quality.assign_attrs(
        long_name=codec(QUALITY).long_name, **_georeference(next(iter(bands.values())))
    )
    others = {name: raw[name] for name in MASKS if name in raw}
    return xr.Dataset({**bands, **others}, attrs=dict(raw.attrs))


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


def graded(classification: xr.DataArray, quality: Mapping[int, int]) -> xr.DataArray:
    """The quality (uint8) of each pixel's class (uint8); classes that the table lacks are invalid."""
    table = np.zeros(256, np.uint8)
    table[list(quality)] = list(quality.values())
    return xr.apply_ufunc(table.__getitem__, classification, dask="parallelized", output_dtypes=[np.uint8])


def _attribute(numbers: xr.DataArray, key: str) -> float:
    if key not in numbers.attrs:
        raise ValueError(f"band {numbers.name} has no {key}; open its store with mask_and_scale=False")
    return float(numbers.attrs[key])


def _georeference(numbers: xr.DataArray) -> dict[str, str]:
    return {key: numbers.attrs[key] for key in ("grid_mapping",) if key in numbers.attrs}
