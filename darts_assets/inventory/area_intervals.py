"""Intervals of areas, estimated from how much the areas of a site differ between days.

Model: on each day that shows a site whole, its detected area is the site's area plus an independent normal error. The
error is the mean displacement of the outline times its length, so sites of all sizes have comparable displacements.
Most sites have few days. Their variances are therefore moderated as by Smyth (2004, doi 10.2202/1544-6115.1027): the
squared displacement s2 of a site with d degrees of freedom becomes `(d0 s0^2 + d s2) / (d0 + d)`, with d0 + d degrees
of freedom, where s0 and d0 come from all sites of the year. The interval is that of the t distribution.

An error that all days share (the model's bias) is invisible here.
"""

import math
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy import special, stats

from darts_assets.geo.grid_zones import region_of
from darts_assets.inventory.table_schemas import AREA_COLUMNS
from darts_assets.review.review_columns import REJECTED

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of all intervals."""

BOUNDARY_ERROR = 5.0
"""Metres: standard deviation of the displacement of an outline if the sites of a year cannot show it. Half a pixel of
Sentinel-2, as for outlines of glaciers (Paul et al. 2013, doi 10.3189/2013AoG63A296)."""

BOUNDARY_DEGREES = 6.0
"""Degrees of freedom of `BOUNDARY_ERROR`."""

LEAST_DEGREES = 5.0
"""Fewer degrees of freedom count as that in sums: the kurtosis of a t distribution is finite only above 4."""

LEAST_DISPLACEMENT = 0.1
"""Metres; standard deviations are not below that of rounded coordinates and sub-pixel shifts."""

MOST_DEGREES = 10_000.0
"""Stands for infinity, which JSON lacks; its t quantile is the normal one to four digits."""

_FEWEST_SITES = 3
_ALL = "all"


def prior_displacement(displacements: Floats, degrees: Floats) -> tuple[float, float]:
    """Standard deviation s0 (metres) and degrees of freedom d0 of the prior of displacements.

    Moments of log variances (Smyth 2004, section 6.2). With fewer than three sites with two days or more,
    `BOUNDARY_ERROR` and `BOUNDARY_DEGREES`.

    Args:
        displacements: standard deviation of each site, metres (n,).
        degrees: its degrees of freedom (n,); sites with 0 do not count.
    """
    known = degrees > 0
    if known.sum() < _FEWEST_SITES:
        return BOUNDARY_ERROR, BOUNDARY_DEGREES
    half = degrees[known] / 2
    logs = 2 * np.log(np.maximum(displacements[known], LEAST_DISPLACEMENT))
    logs = logs - special.digamma(half) + np.log(half)
    mean = math.fsum(logs) / len(logs)
    spread = math.fsum((logs - mean) ** 2) / (len(logs) - 1) - math.fsum(special.polygamma(1, half)) / len(logs)
    if spread <= special.polygamma(1, MOST_DEGREES / 2):
        return math.exp(mean / 2), MOST_DEGREES
    d0 = min(2 * _inverse_trigamma(spread), MOST_DEGREES)
    return math.exp((mean + special.digamma(d0 / 2) - math.log(d0 / 2)) / 2), d0


def _inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def with_intervals(sites: pd.DataFrame) -> pd.DataFrame:
    """The sites of a year with `area_se_ha`, `area_df`, `area_low_ha` and `area_high_ha`; NaN without `area_days`.

    Args:
        sites: `area_days`, `area_mean_ha`, `area_sd_ha` and the outline in `EQUAL_AREA`.
    """
    days = sites["area_days"].to_numpy(dtype=np.float64)
    length = shapely.length(sites["geometry"].to_numpy())
    with np.errstate(invalid="ignore", divide="ignore"):
        degrees = np.maximum(days - 1, 0)
        own = np.where(degrees > 0, 1e4 * sites["area_sd_ha"].to_numpy() / length, 0)
        s0, d0 = prior_displacement(own, degrees)
        total = d0 + degrees
        variance = np.maximum((d0 * s0**2 + degrees * own**2) / total, LEAST_DISPLACEMENT**2)
        error = np.where(days > 0, np.sqrt(variance / days) * length / 1e4, np.nan)
    freedom = np.where(days > 0, np.minimum(total, MOST_DEGREES), np.nan)
    low, high = interval(sites["area_mean_ha"].to_numpy(), error, freedom)
    values = (error, freedom, np.maximum(low, 0), high)
    return sites.assign(**dict(zip(("area_se_ha", "area_df", "area_low_ha", "area_high_ha"), values, strict=True)))


def interval(estimate: Floats, error: Floats, degrees: Floats) -> tuple[Floats, Floats]:
    """Ends of the `LEVEL` interval of estimates with their standard errors and degrees of freedom (n,)."""
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * error
    return estimate - half, estimate + half


def combined(errors: Sequence[Floats], degrees: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Standard error and degrees of freedom of a sum or difference of independent estimates.

    The t distribution with the variance and the kurtosis of the sum of the summands' t distributions (Patil 1965, doi
    10.1093/biomet/52.1-2.267). A moderated variance is smaller than the expected one, which the sum needs.

    Args:
        errors: standard errors of each summand, any shape.
        degrees: degrees of freedom, likewise; below `LEAST_DEGREES` they count as that.
    """
    degrees = [np.maximum(each, LEAST_DEGREES) for each in degrees]
    variances = [error**2 * each / (each - 2) for error, each in zip(errors, degrees, strict=True)]
    parts = [variance**2 / (each - 4) for variance, each in zip(variances, degrees, strict=True)]
    variance = np.sum(variances, axis=0)
    freedom = np.minimum(4 + variance**2 / np.sum(parts, axis=0), MOST_DEGREES)
    return np.sqrt(variance * (freedom - 2) / freedom), freedom


