"""The tables behind the web map: a point and an outline per site, and the observed areas of scenes.

All are in `MAP_CRS`, so that the page projects nothing but the coastlines.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

MAP_CRS = "EPSG:3413"
"""Polar stereographic, true at 70 degrees north, 45 degrees west at the bottom: that of ArcticDEM."""

VERDICTS = ("", "yes", "no", "unsure", "redraw")
"""Verdicts of reviewers; `points.parquet` has their positions."""

UNKNOWN = 255
"""Percentage of a site without probability."""

_SITE_COLUMNS = (
    "slump_id", "site_id", "year", "event", "lon", "lat", "area_ha", "seen", "observable", "days_seen",
    "days_observable", "first_date", "last_date", "mean_probability", "seen_whole", "families", "scenes",
    "scenes_without", "reviewed", "verdict", "reviewers", "agreement",
)  # fmt: skip
"""Columns of the inventory in the cards; those of reviews may be missing."""

_CHIP_COLUMNS = ["year", "scene", "datetime", "detected", "key", "offset", "length", "width_m"]


def ordered(sites: "gpd.GeoDataFrame") -> "gpd.GeoDataFrame":
    """Sites with a column `slump`: the number of their slump, from 0, along a Hilbert curve.

    Args:
        sites: `rts_sites`: sites of all years, in any CRS.

    Returns:
        The sites in `MAP_CRS`, by slump and year; neighbours follow each other, which compresses well.
    """
    sites = sites.to_crs(MAP_CRS).sort_values(["slump_id", "year"], ignore_index=True)
    if sites.empty:
        return sites.assign(slump=np.array([], dtype=np.int32))
    first = sites.drop_duplicates("slump_id")
    along = first["slump_id"].iloc[np.argsort(first.hilbert_distance().to_numpy(), kind="stable")]
    numbers = {slump: number for number, slump in enumerate(along)}
    sites["slump"] = sites["slump_id"].map(numbers).astype(np.int32)
    return sites.sort_values(["slump", "year"], ignore_index=True)


def points(sites: "gpd.GeoDataFrame") -> "pd.DataFrame":
    """One row of small integers per site, for the overview.

    Args:
        sites: of `ordered`.

    Returns:
        `slump`; `year`; `x` and `y` of the site's point in metres; `probability` in percent, 255 if unknown; `seen` and
        `observable` scenes; `verdict`, a position in `VERDICTS`; all int32.
    """
    import geopandas as gpd
    import pandas as pd

    place = gpd.GeoSeries(gpd.points_from_xy(sites["lon"], sites["lat"]), crs="EPSG:4326").to_crs(MAP_CRS)
    verdict = sites["verdict"] if "verdict" in sites else pd.Series("", index=sites.index)
    table = {
        "slump": sites["slump"],
        "year": sites["year"],
        "x": place.x.to_numpy().round(),
        "y": place.y.to_numpy().round(),
        "probability": (100 * sites["mean_probability"]).round().fillna(UNKNOWN),
        "seen": sites["seen"],
        "observable": sites["observable"],
        "verdict": verdict.map(VERDICTS.index),
    }
    return pd.DataFrame(table).astype(np.int32)


def outlines(sites: "gpd.GeoDataFrame", chips: "pd.DataFrame | None" = None) -> "gpd.GeoDataFrame":
    """One feature per site, with what its card shows.

    Args:
        sites: of `ordered`.
        chips: `inventory/chips`: a row per slump and year with a picture.

    Returns:
        Columns of the inventory, `slump`, and `chips`: JSON, the chips of the slump in all years; dates are ISO 8601.
    """
    pictures = _chips_of(chips) if chips is not None else {}
    columns = ["slump", *(name for name in _SITE_COLUMNS if name in sites), "geometry"]
    table = sites[columns].copy()
    for name in ("first_date", "last_date"):
        table[name] = table[name].dt.strftime("%Y-%m-%d")
    table["chips"] = table["slump_id"].map(pictures).fillna("[]")
    return table


def _chips_of(chips: "pd.DataFrame") -> dict[str, str]:
    """Slump -> its chips as JSON, by year."""
    chips = chips.sort_values(["slump_id", "year"])
    times = chips["datetime"]
    chips = chips.assign(datetime=times.dt.strftime("%Y-%m-%d") if hasattr(times, "dt") else times.astype(str).str[:10])
    return {
        str(slump): json.dumps(json.loads(rows[_CHIP_COLUMNS].to_json(orient="records")), separators=(",", ":"))
        for slump, rows in chips.groupby("slump_id")
    }


def sample_points(points: "gpd.GeoDataFrame", pictures: "pd.DataFrame", key: str) -> list[dict[str, Any]]:
    """The points of a sample as the page shows them: without their strata, which would bias reviewers.

    Args:
        points: `sample_id`, `lon` and `lat` in degrees, and points in any CRS.
        pictures: `sample_id`, `scene`, `datetime`, `offset`, `length` (0 without a picture) and `width_m`.
        key: of the file of pictures in the store.

    Returns:
        By `sample_id`: it, `lon`, `lat`, `x` and `y` in `MAP_CRS`, metres. If a scene observes the point also `scene`,
        `datetime` (ISO 8601) and `length`, and with a picture `key`, `offset` and `width_m`.
    """
    views = {row["sample_id"]: row for row in pictures.to_dict("records")}
    ordered = points.sort_values("sample_id").to_crs(MAP_CRS)
    records = []
    for row in ordered.itertuples():
        record = {"sample_id": row.sample_id, "lon": row.lon, "lat": row.lat}
        record |= {"x": round(row.geometry.x, 2), "y": round(row.geometry.y, 2)}
        if view := views.get(row.sample_id):
            record |= {
                "scene": view["scene"],
                "datetime": f"{view['datetime']:%Y-%m-%d}",
                "length": int(view["length"]),
            }
            if view["length"]:
                record |= {"key": key, "offset": int(view["offset"]), "width_m": float(view["width_m"])}
        records.append(record)
    return records


def observed_areas(
    scenes: "Mapping[int, gpd.GeoDataFrame]", items: Mapping[tuple[str, str], str]
) -> "gpd.GeoDataFrame":
    """One feature per scene: the hull of its observed area.

    Args:
        scenes: year -> `scenes` of the inventory of that year.
        items: family and scene -> path of its STAC item in the store.

    Returns:
        `scene_id`, `family`, `datetime` (ISO 8601), `year`, `item` (empty without one) in `MAP_CRS`. Scenes that
        observe nothing are left out.
    """
    import geopandas as gpd
    import pandas as pd

    tables = [table.assign(year=year) for year, table in sorted(scenes.items()) if len(table)]
    columns = ["scene_id", "family", "datetime", "year", "item", "geometry"]
    if not tables:
        return gpd.GeoDataFrame({name: [] for name in columns}, geometry="geometry", crs=MAP_CRS)
    table = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs=tables[0].crs)
    table = table[~(table.geometry.is_empty | table.geometry.isna())].to_crs(MAP_CRS)
    table["item"] = [items.get(pair, "") for pair in zip(table["family"], table["scene_id"], strict=True)]
    table["datetime"] = table["datetime"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table[columns].reset_index(drop=True)
