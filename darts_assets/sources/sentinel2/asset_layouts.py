"""The one table of where providers keep which band.

A provider is recognized by the asset keys of the four bands that every scene has; quarterly mosaics share theirs with
others, but nobody else counts observations. Items of other providers work too when their bands carry the common names
of STAC; several bands may then share one file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.errors import SceneError

SCL = "s2_scl"
OBSERVATIONS = "observations"
UDM = "planet_udm"
MASKS = (SCL, OBSERVATIONS, UDM)
"""Bands that say what a pixel is, or how good."""

COMMON_NAMES = "common_names"
MOSAIC = "cdse_mosaic"
PLANET = "planet"
PROVIDERS = ("cdse", "earth_search", "sentinel2_bands", MOSAIC)

_TABLE: dict[str, tuple[str, str, str, str]] = {
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

_FOR_EYES_ONLY = {"visual", "overview", "thumbnail"}


@dataclass(frozen=True, slots=True)
class Location:
    """Where an item keeps one band: the key of the asset, and the 1-based band of its file."""

    asset: str
    index: int = 1


@dataclass(frozen=True, slots=True)
class DigitalNumbers:
    """The numbers in the files of a band: their dtype, and the one that means "no data"."""

    dtype: str
    nodata: int


def digital_numbers(provider: str, band: str) -> DigitalNumbers:
    """What the files of a band hold; `planet_udm-3` is the third band of the file of that mask."""
    if band == SCL or is_mask(band, UDM):
        return DigitalNumbers("uint8", 0)
    if provider == MOSAIC and band != OBSERVATIONS:
        return DigitalNumbers("int16", -32768)
    return DigitalNumbers("uint16", 0)


def is_mask(band: str, *masks: str) -> bool:
    """Whether a band is one of some masks (all by default), or one of the bands of its file."""
    return band.partition("-")[0] in (masks or MASKS)


def asset_keys(provider: str) -> dict[str, str]:
    """Canonical band name -> asset key of one of `PROVIDERS`, of the bands that it has."""
    column = PROVIDERS.index(provider)
    return {band: keys[column] for band, keys in _TABLE.items() if keys[column]}


def locate_bands(scene_id: str, assets: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Location]]:
    """The provider whose layout the assets follow, and where each band is, in storage order.

    Args:
        scene_id: for messages.
        assets: `assets` of a STAC item.

    Raises:
        SceneError: if no layout or more than one fits, or one of the four bands that every scene has is missing.
    """
    possible = [p for p in PROVIDERS if (p == MOSAIC) == (OBSERVATIONS in assets)]
    fitting = [p for p in possible if any(asset_keys(p)[band] in assets for band in VISIBLE_NIR)]
    if len(fitting) > 1:
        raise SceneError(f"scene {scene_id} fits several layouts ({', '.join(fitting)}); its assets: {_listed(assets)}")
    if fitting:
        source = fitting[0]
        expected = asset_keys(source)
        found = {band: Location(key) for band, key in expected.items() if key in assets}
    else:
        source = COMMON_NAMES
        expected = {band: f"common name {band}" for band in OPTICAL}
        found = _by_common_name(scene_id, assets)
        if not found:
            known = "; ".join(f"{p}: {', '.join(asset_keys(p)[b] for b in VISIBLE_NIR)}" for p in PROVIDERS)
            raise SceneError(
                f"scene {scene_id} has no layout that is known. Expected the assets of one of {known}; or bands with "
                f"common names {', '.join(VISIBLE_NIR)}. Its assets: {_listed(assets)}"
            )
    missing = [f"{band} ({expected[band]})" for band in VISIBLE_NIR if band not in found]
    if missing:
        raise SceneError(
            f"scene {scene_id}, layout {source}: band {', '.join(missing)} is missing; its assets: {_listed(assets)}"
        )
    return source, {band: found[band] for band in (*OPTICAL, SCL, OBSERVATIONS) if band in found}


def _by_common_name(scene_id: str, assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Location]:
    found: dict[str, Location] = {}
    for key, asset in assets.items():
        if _FOR_EYES_ONLY & set(asset.get("roles") or ()):
            continue
        named = [(SCL, Location(key))] if key.upper() == "SCL" else _named_bands(key, asset)
        for band, location in named:
            if band in found:
                raise SceneError(f"scene {scene_id}: assets {found[band].asset} and {key} both claim to be band {band}")
            found[band] = location
    return found


def _named_bands(key: str, asset: Mapping[str, Any]) -> Iterator[tuple[str, Location]]:
    for index, described in enumerate(asset.get("bands") or asset.get("eo:bands") or (), start=1):
        name = described.get("eo:common_name") or described.get("common_name")
        if name in OPTICAL:
            yield name, Location(key, index)


def _listed(assets: Mapping[str, Any]) -> str:
    return ", ".join(assets) or "none"
