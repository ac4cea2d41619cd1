"""Change of a slump from one of its years to the next, against the uncertainty of both areas."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from darts_assets.inventory.area_intervals import combined, interval

_DAYS_PER_YEAR = 365.25

_STAIRS = 10.0
"""Metres; simplification by it turns the stairs of pixel edges (Sentinel-2 and finer) into straight lines."""

_ROUNDING = 0.05
"""Metres; points of two outlines that coincide differ by rounded coordinates."""

Shapes = npt.NDArray[np.object_]

CHANGES = ("change", "rate_ha_per_year", "rate_low_ha_per_year", "rate_high_ha_per_year", "retreat_m_per_year")


def with_changes(sites: pd.DataFrame, stable_share: float) -> pd.DataFrame:
    """Sites of all years with the columns `CHANGES`.

    A site with the event `continued` is compared with the slump's site before. The difference of their mean areas has
    the interval of `combined`. `change` is `grown` or `shrunk` if that does not contain 0; `stable` if it lies
    within `stable_share` of the earlier area; otherwise `uncertain`, and also if one of the years has no interval.
    Rates divide by the time between the middles of `first_date` and `last_date` of both years.

    The retreat of a grown site is the area outside the earlier outline, divided by the length of the earlier outline
    that borders it and by the time: the mean distance by which an edge advances, if that is small against its length.

    Args:
        sites: `slump_id`, `event`, `SITE_COLUMNS` and the outline in `EQUAL_AREA`.
        stable_share: fraction of the earlier area.

    Returns:
        The sites in the same order. Other events have an empty `change` and NaN.
    """
    ordered = sites.sort_values(["slump_id", "year"], kind="stable")
    same = (ordered["slump_id"].shift() == ordered["slump_id"]) & (ordered["event"] == "continued")
    after = np.flatnonzero(same.to_numpy())
    old, new = ordered.iloc[after - 1], ordered.iloc[after]
    years = _years(old, new)
    errors = [table["area_se_ha"].to_numpy() for table in (old, new)]
    error, degrees = combined(errors, [table["area_df"].to_numpy() for table in (old, new)])
    difference = new["area_mean_ha"].to_numpy() - old["area_mean_ha"].to_numpy()
    low, high = interval(difference, error, degrees)
    limit = stable_share * old["area_mean_ha"].to_numpy()
    cases = [low > 0, high < 0, (low >= -limit) & (high <= limit)]
    change = np.select(cases, ["grown", "shrunk", "stable"], "uncertain")
    retreat, grown = np.full(len(new), np.nan), change == "grown"
    shapes = (table["geometry"].to_numpy(dtype=object)[grown] for table in (old, new))
    retreat[grown] = advances(*shapes) / years[grown]
    figures = {"change": change}
    for name, values in zip(CHANGES[1:4], (difference, low, high), strict=True):
        figures[name] = values / years
    figures["retreat_m_per_year"] = retreat
    made = pd.DataFrame(figures, index=new.index).reindex(sites.index)
    return sites.assign(**made.assign(change=made["change"].fillna("")))


def advances(before: Shapes, after: Shapes) -> npt.NDArray[np.float64]:
    """Mean distances in metres by which outlines advance where they do; NaN if no more than 10 m of one do.

    The area of `after` outside `before`, divided by the length of the outline of `before` along it. Stairs of pixel
    edges are up to sqrt(2) longer than the edge that they follow and are straightened first.

    Args:
        before: polygons (n,), in metres.
        after: polygons (n,) of the later outlines.

    Returns:
        float64 (n,).
    """
    growth = shapely.difference(after, before)
    beside = shapely.intersection(shapely.boundary(before), shapely.buffer(growth, _ROUNDING))
    parts, of_outline = shapely.get_parts(beside, return_index=True)
    are_lines = shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING
    lines = np.full(len(before), shapely.MultiLineString(), dtype=object)
    shapely.multilinestrings(parts[are_lines], indices=of_outline[are_lines], out=lines)
    length = shapely.length(shapely.simplify(shapely.line_merge(lines), _STAIRS))
    area = shapely.area(growth)
    return np.divide(area, length, out=np.full(len(before), np.nan), where=(length > _STAIRS) & (area > 0))


def _years(old: pd.DataFrame, new: pd.DataFrame) -> npt.NDArray[np.float64]:
    middles = [
        (table["first_date"] + (table["last_date"] - table["first_date"]) / 2).to_numpy("datetime64[ms]")
        for table in (old, new)
    ]
    days = (middles[1] - middles[0]) / np.timedelta64(1, "D")
    return np.asarray(days, dtype=np.float64) / _DAYS_PER_YEAR
