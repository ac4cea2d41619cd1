"""Level 1 and Level 2: the detections and the sites of the published inventory, in longitude and latitude."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import pandas as pd

from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.errors import NotReadableError
from darts_assets.geo.antimeridian import lonlat_polygons
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.inventory.table_schemas import DESCRIPTIONS
from darts_assets.stores.location import StoreLocation

CATALOG = "catalog/detections"
"""Folder of the published table of detections."""

_OF_SITES = ("site_id", "slump_id", "reviewed", "verdict")
_LEFT_OUT = ("geometry", "bbox")

LEVEL1_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "id": COLUMNS["id"][1],
        "year": DESCRIPTIONS["year"],
        **{name: DESCRIPTIONS[name] for name in _OF_SITES},
        **{name: text for name, (_, text) in COLUMNS.items() if name not in _LEFT_OUT},
    }
)
LEVEL2_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {**DESCRIPTIONS, "area_m2": "geodesic area on the WGS 84 ellipsoid, m2"}
)
"""Of all columns that Level 2 may have."""

_VERDICT_COLUMNS = ("reviewed", "verdict")


def catalog_detections(root: StoreLocation, parts: Iterable[str]) -> gpd.GeoDataFrame:
    """Published detections, in EPSG:4326, one row per object and scene.

    Args:
        root: root of the store.
        parts: keys of files below `catalog/detections`.

    Raises:
        NotReadableError: if a file does not exist.
    """
    tables = []
    for part in sorted(parts):
        try:
            tables.append(gpd.read_parquet(root.file(f"{CATALOG}/{part}"), filesystem=root.filesystem()))
        except FileNotFoundError as error:
            raise NotReadableError(
                f"{root}/{CATALOG}/{part} does not exist: another run updates the catalog"
            ) from error
    empty = gpd.GeoDataFrame({name: [] for name in (*COLUMNS, "geometry") if name != "bbox"}, geometry="geometry")
    table = pd.concat(tables, ignore_index=True) if tables else empty
    return gpd.GeoDataFrame(table, crs="EPSG:4326").drop(columns=["bbox", "year", "region"], errors="ignore")


def level1(detections: gpd.GeoDataFrame, members: pd.DataFrame, sites: pd.DataFrame) -> gpd.GeoDataFrame:
    """Level 1: the detections that form the sites of the inventory, one row per object and scene.

    Args:
        detections: rows of `catalog_detections`.
        members: detections of the inventory: `scene_id`, `region_id`, `data_version` of the scene's polygons and
            `site_id`.
        sites: their sites, with `site_id`, `slump_id`, and `reviewed` and `verdict` if reviewers have judged.

    Returns:
        `id`, `year`, `site_id`, `slump_id`, `reviewed` and `verdict`, all other columns of `detections`, and outlines
        in EPSG:4326, ordered by time, scene and `Region_ID`.

    Raises:
        NotReadableError: if the catalog is older than the inventory, or the slumps are.
    """
    own = members.assign(id=members["scene_id"] + "/" + members["region_id"].astype("str"))
    own = own[["id", "scene_id", "data_version", "site_id"]]
    known = own.merge(detections[["id", "data_version"]], on=["id", "data_version"])
    if len(missing := own.loc[~own["id"].isin(known["id"]), "scene_id"].unique()):
        raise NotReadableError(
            f"catalog/detections does not have the detections of the inventory in {len(missing)} scene(s), such as "
            f"{missing[0]}: materialize catalog/detections, or the inventory, again"
        )
    followed = _with_verdicts(sites)[list(_OF_SITES)]
    if len(unknown := own.loc[~own["site_id"].isin(followed["site_id"]), "site_id"].unique()):
        raise NotReadableError(
            f"inventory/slumps does not have {len(unknown)} site(s) of the years, such as {unknown[0]}: materialize it "
            "again"
        )
    table = detections.merge(own[["id", "site_id"]], on="id").merge(followed, on="site_id")
    table = table.assign(year=table["datetime"].dt.year.astype("int64"))
    order = [*(name for name in LEVEL1_DESCRIPTIONS if name in table), "geometry"]
    return table.sort_values(["datetime", "scene", "Region_ID"], ignore_index=True)[order]


def level2(sites: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Level 2: the sites of all years, one row per slump and year.

    Args:
        sites: `rts_sites` of the inventory, in its equal-area projection.

    Returns:
        All columns, with `area_m2` (geodesic, m2) instead of `area_ha`, `reviewed` and `verdict`, and outlines in
        EPSG:4326, cut at the antimeridian; ordered by year and id.
    """
    shapes = sites.geometry.to_numpy()
    table = _with_verdicts(sites).assign(area_m2=geodesic_area(shapes, sites.crs))
    columns = [
        "area_m2" if name == "area_ha" else name for name in table.columns if name not in ("area_m2", "geometry")
    ]
    outlines = gpd.GeoDataFrame(table[columns], geometry=lonlat_polygons(shapes, sites.crs), crs="EPSG:4326")
    return outlines.sort_values(["year", "site_id"], ignore_index=True)


def _with_verdicts(sites: pd.DataFrame) -> pd.DataFrame:
    missing: dict[str, Any] = {"reviewed": False, "verdict": ""}
    return sites.assign(**{name: missing[name] for name in _VERDICT_COLUMNS if name not in sites})
