"""The columns of the inventory's tables: name -> type, and what they say; all tables have `geometry` beside."""

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
}

FOLLOWED_COLUMNS = {"slump_id": "str", "event": "str", "predecessors": "str"}
SLUMP_COLUMNS = {
    "slump_id": "str",
    "first_year": "int64",
    "last_year": "int64",
    "years_seen": "int64",
    "first_date": TIME,
    "last_date": TIME,
    "seen": "int64",
    "observable": "int64",
    "first_area_ha": "float64",
    "last_area_ha": "float64",
    "split_from": "str",
    "merged_into": "str",
}

MEANINGS = {
    "site_id": "where and in which year the first scene saw it; unique",
    "year": "of the scenes",
    "lon": "degrees east of a point inside",
    "lat": "degrees north of a point inside",
    "area_ha": "hectares within the outline, in an equal-area projection (EPSG:6931)",
    "seen": "k: scenes that have a detection of it",
    "observable": "n: scenes whose valid area covers it, or that have a detection of it",
    "days_seen": "different days (UTC) of the scenes that have seen it",
    "days_observable": "different days (UTC) of the scenes that could see it",
    "first_date": "of the first scene that has seen it, UTC",
    "last_date": "of the last scene that has seen it, UTC",
    "mean_probability": "mean over its detections, each with the weight of its area",
    "seen_whole": "at least one detection is not cut by the border of its scene's valid area",
    "families": "of the scenes that have seen it",
    "scenes": "ids of the scenes that have seen it, by time",
    "scenes_without": "ids of the scenes that could have seen it and did not, by time",
    "slump_id": "the same in all years: the site_id of the first year",
    "event": "new, continued, split, merged, or split and merged, compared with earlier years",
    "predecessors": "slumps of earlier years that the site overlaps",
    "first_year": "in which it was seen",
    "last_year": "in which it was seen",
    "years_seen": "how many years have seen it",
    "first_area_ha": "hectares in the first year",
    "last_area_ha": "hectares in the last year",
    "split_from": "slumps of earlier years that it overlapped when it was new",
    "merged_into": "the slump that goes on where this one was",
}
"""Column -> what it says."""
