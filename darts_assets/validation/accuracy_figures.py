"""Figures of a comparison from the outcomes of its objects: precision, recall, F1 and agreement of areas."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from darts_assets.review.precision import wilson
from darts_assets.validation.accuracy_parameters import AccuracyParameters
from darts_assets.validation.block_bootstrap import LEAST_BLOCKS, block_intervals
from darts_assets.validation.outcomes import (
    AREAS,
    COUNTS,
    Comparison,
    Period,
    outcomes,
    rule_sums,
    size_class_names,
)

_RULE_COUNTS = ("ours", "ours_hit", "reference", "reference_hit")
SHARES = ("recall", "precision", "f1")
AREA_SHARES = ("area_iou", "area_ratio", "area_recall", "area_precision", "matched_iou", "matched_ratio")
FIGURE_COLUMNS = {
    **dict.fromkeys(COUNTS, "int64"),
    **{f"{name}{end}": "float64" for name in SHARES for end in ("", "_low", "_high")},
    "specificity": "float64",
    **{f"{name}_ha": "float64" for name in AREAS},
    **{f"{name}{end}": "float64" for name in AREA_SHARES for end in ("", "_low", "_high")},
    "blocks": "int64",
}
"""Columns of the tables by period, region and size after the name of the row; NaN where undefined."""

RULE_COLUMNS = {
    "rule": "str",
    "matching": "str",
    **dict.fromkeys(("reference", "reference_hit", "ours", "ours_hit"), "int64"),
    **{f"{name}{end}": "float64" for name in SHARES for end in ("", "_low", "_high")},
}
"""Columns of the table by rule."""

FIGURE_DESCRIPTIONS = {
    "reference": "slumps of the reference that count: on mapped ground and observed",
    "reference_hit": "those that one of ours matches",
    "misses": "those that none of ours matches",
    "split": "those that several of ours match",
    "not_observed": "slumps of the reference that were not observed; they do not count",
    "unmapped_reference": "slumps of the reference outside of the extent; they do not count",
    "ours": "our objects that count: on mapped ground, a hit or a false alarm; 0 without an extent",
    "ours_hit": "our objects that match a slump of the reference",
    "false_alarms": "our objects on mapped ground that match nothing",
    "merged": "hits that match several slumps of the reference",
    "unmapped_ours": "our objects that are not on mapped ground; they do not count",
    "other_date": "our objects that match only slumps of other years; they do not count",
    "on_ignored": "our objects that match only ignored outlines; they do not count",
    "on_negative": "our objects that are not on mapped ground, but match a negative",
    "negatives": "observed negatives of the reference",
    "negatives_hit": "those that one of ours matches, which matches no slump",
    "recall": "reference_hit / reference",
    "precision": "ours_hit / ours",
    "f1": "harmonic mean of precision and recall",
    "specificity": "1 - negatives_hit / negatives",
    "area_reference_ha": "area of the reference's slumps that count, on mapped ground, ha",
    "area_ours_ha": "area of our objects that count, on mapped ground, ha",
    "area_shared_ha": "area of the reference's slumps that lies within ours, ha",
    "area_reference_hit_ha": "as area_reference_ha, of hits",
    "area_ours_hit_ha": "as area_ours_ha, of hits",
    "area_shared_hit_ha": "as area_shared_ha, of hits",
    "area_iou": "shared area / area of the union",
    "area_ratio": "area of ours / area of the reference",
    "area_recall": "shared area / area of the reference",
    "area_precision": "shared area / area of ours",
    "matched_iou": "as area_iou, of hits",
    "matched_ratio": "as area_ratio, of hits",
    "blocks": "blocks with objects, from which the intervals are computed",
    "..._low, ..._high": "bootstrap interval of 95 %",
}
"""Column -> meaning."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Result of a comparison.

    Attributes:
        ours: our objects in each period: `LAYER_COLUMNS` and polygons in EPSG:6931.
        reference: slumps and negatives of the reference, likewise.
        total: one row: `FIGURE_COLUMNS` over all periods.
        by_rule: `RULE_COLUMNS`, for each rule with matches of `many` and of `one` to one.
        by_period: `period` and `FIGURE_COLUMNS`; likewise `by_region` and `by_size`, where an object of ours counts in
            the class of its own area and a slump of the reference in that of its own.
        periods: the compared periods.
        has_extent: whether it is known what the reference has mapped.
        has_coverage: whether it is known what was observed.
    """

    ours: gpd.GeoDataFrame
    reference: gpd.GeoDataFrame
    total: pd.DataFrame
    by_rule: pd.DataFrame
    by_period: pd.DataFrame
    by_region: pd.DataFrame
    by_size: pd.DataFrame
    periods: list[Period]
    has_extent: bool
    has_coverage: bool

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of figures by name."""
        return {name: getattr(self, name) for name in ("total", "by_rule", "by_period", "by_region", "by_size")}


