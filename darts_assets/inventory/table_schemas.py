"""Columns of the inventory's tables (each table also has `geometry`), and the record of a scene."""

import datetime as dt
from dataclasses import dataclass

from darts_assets.review.review_columns import REVIEW_DESCRIPTIONS

TIME = "datetime64[ms, UTC]"

SITE_COLUMNS = {
    "site_id": "str",
    "year": "int64",
    "lon": "float64",
    "lat": "float64",
    "area_ha": "float64",
    "seen": "int64",
    "observable": "int64",
    "days_seen": "int64",
    "days_observable": "int64",
    "first_date": TIME,
    "last_date": TIME,
    "mean_probability": "float64",
    "seen_whole": "bool",
    "families": "str",
    "scenes": "str",
    "scenes_without": "str",
    "area_25_ha": "float64",
    "area_50_ha": "float64",
    "area_75_ha": "float64",
    "area_days": "int64",
    "area_mean_ha": "float64",
    "area_sd_ha": "float64",
    "area_se_ha": "float64",
    "area_df": "float64",
    "area_low_ha": "float64",
    "area_high_ha": "float64",
}

FOLLOWED_COLUMNS = {
    "slump_id": "str",
    "event": "str",
    "predecessors": "str",
    "change": "str",
    "rate_ha_per_year": "float64",
    "rate_low_ha_per_year": "float64",
    "rate_high_ha_per_year": "float64",
    "retreat_m_per_year": "float64",
}
AREA_COLUMNS = {
    "year": "int64",
    "region": "str",
    "sites": "int64",
    "sites_without_interval": "int64",
    "area_ha": "float64",
    "area_mean_ha": "float64",
    "area_low_ha": "float64",
    "area_high_ha": "float64",
}
"""Area of all sites of a year and region."""

OBSERVER_COLUMNS = {"slump_id": "str", "year": "int64", "scenes": "str"}
"""Scenes, separated by commas, that observe a slump in a year without a site of it."""

SLUMP_COLUMNS = {
    "slump_id": "str",
    "first_year": "int64",
    "last_year": "int64",
    "years_seen": "int64",
    "years_observable": "int64",
    "first_date": TIME,
    "last_date": TIME,
    "seen": "int64",
    "observable": "int64",
    "first_area_ha": "float64",
    "last_area_ha": "float64",
    "split_from": "str",
    "merged_into": "str",
}

CHIP_COLUMNS = {
    "slump_id": "str",
    "year": "int64",
    "site_id": "str",
    "scene": "str",
    "family": "str",
    "datetime": TIME,
    "detected": "bool",
    "key": "str",
    "offset": "int64",
    "length": "int64",
    "width_m": "float64",
    "made_from": "str",
}

CHIP_DESCRIPTIONS = {
    "slump_id": "slump that the chip shows",
    "year": "year of the scene",
    "site_id": "site of the slump in that year; empty if no scene detects it",
    "scene": "id of the scene",
    "family": "family of the scene",
    "datetime": "sensing time of the scene, UTC",
    "detected": "whether the scene detects the slump; otherwise the outline is that of the last year with a site",
    "key": "file in the store with the chip",
    "offset": "first byte of the WebP image in that file",
    "length": "bytes of the image",
    "width_m": "ground width and height of the chip, metres",
    "made_from": "the products' version and detection, or a hash of tile and outline",
}
"""Column of the table of chips -> description."""

DESCRIPTIONS = {
    "site_id": "year and location of the first detection; unique",
    "year": "year of the scenes",
    "lon": "longitude of a point inside the outline, degrees east",
    "lat": "latitude of a point inside the outline, degrees north",
    "area_ha": "area of the outline in hectares, in an equal-area projection (EPSG:6931)",
    "seen": "k: number of scenes with a detection of the site",
    "observable": "n: number of scenes to which at least min_coverage of the outline is clear, or with a detection",
    "days_seen": "number of days (UTC) with a detection",
    "days_observable": "number of days (UTC) with an observing scene",
    "first_date": "time of the first scene with a detection, UTC",
    "last_date": "time of the last scene with a detection, UTC",
    "mean_probability": "mean probability of the detections, weighted by area",
    "seen_whole": "whether at least one detection is not cut by the edge of its scene's valid area",
    "families": "families of the scenes with a detection",
    "scenes": "ids of the scenes with a detection, by time",
    "scenes_without": "ids of the observing scenes without a detection, by time",
    "area_25_ha": "area in which at least 25 % of the observing scenes detect the site, hectares",
    "area_50_ha": "area in which at least 50 % do",
    "area_75_ha": "area in which at least 75 % do",
    "area_days": "number of days (UTC) with a scene that shows the site whole; the basis of the interval",
    "area_mean_ha": "mean over these days of the detected area, hectares; null without such a day",
    "area_sd_ha": "standard deviation of the area between these days, hectares; null with fewer than two",
    "area_se_ha": "standard error of area_mean_ha, with a variance moderated by those of all sites of the year",
    "area_df": "degrees of freedom of area_se_ha; 10,000 stands for any more",
    "area_low_ha": "lower end of the 95 % interval of area_mean_ha, hectares",
    "area_high_ha": "upper end of the interval, hectares",
    "slump_id": "site_id in the slump's first year; constant over the years",
    "event": "change against earlier years: new, continued, split, merged, or split and merged",
    "predecessors": "slumps of earlier years that the site overlaps",
    "change": "of the area since the slump's year before: grown, shrunk, stable or uncertain; empty unless continued",
    "rate_ha_per_year": "change of area_mean_ha since then, hectares per year",
    "rate_low_ha_per_year": "lower end of its 95 % interval",
    "rate_high_ha_per_year": "upper end of its 95 % interval",
    "retreat_m_per_year": "mean advance of the outline where a grown site grew, metres per year",
    "first_year": "first year with a detection",
    "last_year": "last year with a detection",
    "years_seen": "number of years with a detection",
    "years_observable": "number of years with an observing scene, from the first year on",
    "first_area_ha": "area in the first year, hectares",
    "last_area_ha": "area in the last year, hectares",
    "region": "grid zone of MGRS; all for their sum",
    "sites": "number of sites",
    "sites_without_interval": "sites that no day shows whole: they count with their outline, as if that were exact",
    "split_from": "slumps of earlier years that the slump overlapped in its first year",
    "merged_into": "slump that this one merged into",
    **REVIEW_DESCRIPTIONS,
}
"""Column -> description."""


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene and the version of its polygons.

    Attributes:
        scene_id: unique id.
        family: such as `sentinel2`.
        datetime: sensing time, UTC.
        data_version: version of its polygons; changes with them.
    """

    scene_id: str
    family: str
    datetime: dt.datetime
    data_version: str
