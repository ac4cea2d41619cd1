"""Scenes: records of one acquisition, independent of the catalog that lists it."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def scene_label(scene_id: str, time: dt.datetime, tile: str | None) -> str:
    """Date, tile and satellite, such as `2023-07-15 T08WMB S2A`; for ids without them, the date and the id."""
    satellite = re.match(r"S2[A-Z](?=_)", scene_id)
    parts = [f"T{tile}", satellite[0]] if tile and satellite else [scene_id]
    return " ".join([f"{time:%Y-%m-%d}", *parts])


@dataclass(frozen=True, slots=True)
class SceneBand:
    """One band of a scene in its provider's file.

    Attributes:
        name: canonical band name (`blue`, `s2_scl`, ...).
        asset: key of the STAC asset.
        href: path or URL of the file (`https://...` or `s3://...`).
        index: 1-based band of the file.
        dtype: dtype of the digital numbers in the file.
        scale: reflectance of one digital number; 1 for classes.
        offset: reflectance of digital number 0; 0 for classes, None if the item does not decide it.
        nodata: digital number of pixels without data.
        grid: grid declared by the item, if any.
        size: bytes declared by the item, if any.
        checksum: multihash (hex) declared by the item, if any.
    """

    name: str
    asset: str
    href: str
    index: int = 1
    dtype: str = "uint16"
    scale: float = 1.0
    offset: float | None = 0.0
    nodata: float | None = 0
    grid: "GeoBox | None" = None
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition on one tile.

    Attributes:
        id: product or image id; the partition key.
        source: provider (`cdse`, `earth_search`, ...) whose layout the item follows.
        datetime: sensing time, UTC.
        epsg: EPSG code of the CRS of all bands.
        bands: canonical name -> band; without `s2_scl` if the provider has no scene classification.
        sun_azimuth: degrees clockwise from north, None if unknown.
        sun_elevation: degrees above the horizon, None if unknown.
        cloud_cover: percent, None if unknown.
        snow_cover: percent, None if unknown.
        tile: MGRS tile such as `33UUP`, cell of Planet's grid for its orthotiles, None if unknown.
        processing_baseline: such as `05.10`, None if unknown.
        offset_evidence: the offsets of the bands and what decides them, for people.
        offset_contradiction: evidence for other offsets, which is not used; None if there is none.
        geometry: GeoJSON footprint in EPSG:4326, None if the item's is invalid.
        item: the registered item, so that a run can be repeated.
    """

    id: str
    source: str
    datetime: dt.datetime
    epsg: int
    bands: Mapping[str, SceneBand]
    sun_azimuth: float | None = None
    sun_elevation: float | None = None
    cloud_cover: float | None = None
    snow_cover: float | None = None
    tile: str | None = None
    processing_baseline: str | None = None
    offset_evidence: str | None = None
    offset_contradiction: str | None = None
    geometry: dict[str, Any] | None = None
    item: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_scl(self) -> bool:
        """Whether the scene has a scene classification."""
        return "s2_scl" in self.bands

    @property
    def fingerprint(self) -> str:
        """A hash of the item; equal fingerprints mean the same files, read in the same way."""
        return hashlib.sha256(json.dumps(self.item, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Date, tile and satellite, such as `2023-07-15 T08WMB S2A`; for ids without them, the date and the id."""
        return scene_label(self.id, self.datetime, self.tile)

    def summary(self) -> dict[str, Any]:
        """Known properties of the scene for people, JSON types only."""
        properties = {
            "scene_id": self.id,
            "source": self.source,
            "datetime": self.datetime.isoformat(),
            "crs": f"EPSG:{self.epsg}",
            "tile": self.tile,
            "processing_baseline": self.processing_baseline,
            "offset": self.offset_evidence,
            "cloud_cover": self.cloud_cover,
            "snow_cover": self.snow_cover,
            "sun_azimuth": self.sun_azimuth,
            "sun_elevation": self.sun_elevation,
        }
        return {name: value for name, value in properties.items() if value is not None}
