"""What a scene is: a small record of one acquisition, independent of the catalog that described it."""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True, slots=True)
class SceneBand:
    """One band of a scene as its provider stores it.

    Attributes:
        name: canonical band name (`blue`, `s2_scl`, ...).
        asset: key of the STAC asset.
        href: where the file is: a path, `https://...` or `s3://...`.
        index: 1-based band of the file.
        dtype: dtype of the digital numbers in the file.
        scale: reflectance of one digital number; 1 for classes.
        offset: reflectance of digital number 0; 0 for classes.
        nodata: digital number that means "no data".
        grid: the grid that the item promises, None where it promises none.
        size: bytes that the item promises, None where it promises none.
        checksum: multihash (hex) that the item promises, None where it promises none.
    """

    name: str
    asset: str
    href: str
    index: int = 1
    dtype: str = "uint16"
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = 0
    grid: "GeoBox | None" = None
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition on one tile.

    Attributes:
        id: the id that users know; the partition key.
        source: provider whose layout the item follows (`cdse`, `earth_search`, ...).
        datetime: sensing time, UTC.
        epsg: EPSG code of the one CRS of all bands.
        bands: canonical name -> band; `s2_scl` is absent where the provider gives no scene classification.
        sun_azimuth: degrees clockwise from north, None where unknown.
        sun_elevation: degrees above the horizon, None where unknown.
        cloud_cover: percent, None where unknown.
        snow_cover: percent, None where unknown.
        tile: MGRS tile such as `33UUP`, cell of Planet's grid for its orthotiles, None where unknown.
        processing_baseline: such as `05.10`, None where unknown.
        geometry: GeoJSON footprint in EPSG:4326, None where the item's is invalid.
        item: the item as registered, so that a run can be repeated.
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
    geometry: dict[str, Any] | None = None
    item: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_scl(self) -> bool:
        """Whether the provider gives a scene classification."""
        return "s2_scl" in self.bands

    @property
    def fingerprint(self) -> str:
        """A hash of the item: two runs that share it read the same files in the same way."""
        return hashlib.sha256(json.dumps(self.item, sort_keys=True).encode()).hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """What people want to know of a scene, JSON types only; what is unknown is left out."""
        facts = {
            "scene_id": self.id,
            "source": self.source,
            "datetime": self.datetime.isoformat(),
            "crs": f"EPSG:{self.epsg}",
            "tile": self.tile,
            "processing_baseline": self.processing_baseline,
            "cloud_cover": self.cloud_cover,
            "snow_cover": self.snow_cover,
            "sun_azimuth": self.sun_azimuth,
            "sun_elevation": self.sun_elevation,
        }
        return {name: value for name, value in facts.items() if value is not None}
