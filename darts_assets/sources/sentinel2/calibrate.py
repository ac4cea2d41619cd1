"""Digital numbers to reflectance and quality. `offset_evidence` decides scale and offset."""

import functools
import logging
import operator
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import xarray as xr

from darts_assets.bands import MASKS, OPTICAL, SCL
from darts_assets.bands import band as codec
from darts_assets.errors import SceneError, SettingsError
from darts_assets.scene import Scene
from darts_assets.sources.sentinel2.offset_evidence import OffsetChoice

logger = logging.getLogger(__name__)

QUALITY = "quality_data_mask"

S2_QUALITY: Mapping[int, int] = MappingProxyType(
    {0: 0, 1: 0, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1, 9: 1, 10: 2, 11: 1}
)
"""Quality (0 invalid, 1 low, 2 high) of each class of Sentinel-2's scene classification.

Invalid: no data, saturated. Low: cloud shadow, cloud of medium or high probability, snow. Thin cirrus (10), water (6)
and dark areas (2) count as high, which is debatable; users can change the table.
"""


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


def with_offsets(raw: xr.Dataset, scene: Scene, choice: OffsetChoice = "auto") -> xr.Dataset:
    """Digital numbers with the offset of each optical band as `add_offset`, whatever it was when they were stored.

    Args:
        raw: digital numbers of the scene, as `calibrate` takes them.
        scene: the scene; `auto` uses the offsets of its bands.
        choice: `auto`, or the offset of all optical bands.

    Raises:
        SceneError: if the choice is `auto` and the evidence does not decide the offset of a band.
    """
    offsets = {name: scene.bands[name].offset if choice == "auto" else float(choice) for name in _optical(raw)}
    if undecided := [name for name, offset in offsets.items() if offset is None]:
        raise SceneError(
            f"scene {scene.id}: the offset of its digital numbers ({', '.join(undecided)}) is "
            f"{scene.offset_evidence}. Set the config `offset` of preprocessed_tile to 0 (digital numbers are "
            "reflectance x 10,000) or -0.1 (1000 was added to them)"
        )
    if choice != "auto":
        logger.warning("scene %s: offset %s, by config; the item: %s", scene.id, choice, scene.offset_evidence)
    elif scene.offset_contradiction:
        decision, unused = scene.offset_evidence, scene.offset_contradiction
        logger.warning("scene %s: offset %s; contradicted by %s, not used", scene.id, decision, unused)
    else:
        logger.info("scene %s: offset %s", scene.id, scene.offset_evidence)
    changed = {name: raw[name].assign_attrs(add_offset=offset) for name, offset in offsets.items()}
    return raw.assign(changed)


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
    bands[QUALITY] = quality.assign_attrs(codec(QUALITY).description(), **grid_mapping)
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
    kept = {key: numbers.attrs[key] for key in ("standard_name", "grid_mapping") if key in numbers.attrs}
    reflectance.attrs = codec(str(numbers.name)).description() | kept
    return reflectance


def _attribute(numbers: xr.DataArray, key: str) -> float:
    if key not in numbers.attrs:
        raise ValueError(f"band {numbers.name} has no {key}; open its store with mask_and_scale=False")
    return float(numbers.attrs[key])


def _georeference(numbers: xr.DataArray) -> dict[str, str]:
    return {key: numbers.attrs[key] for key in ("grid_mapping",) if key in numbers.attrs}
