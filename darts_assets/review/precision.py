"""Precision of slumps from the verdicts of reviewers: by probability, by region, and above thresholds.

Each slump counts once, with the mean probability of its last site. `yes` and `redraw` count as slumps, `no` as none;
`unsure` counts as reviewed, but not for the precision. Intervals are Wilson's, of 95 %.

The figures are unbiased if the reviewed slumps are a random sample of each bin, or all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import obstore
import pandas as pd

from darts_assets.geo.grid_zones import region_of
from darts_assets.review.precision_parameters import PrecisionParameters
from darts_assets.stores.publish import Manifest, Place

COLUMNS = {
    **dict.fromkeys(("slumps", "reviewed", "yes", "redraw", "no", "unsure"), "int64"),
    **dict.fromkeys(("share_reviewed", "precision", "low", "high"), "float64"),
}
"""Columns of the tables after the name of the row: numbers of slumps, then fractions; NaN where nothing is decided."""

_Z = NormalDist().inv_cdf(0.975)
_DIGITS = 9  # of bin edges


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """Precision of the slumps of an inventory.

    Attributes:
        bins: `probability` (lower edge) and `COLUMNS`, for bins with slumps.
        regions: `region` (grid zone such as `08W`) and `COLUMNS`.
        thresholds: `threshold` and `COLUMNS`: of the slumps with at least this probability; from the lowest bin to the
            highest one with slumps.
        total: `COLUMNS` of all slumps.
        threshold: lowest threshold whose precision is at least the wanted one; None if there is none.
        safe_threshold: lowest threshold for which even the lower end of the interval is; None if there is none.
    """

    bins: pd.DataFrame
    regions: pd.DataFrame
    thresholds: pd.DataFrame
    total: "pd.Series[float]"
    threshold: float | None
    safe_threshold: float | None


def precision_report(sites: pd.DataFrame, parameters: PrecisionParameters | None = None) -> PrecisionReport:
    """Precision from judged sites.

    Args:
        sites: `slump_id`, `year`, `lon`, `lat` (degrees), `mean_probability`, and the columns of `judge`.
        parameters: wanted precision and width of bins.
    """
    parameters = parameters or PrecisionParameters()
    slumps = sites.sort_values("year").drop_duplicates("slump_id", keep="last")
    places = zip(slumps["lon"], slumps["lat"], strict=True)
    width, probability = parameters.bin_width, slumps["mean_probability"].to_numpy(dtype=np.float64)
    # The last bin contains 1.
    edges = np.round(np.arange(0, 1 - 1e-9, width), _DIGITS)
    bins = edges[np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, None)]
    rows = slumps.assign(region=[region_of(None, lon, lat) for lon, lat in places], probability=bins)
    used = edges[(edges >= bins.min(initial=2)) & (edges <= bins.max(initial=-1))]
    thresholds = pd.DataFrame(
        [_figures(rows[rows["probability"] >= edge]) for edge in used], columns=list(COLUMNS)
    ).astype(COLUMNS)
    thresholds.insert(0, "threshold", used)
    return PrecisionReport(
        _grouped(rows, "probability"),
        _grouped(rows, "region"),
        thresholds,
        pd.Series(_figures(rows)),
        _lowest(thresholds, "precision", parameters.wanted_precision),
        _lowest(thresholds, "low", parameters.wanted_precision),
    )


def write_report(place: Place, report: PrecisionReport, metadata: Mapping[str, Any]) -> Manifest:
    """Publish the tables as `by_probability.csv`, `by_region.csv` and `above_threshold.csv`."""
    tables = {"by_probability": report.bins, "by_region": report.regions, "above_threshold": report.thresholds}
    with place.new_version() as version:
        for name, table in tables.items():
            content = table.to_csv(index=False, float_format="%.4f").encode()
            obstore.put(version.location.objects(), f"{name}.csv", content)
        manifest = Manifest(dict.fromkeys([f"{name}.csv" for name in tables], version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest


def as_text(report: PrecisionReport, wanted: float) -> str:
    """The report for a terminal."""
    parts = [
        table.to_string(index=False, float_format="{:.3f}".format, na_rep="")
        for table in (report.bins, report.regions, report.thresholds)
    ]
    total = report.total
    lines = [f"{total['reviewed']:.0f} of {total['slumps']:.0f} slumps reviewed"]
    if total["precision"] == total["precision"]:
        lines[0] += f"; precision {total['precision']:.3f} ({total['low']:.3f} to {total['high']:.3f})"
        safe = ", also at the lower end of its interval"
        for threshold, addition in ((report.threshold, ""), (report.safe_threshold, safe)):
            which = "by no threshold" if threshold is None else f"from a mean probability of {threshold:.2f}"
            lines.append(f"a precision of {wanted:g}{addition}: {which}")
    return "\n\n".join(["\n".join(lines), *parts])


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; NaN without trials."""
    if not trials:
        return np.nan, np.nan
    share, z2 = successes / trials, _Z**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    counts = {name: int((rows["verdict"] == name).sum()) for name in ("yes", "redraw", "no", "unsure")}
    right, decided = counts["yes"] + counts["redraw"], counts["yes"] + counts["redraw"] + counts["no"]
    reviewed = int(rows["reviewed"].sum())
    low, high = wilson(right, decided)
    return {
        "slumps": len(rows),
        "reviewed": reviewed,
        **counts,
        "share_reviewed": reviewed / len(rows) if len(rows) else np.nan,
        "precision": right / decided if decided else np.nan,
        "low": low,
        "high": high,
    }


def _grouped(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    table = pd.DataFrame([{by: name, **_figures(group)} for name, group in rows.groupby(by)], columns=[by, *COLUMNS])
    return table.astype(COLUMNS).sort_values(by, ignore_index=True)


def _lowest(thresholds: pd.DataFrame, column: str, wanted: float) -> float | None:
    enough = thresholds.loc[thresholds[column] >= wanted, "threshold"]
    return float(enough.iloc[0]) if len(enough) else None
