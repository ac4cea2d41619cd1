"""Export of sites in the metadata format of ARTS, the community's collection of digitized thaw slumps.

Yang et al. (2025), Scientific Data, doi 10.1038/s41597-025-04372-7, table 2.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import NAMESPACE_DNS, uuid5

import geopandas as gpd
import pandas as pd
import shapely

from darts_assets.dataset.release_parameters import ReleaseParameters
from darts_assets.geo.grid_zones import region_of

CRS = "EPSG:3413"
"""The projection of the ARTS main file."""

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "CentroidLat": "latitude of the centroid in EPSG:4326, degrees, 5 decimals",
        "CentroidLon": "longitude of the centroid in EPSG:4326, degrees, 5 decimals",
        "RegionName": "geographical region",
        "CreatorLab": "creator and organization",
        "BaseMapDate": "dates of the first and the last image, YYYY-MM-DD, separated by a comma",
        "BaseMapSource": "satellites of the images",
        "BaseMapResolution": "coarsest resolution of the images, metres",
        "TrainClass": "Positive: a thaw slump; Negative: rejected by reviewers",
        "LabelType": "Polygon",
        "MergedRTS": "UIDs of the outlines of the year before that merged into this one",
        "SplitRTS": "UIDs of the outlines of which this one is a part",
        "NewRTS": "not known from the inventory",
        "StabilizedRTS": "not known from the inventory",
        "UnknownRelationship": "UIDs of earlier outlines of the same slump",
        "ContributionDate": "date of the release, YYYY-MM-DD",
        "UID": "UUID of version 5 of the required fields",
        "SiteID": "id of the site in this data set",
    }
)
REQUIRED = tuple(DESCRIPTIONS)[:9]
"""The fields from which `UID` is made, in this order."""

_SOURCES = {"sentinel2": ("Sentinel-2", 10), "planet": ("PlanetScope", 3)}
"""Family -> name of the satellites and resolution of the images in metres."""

_CONFIRMED = ("yes", "redraw")
_REJECTED = "no"


def uid(fields: Sequence[object]) -> str:
    """The UID of the `REQUIRED` fields: UUID 5 of their texts in one string, in the namespace of DNS.

    Whole resolutions have no decimals, latitudes and longitudes those that Python prints.
    """
    return str(uuid5(NAMESPACE_DNS, "".join(str(field) for field in fields)))


def arts_table(sites: gpd.GeoDataFrame, parameters: ReleaseParameters) -> gpd.GeoDataFrame:
    """Sites of all years in the format of ARTS.

    Args:
        sites: `rts_sites` of the inventory with the columns of reviews, rejected sites included.
        parameters: `arts` selects sites: `reviewed` those that reviewers have confirmed (Positive) or rejected
            (Negative), `all` also those without a verdict (Positive). `region_name` and `creator_lab` (by default grid
            zone and institution) become fields.

    Returns:
        Columns `DESCRIPTIONS` and outlines in EPSG:3413; relations refer to sites in the table only.
    """
    verdicts = sites["verdict"] if "verdict" in sites else pd.Series("", index=sites.index)
    usable = [*_CONFIRMED, _REJECTED, *([""] if parameters.arts == "all" else [])]
    chosen = sites[verdicts.isin(usable)].sort_values(["year", "site_id"], ignore_index=True)
    verdicts = chosen["verdict"] if "verdict" in chosen else pd.Series("", index=chosen.index)
    centroids = gpd.GeoSeries(shapely.centroid(chosen.geometry.to_numpy()), crs=chosen.crs).to_crs("EPSG:4326")
    lat, lon = centroids.y.round(5).to_numpy(), centroids.x.round(5).to_numpy()
    families = [names.split(",") for names in chosen["families"]]
    table = pd.DataFrame(
        {
            "CentroidLat": lat,
            "CentroidLon": lon,
            "RegionName": [
                parameters.region_name or region_of(None, x, y) for x, y in zip(lon, lat, strict=True)
            ],
            "CreatorLab": parameters.creator_lab or parameters.institution,
            "BaseMapDate": [
                f"{first:%Y-%m-%d}" + (f",{last:%Y-%m-%d}" if last.date() != first.date() else "")
                for first, last in zip(chosen["first_date"], chosen["last_date"], strict=True)
            ],
            "BaseMapSource": [", ".join(_SOURCES[name][0] for name in names) for names in families],
            "BaseMapResolution": [max(_SOURCES[name][1] for name in names) for names in families],
            "TrainClass": ["Negative" if verdict == _REJECTED else "Positive" for verdict in verdicts],
            "LabelType": "Polygon",
        }
    )  # fmt: skip
    uids = [uid(fields) for fields in table[list(REQUIRED)].astype(object).itertuples(index=False)]
    relations = pd.DataFrame(_relations(chosen, uids), index=table.index, dtype=object)
    table = table.join(relations).assign(
        NewRTS=None, StabilizedRTS=None, ContributionDate=parameters.date or None, UID=uids, SiteID=chosen["site_id"]
    )
    return gpd.GeoDataFrame(table[list(DESCRIPTIONS)], geometry=chosen.geometry, crs=chosen.crs).to_crs(CRS)


def _relations(sites: gpd.GeoDataFrame, uids: Sequence[str]) -> dict[str, list[str | None]]:
    """`MergedRTS`, `SplitRTS` and `UnknownRelationship`: UIDs of the last earlier outlines that a site overlaps."""
    last: dict[str, str] = {}
    columns: dict[str, list[str | None]] = {"MergedRTS": [], "SplitRTS": [], "UnknownRelationship": []}
    for _, rows in sites.assign(uid=uids).groupby("year", sort=True):
        for event, predecessors in zip(rows["event"], rows["predecessors"], strict=True):
            earlier = [last[slump] for slump in filter(None, predecessors.split(",")) if slump in last]
            text = ",".join(earlier) or None
            kinds = {"merged": "MergedRTS", "split": "SplitRTS", "continued": "UnknownRelationship"}
            for kind, column in kinds.items():
                columns[column].append(text if kind in event else None)
        last |= dict(zip(rows["slump_id"], rows["uid"], strict=True))
    return columns
