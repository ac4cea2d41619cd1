"""Estimates from a reviewed sample: area of thaw slumps and accuracy of the inventory, by region and in total.

A point lies in a slump if the reviewers decided `yes`, and in none if `no`. Points that are `unsure` do not count for
the estimates, as if they were missing at random within their stratum; `area_if_unsure_no_ha` and
`area_if_unsure_yes_ha` are the areas if none of them lay in a slump, or all did.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd

from darts_assets.area_estimation.strata import DETECTED, NOT_DETECTED
from darts_assets.area_estimation.stratified_estimators import (
    Estimate,
    StratifiedSample,
    Z,
    area_proportion,
    linear_estimate,
    overall_accuracy,
    producers_accuracy,
    users_accuracy,
)

TOTAL = "total"
"""Name of the row of all regions."""

REFERENCE = ("slump", "no_slump")
"""True classes, in the order of the classes of the map."""

_MAP_CLASSES = (DETECTED, NOT_DETECTED)
_SLUMP, _OTHER = 0, 1
_DECIDED = {"yes": _SLUMP, "no": _OTHER}

_COUNTS = dict.fromkeys(("points", "yes", "no", "unsure", "open"), "int64")

AREA_COLUMNS = {
    "region": "str",
    **_COUNTS,
    "observed_ha": "float64",
    "mapped_ha": "float64",
    **dict.fromkeys(("area_ha", "error_ha", "low_ha", "high_ha", "margin_ha"), "float64"),
    "area_if_unsure_no_ha": "float64",
    "area_if_unsure_yes_ha": "float64",
}
ACCURACY_COLUMNS = {"region": "str", "measure": "str", **dict.fromkeys(("value", "error", "low", "high"), "float64")}
STRATUM_REPORT_COLUMNS = {
    "stratum": "str",
    "region": "str",
    "map_class": "str",
    "area_ha": "float64",
    "weight": "float64",
    **_COUNTS,
    **dict.fromkeys(("share", "error"), "float64"),
}
MATRIX_COLUMNS = {
    "region": "str",
    "map_class": "str",
    **dict.fromkeys(REFERENCE, "int64"),
    **{f"area_{name}": "float64" for name in REFERENCE},
}


@dataclass(frozen=True, slots=True)
class AreaReport:
    """Estimates of a sample.

    Attributes:
        areas: `AREA_COLUMNS`, a row for each region and `total`.
        accuracies: `ACCURACY_COLUMNS`: user's and producer's accuracy of both classes and overall accuracy, likewise.
        strata: `STRATUM_REPORT_COLUMNS`.
        matrix: `MATRIX_COLUMNS`: points by class of the map and true class, and the estimated proportions of area.
        points: the points with `verdict`, `reviewers`, `agreement` and `result`: `hit`, `false_alarm`, `miss`,
            `correct_rejection`, `unsure` or `open`.
    """

    areas: pd.DataFrame
    accuracies: pd.DataFrame
    strata: pd.DataFrame
    matrix: pd.DataFrame
    points: gpd.GeoDataFrame

    @property
    def total(self) -> Mapping[str, float]:
        """The row of `areas` of all regions."""
        (row,) = self.areas[self.areas["region"] == TOTAL].drop(columns="region").to_dict("records")
        return {str(name): float(value) for name, value in row.items()}


def area_report(points: gpd.GeoDataFrame, strata: pd.DataFrame, judged: pd.DataFrame) -> AreaReport:
    """The estimates.

    Args:
        points: of `draw_sample`.
        strata: of `draw_sample`.
        judged: verdicts by point: `sample_id`, `verdict` (`yes`, `no` or `unsure`), `reviewers`, `agreement`; other
            points are open. Rows about points of other samples are ignored.

    Returns:
        The report; an estimate is NaN where a stratum has no decided point, and its error where it has only one.
    """
    merged = points.drop(columns="geometry").merge(judged, on="sample_id", how="left")
    merged["verdict"] = merged["verdict"].fillna("").astype("str")
    merged["reviewers"] = merged["reviewers"].fillna(0).astype("int64")
    counts = pd.crosstab(merged["stratum"], merged["verdict"].replace("", "open"))
    counts = counts.reindex(index=strata["stratum"], columns=["yes", "no", "unsure", "open"], fill_value=0)
    table = pd.DataFrame(strata.drop(columns="geometry", errors="ignore")).reset_index(drop=True)
    table = table.assign(**{str(name): counts[name].to_numpy() for name in counts})
    table["points"] = table[["yes", "no", "unsure", "open"]].sum(axis=1)
    regions = [(region, table[table["region"] == region]) for region in sorted(set(table["region"]))]
    every = [*regions, (TOTAL, table)]
    shares = [linear_estimate(np.ones(1), row[:1], row[:1] + row[1:]) for row in table[["yes", "no"]].to_numpy()]
    rows = table.assign(share=[each.value for each in shares], error=[each.error for each in shares])
    merged["result"] = [
        _result(map_class, verdict) for map_class, verdict in zip(merged["map_class"], merged["verdict"], strict=True)
    ]
    return AreaReport(
        _typed([_area_row(region, part) for region, part in every], AREA_COLUMNS),
        _typed([row for region, part in every for row in _accuracy_rows(region, part)], ACCURACY_COLUMNS),
        rows[list(STRATUM_REPORT_COLUMNS)].astype(STRATUM_REPORT_COLUMNS),
        _typed([row for region, part in every for row in _matrix_rows(region, part)], MATRIX_COLUMNS),
        gpd.GeoDataFrame(merged, geometry=points.geometry.to_numpy(), crs=points.crs),
    )


def _typed(rows: list[dict[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _sample(table: pd.DataFrame, **more: str) -> StratifiedSample:
    """The decided points of strata; `unsure="yes"` or `"no"` counts those that are unsure as such."""
    counts = table[["yes", "no"]].to_numpy(dtype=np.int64)
    if "unsure" in more:
        counts[:, _DECIDED[more["unsure"]]] += table["unsure"].to_numpy()
    classes = table["map_class"].map(_MAP_CLASSES.index).to_numpy(dtype=np.int64)
    return StratifiedSample(table["area_ha"].to_numpy(), classes, counts)


def _area_row(region: str, table: pd.DataFrame) -> dict[str, object]:
    hectares = float(table["area_ha"].sum())
    area = area_proportion(_sample(table), _SLUMP).scaled(hectares)
    bounds = {
        f"area_if_unsure_{verdict}_ha": area_proportion(_sample(table, unsure=verdict), _SLUMP).value * hectares
        for verdict in ("no", "yes")
    }
    return {
        "region": region,
        **{name: int(table[name].sum()) for name in _COUNTS},
        "observed_ha": hectares,
        "mapped_ha": float(table.loc[table["map_class"] == DETECTED, "area_ha"].sum()),
        "area_ha": area.value,
        "error_ha": area.error,
        "low_ha": area.low,
        "high_ha": area.high,
        "margin_ha": Z * area.error,
        **bounds,
    }


def _accuracy_rows(region: str, table: pd.DataFrame) -> list[dict[str, object]]:
    sample = _sample(table)
    measures: dict[str, Estimate] = {
        "users_accuracy_slump": users_accuracy(sample, _SLUMP),
        "producers_accuracy_slump": producers_accuracy(sample, _SLUMP),
        "users_accuracy_no_slump": users_accuracy(sample, _OTHER),
        "producers_accuracy_no_slump": producers_accuracy(sample, _OTHER),
        "overall_accuracy": overall_accuracy(sample),
    }
    return [
        {"region": region, "measure": name, "value": one.value, "error": one.error, "low": one.low, "high": one.high}
        for name, one in measures.items()
    ]


def _matrix_rows(region: str, table: pd.DataFrame) -> list[dict[str, object]]:
    shares = _sample(table).error_matrix()
    return [
        {
            "region": region,
            "map_class": name,
            REFERENCE[_SLUMP]: int(rows["yes"].sum()),
            REFERENCE[_OTHER]: int(rows["no"].sum()),
            **{f"area_{true}": shares[number, column] for column, true in enumerate(REFERENCE)},
        }
        for number, name in enumerate(_MAP_CLASSES)
        for rows in [table[table["map_class"] == name]]
    ]


def _result(map_class: str, verdict: str) -> str:
    if verdict not in _DECIDED:
        return verdict or "open"
    if map_class == DETECTED:
        return "hit" if verdict == "yes" else "false_alarm"
    return "miss" if verdict == "yes" else "correct_rejection"