def accuracy(comparison: Comparison) -> Accuracy:
    """Compare our objects with a reference; rules and columns are in the README of the room.

    Args:
        comparison: both sides and the parameters.

    Raises:
        SettingsError: if the years of both sides do not meet.
    """
    parameters, periods = comparison.parameters, comparison.periods()
    results = [outcomes(comparison, period) for period in periods]
    sums = pd.concat([result.sums for result in results], ignore_index=True)
    ours, reference = (
        gpd.GeoDataFrame(pd.concat([getattr(result, side) for result in results], ignore_index=True))
        for side in ("ours", "reference")
    )
    return Accuracy(
        ours,
        reference,
        _table([figures(sums, parameters)]),
        _by_rule(sums, parameters),
        _grouped(sums, "period", [str(period) for period in periods], parameters),
        _grouped(sums, "region", sorted(set(sums["region"]) - {""}), parameters),
        _grouped(sums, "size_class", size_class_names(parameters.size_classes), parameters),
        periods,
        comparison.extent is not None,
        comparison.observed is not None,
    )


def figures(sums: pd.DataFrame, parameters: AccuracyParameters) -> dict[str, float]:
    """`FIGURE_COLUMNS` of some objects.

    Args:
        sums: rows of `PeriodOutcomes.sums`.
        parameters: `resamples` and `seed`.
    """
    names = (*COUNTS, *AREAS)
    counting = sums[(sums[["ours", "reference"]] > 0).any(axis=1)]
    values = {name: counting[name].to_numpy() for name in names}
    totals = {name: sums[name].to_numpy().sum(keepdims=True) for name in names}
    blocks = counting["block"].to_numpy(dtype=object)
    row = {name: float(totals[name][0]) for name in COUNTS}
    row |= _with_intervals(
        _shares, totals, values, blocks, {"recall": int(row["reference"]), "precision": int(row["ours"])}, parameters
    )
    row["specificity"] = float(1 - _ratio(totals["negatives_hit"], totals["negatives"])[0])
    row |= {f"{name}_ha": float(totals[name][0]) / 1e4 for name in AREAS}
    if not totals["ours"][0]:
        row |= dict.fromkeys(("area_ours_ha", "area_ours_hit_ha"), np.nan)
    row["blocks"] = len(set(blocks))
    return row


def _shares(sums: Mapping[str, Values]) -> dict[str, Values]:
    """Precision, recall, F1 and shares of areas from sums."""
    ours = np.where(sums["ours"] > 0, sums["area_ours"], np.nan)  # of an unknown extent there are no areas of ours
    ours_hit = np.where(sums["ours"] > 0, sums["area_ours_hit"], np.nan)
    shared, reference = sums["area_shared"], sums["area_reference"]
    hit, shared_hit = sums["area_reference_hit"], sums["area_shared_hit"]
    return _object_shares(*(sums[name] for name in ("ours", "ours_hit", "reference", "reference_hit"))) | {
        "area_iou": _ratio(shared, ours + reference - shared),
        "area_ratio": _ratio(ours, reference),
        "area_recall": _ratio(shared, reference),
        "area_precision": _ratio(shared, ours),
        "matched_iou": _ratio(shared_hit, ours_hit + hit - shared_hit),
        "matched_ratio": _ratio(ours_hit, hit),
    }


