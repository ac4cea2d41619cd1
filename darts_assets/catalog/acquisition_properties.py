"""Properties of an acquisition that an item of results takes from the item of its scene."""

import math
from collections.abc import Mapping
from typing import Any

from pystac.extensions.eo import SCHEMA_URI as EO
from pystac.extensions.view import SCHEMA_URI as VIEW

_LIMITS: Mapping[str, tuple[float, float]] = {
    "eo:cloud_cover": (0, 100),
    "eo:snow_cover": (0, 100),
    "view:off_nadir": (0, 90),
    "view:incidence_angle": (0, 90),
    "view:azimuth": (0, 360),
    "view:sun_azimuth": (0, 360),
    "view:sun_elevation": (-90, 90),
}
"""Property -> lowest and highest value that the schema of its extension accepts; percent and degrees."""

_SUMMARY = ("eo:cloud_cover", "eo:snow_cover", "view:sun_azimuth", "view:sun_elevation")
"""Properties that the metadata of products also have, without prefix."""

_TEXTS = ("platform", "constellation")


def acquisition_properties(item: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """`eo:*`, `view:*`, `platform`, `constellation` and `instruments` of an acquisition, where known and valid.

    Args:
        item: STAC item of the scene; None if it does not exist any more.
        metadata: metadata of the products, with the facts that `Scene.summary` states.
    """
    given = (item or {}).get("properties") or {}
    known = {name: metadata.get(name.partition(":")[2]) for name in _SUMMARY}
    numbers = {name: given.get(name, known.get(name)) for name in _LIMITS}
    properties: dict[str, Any] = {name: value for name, value in numbers.items() if _is_within(value, *_LIMITS[name])}
    properties |= {name: given[name] for name in _TEXTS if isinstance(given.get(name), str) and given[name]}
    instruments = given.get("instruments")
    if isinstance(instruments, list) and instruments and all(isinstance(each, str) for each in instruments):
        properties["instruments"] = instruments
    return properties


def acquisition_extensions(properties: Mapping[str, Any]) -> list[str]:
    """The URIs of the extensions that properties of an acquisition belong to."""
    schemas = {"eo:": EO, "view:": VIEW}
    return [uri for prefix, uri in schemas.items() if any(name.startswith(prefix) for name in properties)]


def _is_within(value: Any, lowest: float, highest: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and lowest <= value <= highest
