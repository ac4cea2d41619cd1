"""The scene that shows a slump in each year: with its best detection, or at the season of its last one."""

import geopandas as gpd
import pandas as pd

from darts_assets.geo.equal_area import EQUAL_AREA

DETECTION_FACTS = ("site_id", "scene_id", "region_id", "mean", "area_m2", "touches_edge")
"""Columns of `detections` that are needed."""

SCENE_FACTS = ("scene_id", "family", "datetime", "data_version")
"""Columns of `scenes` that are needed."""

_COLUMNS = ["slump_id", "year", "site_id", "scene_id", "region_id", "detected", "geometry"]


def select_chips(
    sites: gpd.GeoDataFrame, observers: pd.DataFrame, detections: pd.DataFrame, scenes: pd.DataFrame
) -> gpd.GeoDataFrame:
    """Select a scene for each slump and year in which it was observed.

    Of the detections of a site, the one with the largest sum of probabilities (mean times area) is selected, if
    possible of those that the border of the valid area does not cut. In a year without a site, it is the scene whose
    day of the year is nearest to that of the last scene with a detection, and the outline is that of the last site
    before.

    Args:
        sites: sites of all years, as `Followed.sites`.
        observers: as `Followed.observers`.
        detections: columns `DETECTION_FACTS` of all years.
        scenes: columns `SCENE_FACTS` of all years.

    Returns:
        `slump_id`, `year`, `site_id` (empty without a site), `region_id` (of the detection, 0 without one), `detected`,
        the columns of `scenes`, and an outline in EPSG:6931; by slump and year. Sites whose detections or scenes are
        not in the tables are left out.
    """
    best = detections.assign(weight=-detections["mean"] * detections["area_m2"])
    best = best.sort_values(["touches_edge", "weight", "scene_id", "region_id"]).drop_duplicates("site_id")
    seen = pd.DataFrame(sites[["slump_id", "year", "site_id", "last_date", "geometry"]])
    shown = seen.merge(best[["site_id", "scene_id", "region_id"]], on="site_id").assign(detected=True)
    rows = pd.concat([shown[_COLUMNS], _unseen(seen, observers, scenes)[_COLUMNS]], ignore_index=True)
    rows = rows.merge(scenes[list(SCENE_FACTS)], on="scene_id").sort_values(["slump_id", "year"], ignore_index=True)
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=EQUAL_AREA)


def _unseen(sites: pd.DataFrame, observers: pd.DataFrame, scenes: pd.DataFrame) -> pd.DataFrame:
    """The years without a site: outline of the last site before, and the scene of the same season."""
    last = pd.merge_asof(observers.sort_values("year"), sites.sort_values("year"), on="year", by="slump_id")
    several = last.assign(scene_id=last["scenes"].str.split(",")).explode("scene_id")
    several = several.merge(scenes[["scene_id", "datetime"]], on="scene_id")
    days = (several["datetime"].dt.dayofyear - several["last_date"].dt.dayofyear).abs()
    chosen = several.assign(days=days).sort_values(["days", "scene_id"]).drop_duplicates(["slump_id", "year"])
    return chosen.assign(site_id="", region_id=0, detected=False)