def _object_shares(ours: Values, ours_hit: Values, reference: Values, reference_hit: Values) -> dict[str, Values]:
    recall, precision = _ratio(reference_hit, reference), _ratio(ours_hit, ours)
    both = precision + recall
    f1 = np.where(both == 0, 0.0, _ratio(2 * precision * recall, both))
    return {"recall": recall, "precision": precision, "f1": f1}


def _ratio(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _with_intervals(
    shares: Callable[[Mapping[str, Values]], dict[str, Values]],
    totals: Mapping[str, Values],
    values: Mapping[str, Values],
    blocks: npt.NDArray[np.object_],
    trials: Mapping[str, int],
    parameters: AccuracyParameters,
) -> dict[str, float]:
    """Shares with the ends of their intervals; `trials` are the numbers of objects of shares that are proportions."""
    intervals = block_intervals(blocks, values, shares, parameters.resamples, parameters.seed)
    row: dict[str, float] = {}
    for name, (share,) in shares(totals).items():
        low, high = intervals[name] if np.isfinite(share) else (np.nan, np.nan)
        if name in trials and share in (0, 1) and len(set(blocks)) >= LEAST_BLOCKS:
            # All resamples agree: that nothing was missed does not mean that nothing can be.
            low, high = wilson(round(share * trials[name]), trials[name])
        row |= {name: float(share), f"{name}_low": low, f"{name}_high": high}
    return row


def _by_rule(sums: pd.DataFrame, parameters: AccuracyParameters) -> pd.DataFrame:
    """All rules at once, so that they are compared in the same resamples."""
    cases = {(str(rule), each): rule_sums(rule, each) for rule in parameters.overlap_rules for each in ("many", "one")}
    names = [name for case in cases.values() for name in case]
    counting = sums[(sums[names] > 0).any(axis=1)]
    totals = {name: sums[name].to_numpy().sum(keepdims=True) for name in names}
    numbers = {
        case: dict(zip(_RULE_COUNTS, (int(totals[n][0]) for n in of), strict=True)) for case, of in cases.items()
    }
    trials = {
        f"{share} {case}": count
        for case, counts in numbers.items()
        for share, count in (("recall", counts["reference"]), ("precision", counts["ours"]))
    }

    def shares(values: Mapping[str, Values]) -> dict[str, Values]:
        return {
            f"{share} {case}": value
            for case, of in cases.items()
            for share, value in _object_shares(*(values[name] for name in of)).items()
        }

    values = {name: counting[name].to_numpy() for name in names}
    blocks = counting["block"].to_numpy(dtype=object)
    row = _with_intervals(shares, totals, values, blocks, trials, parameters)
    rows = [
        {"rule": case[0], "matching": case[1]}
        | counts
        | {f"{share}{end}": row[f"{share} {case}{end}"] for share in SHARES for end in ("", "_low", "_high")}
        for case, counts in numbers.items()
    ]
    return pd.DataFrame(rows, columns=list(RULE_COLUMNS)).astype(RULE_COLUMNS)


def _grouped(sums: pd.DataFrame, by: str, names: list[str], parameters: AccuracyParameters) -> pd.DataFrame:
    groups = dict(list(sums.groupby(by)))
    table = _table([figures(groups.get(name, sums.iloc[:0]), parameters) for name in names])
    table.insert(0, by, pd.Series(names, dtype="str"))
    return table


def _table(rows: list[dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(FIGURE_COLUMNS)).astype(FIGURE_COLUMNS)
