"""Table of the STAC APIs for scenes and their differences."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class StacService:
    """A collection of a STAC API.

    Attributes:
        provider: as in `Scene.source`.
        url: the API's landing page.
        collection: id of the collection.
        language: of filters: CQL2 in JSON, or the older `query` extension, which has no "or".
        page: items per request.
        pause: seconds between any two requests of this process to the service.
        tile: property with the MGRS tile, such as `MGRS-33UUP`.
        tile_prefix: what precedes the tile in that property.
        cloud_cover: property, percent; None if items have none.
        snow_cover: likewise.
        baseline: property with the processing baseline; None if items have none.
        published: property with the time of publication by the service.
        id_form: provider whose ids have the same form; None for its own.
        quarterly: whether the items are mosaics of a quarter, selected by the tile and the quarter in their ids.
    """

    provider: str
    url: str
    collection: str
    language: Literal["cql2-json", "query"] = "cql2-json"
    page: int = 1000
    pause: float = 3.0
    tile: str = "grid:code"
    tile_prefix: str = "MGRS-"
    cloud_cover: str | None = "eo:cloud_cover"
    snow_cover: str | None = "eo:snow_cover"
    baseline: str | None = "processing:version"
    published: str = "published"
    id_form: str | None = None
    quarterly: bool = False

    def __str__(self) -> str:
        return f"{self.collection} at {self.url}"


CDSE = StacService("cdse", "https://stac.dataspace.copernicus.eu/v1/", "sentinel-2-l2a")

CDSE_MOSAIC = replace(
    CDSE,
    provider="cdse_mosaic",
    collection="sentinel-2-global-mosaics",
    cloud_cover=None,
    snow_cover=None,
    baseline=None,
    quarterly=True,
)

EARTH_SEARCH = StacService(
    "earth_search",
    "https://earth-search.aws.element84.com/v1",
    "sentinel-2-l2a",
    language="query",  # it does not declare the filter extension
    page=200,  # it fails with status 500 above 267 (Element84/earth-search issue 60)
    pause=0.5,
    snow_cover="s2:snow_ice_percentage",
    baseline="s2:processing_baseline",
    published="created",
)

PLANETARY_COMPUTER = StacService(
    "planetary_computer",
    "https://planetarycomputer.microsoft.com/api/stac/v1",
    "sentinel-2-l2a",
    page=250,
    pause=0.5,
    tile="s2:mgrs_tile",
    tile_prefix="",
    snow_cover="s2:snow_ice_percentage",
    baseline="s2:processing_baseline",
)
"""Items have no time of publication: it cannot be watched."""

EOPF = StacService(
    "eopf",
    "https://stac.core.eopf.eodc.eu",
    "sentinel-2-l2a",
    page=100,
    pause=0.5,
    baseline=None,
    published="created",
    id_form="cdse",
)
"""Samples of ESA's products in Zarr."""

SERVICES = {s.provider: s for s in (CDSE, CDSE_MOSAIC, EARTH_SEARCH, PLANETARY_COMPUTER, EOPF)}
