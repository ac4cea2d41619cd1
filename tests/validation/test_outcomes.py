"""Which outcome each object has: mapped ground, coverage, dates, negatives, ignored outlines, years together."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.errors import SettingsError
from darts_assets.validation.accuracy_parameters import AccuracyParameters
from darts_assets.validation.outcomes import Comparison, outcomes, site_objects
from tests.validation.outlines import area, objects, square

GROUND = square(-1000, -1000, 20_000)
HALF_SEEN = square(0, 0) | square(200, 0)


def outcomes_of(
    ours: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, extent: Any = "ground", **options: Any
) -> tuple[dict[str, str], dict[str, str]]:
    """Outcome of each object of both sides, by id, in the only period."""
    parameters = AccuracyParameters(**options.pop("parameters", {}))
    extent = area(GROUND) if isinstance(extent, str) else extent
    comparison = Comparison(ours, reference, parameters, extent, **options)
    (period,) = comparison.periods()
    result = outcomes(comparison, period)
    return tuple(dict(zip(side["id"], side["outcome"], strict=True)) for side in (result.ours, result.reference))  # type: ignore[return-value]


def test_hits_misses_and_false_alarms() -> None:
    ours = objects({"a": square(0), "b": square(1000), "c": square(30_000)})
    reference = objects({"A": square(50), "B": square(3000), "C": square(30_000)})
    assert outcomes_of(ours, reference) == (
        {"a": "hit", "b": "false_alarm", "c": "unmapped"},
        {"A": "hit", "B": "miss", "C": "unmapped"},
    )
    assert outcomes_of(ours, reference, None) == (
        {"a": "hit", "b": "unmapped", "c": "hit"},
        {"A": "hit", "B": "miss", "C": "hit"},
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("any", "hit"), ("smaller 0.5", "hit"), ("smaller 0.51", "miss"), ("iou 0.33", "hit"), ("iou 0.34", "miss")],
)
def test_a_rule_holds_from_its_limit_on(rule: str, expected: str) -> None:
    """Two squares that share half of each, and a third of their union."""
    ours, reference = objects({"a": square(50)}), objects({"A": square(0)})
    assert outcomes_of(ours, reference, parameters={"rules": [rule]})[1] == {"A": expected}


def test_neighbours_that_share_an_edge_are_no_match() -> None:
    ours, reference = objects({"a": square(100)}), objects({"A": square(0)})
    assert outcomes_of(ours, reference, parameters={"rules": ["any"]}) == ({"a": "false_alarm"}, {"A": "miss"})


def test_half_of_an_object_decides_whether_it_is_on_mapped_ground() -> None:
    edge = area(square(0, -1000, 10_000))
    ours = objects({"in": square(-49), "out": square(-51, 500)})
    reference = objects({"IN": square(-49, 1000), "OUT": square(-51, 2000)})
    assert outcomes_of(ours, reference, edge) == (
        {"in": "false_alarm", "out": "unmapped"},
        {"IN": "miss", "OUT": "unmapped"},
    )


def test_what_was_not_observed_does_not_count_whatever_we_have_there() -> None:
    reference = objects({"A": square(0), "B": square(200), "C": square(400)})
    seen = {square(0).wkb, square(400).wkb}
    asked = []

    def observed(year: int, outlines: Any) -> Any:
        asked.append(year)
        return np.array([shape.wkb in seen for shape in outlines])

    ours = objects({"a": square(0), "b": square(200)})
    assert outcomes_of(ours, reference, observed=observed) == (
        {"a": "hit", "b": "hit"},
        {"A": "hit", "B": "not_observed", "C": "miss"},
    )
    assert asked == [2023]


def test_slumps_of_other_years_are_neither_misses_nor_false_alarms() -> None:
    reference = pd.concat([objects({"A": square(0)}, 2023), objects({"B": square(200)}, "2018,2020")])
    ours = objects({"a": square(0), "b": square(200), "c": square(400)})
    assert outcomes_of(ours, reference) == ({"a": "hit", "b": "other_date", "c": "false_alarm"}, {"A": "hit"})
    wide = {"year_tolerance": 3}
    assert outcomes_of(ours, reference, parameters=wide) == (
        {"a": "hit", "b": "hit", "c": "false_alarm"},
        {"A": "hit", "B": "hit"},
    )


def test_ground_that_was_mapped_in_another_year_is_not_mapped() -> None:
    extent = pd.concat([area(square(-500, -500, 1000), when=2023), area(square(500, -500, 1000), when=2018)])
    reference = objects({"A": square(0), "B": square(700)})
    ours = objects({"a": square(200), "b": square(900)})
    assert outcomes_of(ours, reference, extent) == (
        {"a": "false_alarm", "b": "unmapped"},
        {"A": "miss", "B": "unmapped"},
    )


def test_negatives_are_counted_on_their_own() -> None:
    negatives = objects(
        {"N": square(30_000, 0, 500), "M": square(31_000, 0, 500), "O": square(0, 0, 500)}, kind="negative"
    )
    reference = pd.concat([objects({"A": square(100)}), negatives])
    ours = objects({"a": square(100), "b": square(30_100), "c": square(40_000)})
    assert outcomes_of(ours, reference) == (
        {"a": "hit", "b": "on_negative", "c": "unmapped"},
        {"A": "hit", "N": "on_negative", "M": "clear_negative", "O": "clear_negative"},
    )


def test_ignored_outlines_excuse_only_what_matches_nothing_else() -> None:
    reference = pd.concat(
        [objects({"A": square(0)}), objects({"I": square(0, 0, 300), "J": square(1000)}, kind="ignored")]
    )
    ours = objects({"a": square(0), "b": square(200, 200), "c": square(1000), "d": square(2000)})
    assert outcomes_of(ours, reference)[0] == {"a": "hit", "b": "on_ignored", "c": "on_ignored", "d": "false_alarm"}


def test_each_year_on_its_own_or_all_years_together() -> None:
    sites = gpd.GeoDataFrame(
        {
            "site_id": ["s-2021", "s-2022", "t-2022"],
            "slump_id": ["s-2021", "s-2021", "t-2022"],
            "year": [2021, 2022, 2022],
        },
        geometry=[square(0), square(50), square(1000)],
        crs="EPSG:6931",
    )
    reference = objects({"A": square(60)}, "2021,2022")
    ours = site_objects(sites)
    comparison = Comparison(ours, reference, AccuracyParameters(), area(GROUND))
    by_year = {str(period): outcomes(comparison, period) for period in comparison.periods()}
    assert {name: result.ours["outcome"].tolist() for name, result in by_year.items()} == {
        "2021": ["hit"],
        "2022": ["hit", "false_alarm"],
    }
    together = Comparison(ours, reference, AccuracyParameters(together=True), area(GROUND))
    (period,) = together.periods()
    assert str(period) == "2021-2022"
    result = outcomes(together, period)
    assert result.ours[["id", "outcome", "area_m2"]].to_numpy().tolist() == [
        ["s-2021", "hit", 15_000],
        ["t-2022", "false_alarm", 10_000],
    ]
    assert result.reference["matches"].tolist() == ["s-2021"]


def test_together_a_slump_is_observed_if_any_of_its_years_was() -> None:
    reference = pd.concat([objects({"A": square(0)}, "2021,2022"), objects({"B": square(500)}, 2021)])
    ours = pd.concat([objects({"x": square(5000)}, 2021), objects({"y": square(5000)}, 2022)])
    result = outcomes_of(
        ours,
        reference,
        parameters={"together": True},
        observed=lambda year, outlines: np.full(len(outlines), year == 2022),
    )
    assert result[1] == {"A": "miss", "B": "not_observed"}


def test_a_map_without_dates_is_compared_once() -> None:
    reference = pd.concat([objects({"A": square(0)}, 2020), objects({"B": square(500)}, 2022)])
    ours = objects({"a": square(0), "b": square(500)}, None)
    assert outcomes_of(ours, reference) == ({"a": "hit", "b": "hit"}, {"A": "hit", "B": "hit"})
    only = {"years": [2022]}
    assert outcomes_of(ours, reference, parameters=only) == ({"a": "other_date", "b": "hit"}, {"B": "hit"})


def test_a_year_that_we_have_mapped_without_a_slump_has_misses() -> None:
    reference = objects({"A": square(0)}, "2021,2022")
    ours = objects({"a": square(0)}, 2021)
    comparison = Comparison(ours, reference, AccuracyParameters(), area(GROUND), our_years=[2020, 2021, 2022])
    results = {str(period): outcomes(comparison, period) for period in comparison.periods()}
    assert {year: result.reference["outcome"].tolist() for year, result in results.items()} == {
        "2021": ["hit"],
        "2022": ["miss"],
    }


def test_years_that_do_not_meet_are_an_error_with_both_spans() -> None:
    comparison = Comparison(
        objects({"a": square(0)}, 2023), objects({"A": square(0)}, "2018,2020"), AccuracyParameters()
    )
    with pytest.raises(SettingsError, match="ours are of 2023 to 2023, the reference is of 2018 to 2020; set year_tol"):
        comparison.periods()
    with pytest.raises(SettingsError, match="has no slumps"):
        Comparison(objects({"a": square(0)}), objects({"N": square(0)}, kind="negative"), AccuracyParameters())


def test_regions_are_grid_zones_also_near_the_pole() -> None:
    near_pole = shapely.box(100, 100, 200, 200)
    reference = objects({"A": square(0), "P": near_pole})
    comparison = Comparison(reference, reference, AccuracyParameters())
    (period,) = comparison.periods()
    assert outcomes(comparison, period).reference["region"].tolist() == ["13W", "Z"]


def test_layers_have_matches_and_overlaps() -> None:
    ours = objects({"a": square(0), "b": square(60, 0, 30), "c": square(95, 0)})
    reference = objects({"A": square(0, 0, 100)})
    comparison = Comparison(ours, reference, AccuracyParameters(), area(GROUND, regions=("Peel",)))
    (period,) = comparison.periods()
    result = outcomes(comparison, period)
    rows = result.ours.set_index("id")
    assert rows["matches"].to_dict() == {"a": "A", "b": "A", "c": ""}
    assert rows["iou"].to_dict() == pytest.approx({"a": 1, "b": 0.09, "c": 500 / 19_500})
    assert rows["overlap"].to_dict() == pytest.approx({"a": 1, "b": 1, "c": 0.05})
    assert rows["shared_m2"].to_dict() == pytest.approx({"a": 10_000, "b": 900, "c": 500})
    assert rows["size_class"].to_dict() == {"a": "10000 to 40000 m2", "b": "below 1000 m2", "c": "10000 to 40000 m2"}
    assert set(rows["region"]) == {"Peel"}
    assert result.reference["matches"].tolist() == ["a,b"]
    assert result.sums[["split", "merged", "area_ours", "area_reference"]].sum().tolist() == [1, 0, 19_500, 10_000]
    assert shapely.equals(result.reference.geometry.iloc[0], square(0))
