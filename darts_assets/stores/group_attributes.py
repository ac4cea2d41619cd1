"""Attributes of a tile's Zarr group, following CF-1.11 and, for the time and the platform, ACDD-1.3.

Values are numbers and texts (JSON for what is nested), so that a tile can be saved as NetCDF. The georeference is the
CF grid mapping `spatial_ref`, as GeoZarr has it. The Zarr conventions `proj:` and `spatial:` are not declared: their
names and schemas have changed with every release so far.
"""

import datetime as dt
import json
from collections.abc import Container, Mapping
from importlib.metadata import version
from typing import Any

from darts_assets.bands import OPTICAL, TOA_REFLECTANCE, Band

CONVENTIONS = "CF-1.11"


def group_attributes(metadata: Mapping[str, Any], attrs: Mapping[str, Any], bands: Container[str]) -> dict[str, Any]:
    """Attributes of the group of a tile.

    Args:
        metadata: facts of the manifest: `provenance` of the step, or the `item` of a raw scene.
        attrs: attributes of the tile: `scene_id`, `source`, `datetime`, `platform` and others.
        bands: names of all bands.

    Returns:
        `Conventions`, `title`, `source`, `history`, `date_created`; if known `platform`, `time_coverage_start` and
        `time_coverage_end`; and `attrs`, with their `source` as `provider`.
    """
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    provenance = metadata.get("provenance", {})
    software = f"darts_assets {provenance.get('code_version') or version('darts_assets')}"
    # The coverage in `attrs` is that of the tile that this one was made from.
    known = {"provider" if name == "source" else name: value for name, value in attrs.items() if name != "coverage"}
    platform, provider = known.get("platform"), known.get("provider")
    segmented = "probabilities of thaw slumps" if "probabilities" in bands else "reflectance and other features"
    content = "digital numbers" if "item" in metadata else segmented
    attributes = {
        "Conventions": CONVENTIONS,
        "title": f"Scene {known.get('scene_id', 'without an id')}: {content}",
        "source": ", from ".join(filter(None, (platform, provider))) or None,
        "history": f"{now} {software}",
        "date_created": now,
        "time_coverage_start": known.get("datetime"),
        "time_coverage_end": known.get("datetime"),
        **known,
        "provenance": provenance or None,
    }
    return {name: _plain(value) for name, value in attributes.items() if value is not None}


def band_description(codec: Band, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """CF attributes that describe a band of a tile with the attributes `attrs`, without those that decode it."""
    is_toa = codec.name in OPTICAL and attrs.get("reflectance") == "toa"
    return codec.description() | ({"standard_name": TOA_REFLECTANCE} if is_toa else {})


def band_attributes(codec: Band, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """CF attributes of a stored band of a tile with the attributes `attrs`."""
    return codec.cf_attributes() | band_description(codec, attrs)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | Mapping | list | tuple):
        return json.dumps(value, default=str)
    return value