def area_by_year(sites: gpd.GeoDataFrame, *, with_rejected: bool = False) -> pd.DataFrame:
    """Area of the sites per year and region, with its interval.

    Errors of different sites count as independent.

    Args:
        sites: `rts_sites`: sites of all years.
        with_rejected: whether sites with the verdict `no` count.

    Returns:
        Columns `AREA_COLUMNS`; for each year a row per region (grid zone of MGRS, such as `08W`) and one for `all`.
    """
    if "verdict" in sites and not with_rejected:
        sites = sites[sites["verdict"] != REJECTED]
    table = pd.DataFrame(sites.drop(columns="geometry")).sort_values(["year", "site_id"])
    table["region"] = [region_of(None, lon, lat) for lon, lat in zip(table["lon"], table["lat"], strict=True)]
    rows = []
    for year, of_year in table.groupby("year"):
        groups = [(_ALL, of_year), *of_year.groupby("region")]
        rows += [{"year": year, "region": region, **_total(group)} for region, group in groups]
    return pd.DataFrame(rows, columns=list(AREA_COLUMNS)).astype(AREA_COLUMNS)


def _total(sites: pd.DataFrame) -> dict[str, float]:
    """Sums over sites; those without an interval add their outline, and no variance."""
    usable = sites["area_se_ha"].notna().to_numpy()
    mean = np.where(usable, sites["area_mean_ha"], sites["area_ha"])
    error, degrees = (sites[name].to_numpy()[usable] for name in ("area_se_ha", "area_df"))
    total = {
        "sites": len(sites),
        "sites_without_interval": int((~usable).sum()),
        "area_ha": math.fsum(sites["area_ha"]),
    }
    if not usable.any():
        return {**total, "area_mean_ha": math.fsum(mean), "area_low_ha": math.nan, "area_high_ha": math.nan}
    low, high = interval(np.array(math.fsum(mean)), *combined(list(error), list(degrees)))
    ends = {"area_low_ha": max(float(low), 0.0), "area_high_ha": float(high)}
    return {**total, "area_mean_ha": math.fsum(mean), **ends}
