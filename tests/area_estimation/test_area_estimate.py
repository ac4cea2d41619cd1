"""Estimates from a reviewed sample: by hand, by region, with unsure and open points, and against simulated truth."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.area_estimation.area_estimate import AreaReport, area_report
from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.sample_points import POINT_COLUMNS
from tests.area_estimation.simulated import Landscape, estimated

STRATA = pd.DataFrame(
    {
        "stratum": ["08W/detected", "08W/rest", "09W/detected", "09W/rest"],
        "region": ["08W", "08W", "09W", "09W"],
        "map_class": ["detected", "not_detected"] * 2,
        "area_ha": [10.0, 990.0, 20.0, 1980.0],
        "weight": np.array([10, 990, 20, 1980]) / 3000,
    }
)
# yes, no, unsure, open
COUNTS = [(16, 4, 2, 0), (1, 98, 1, 3), (10, 10, 0, 0), (0, 50, 0, 0)]


def reviewed() -> tuple[gpd.GeoDataFrame, pd.DataFrame]:
    """Points and their verdicts."""
    rows, verdicts = [], []
    for stratum, counts in zip(STRATA.itertuples(), COUNTS, strict=True):
        for verdict, count in zip(("yes", "no", "unsure", ""), counts, strict=True):
            for _ in range(count):
                sample_id = f"area-{len(rows)}"
                rows.append((sample_id, 2023, -130.0, 70.0, stratum.stratum, stratum.region, stratum.map_class))
                if verdict:
                    verdicts.append((sample_id, verdict, 1, 1.0))
    points = gpd.GeoDataFrame(rows, columns=list(POINT_COLUMNS), geometry=[shapely.Point(0, 0)] * len(rows), crs=6931)
    return points, pd.DataFrame(verdicts, columns=["sample_id", "verdict", "reviewers", "agreement"])


def report_by_hand(judged: pd.DataFrame | None = None) -> AreaReport:
    points, verdicts = reviewed()
    return area_report(points, STRATA, verdicts if judged is None else judged)


def test_areas_by_hand() -> None:
    report = report_by_hand()
    areas = report.areas.set_index("region")
    assert areas.index.tolist() == ["08W", "09W", "total"]
    west = areas.loc["08W"]
    assert west[["points", "yes", "no", "unsure", "open"]].tolist() == [125, 17, 102, 3, 3]
    assert (west["observed_ha"], west["mapped_ha"]) == (1000, 10)
    assert west["area_ha"] == pytest.approx(10 * 0.8 + 990 / 99)
    error = np.sqrt((10**2) * 0.8 * 0.2 / 19 + 990**2 * (1 / 99) * (98 / 99) / 98)
    assert west["error_ha"] == pytest.approx(error)
    assert west["margin_ha"] == pytest.approx(1.959964 * error)
    assert west["area_if_unsure_no_ha"] == pytest.approx(10 * 16 / 22 + 990 / 100)
    assert west["area_if_unsure_yes_ha"] == pytest.approx(10 * 18 / 22 + 990 * 2 / 100)
    assert areas["area_ha"]["total"] == pytest.approx(areas["area_ha"][["08W", "09W"]].sum())
    assert areas["error_ha"]["total"] == pytest.approx(np.sqrt((areas["error_ha"][["08W", "09W"]] ** 2).sum()))
    assert (areas["low_ha"] < areas["area_ha"]).all()
    assert (areas["high_ha"] > areas["area_ha"]).all()
    assert report.total["area_ha"] == areas["area_ha"]["total"]


def test_accuracies_strata_matrix_and_points() -> None:
    report = report_by_hand()
    accuracy = report.accuracies.set_index(["region", "measure"])
    assert accuracy.loc[("08W", "users_accuracy_slump"), "value"] == pytest.approx(0.8)
    assert accuracy.loc[("08W", "users_accuracy_slump"), "error"] == pytest.approx(np.sqrt(0.16 / 19))
    assert accuracy.loc[("08W", "producers_accuracy_slump"), "value"] == pytest.approx(8 / 18)
    assert accuracy.loc[("total", "users_accuracy_slump"), "value"] == pytest.approx((8 + 10) / 30)
    assert accuracy.loc[("total", "overall_accuracy"), "value"] == pytest.approx((8 + 980 + 10 + 1980) / 3000)
    assert accuracy.loc[("09W", "producers_accuracy_no_slump"), "value"] == pytest.approx(1980 / 1990)
    strata = report.strata.set_index("stratum")
    assert strata["share"].tolist() == pytest.approx([0.8, 1 / 99, 0.5, 0])
    assert strata.loc["08W/detected", ["points", "yes", "no", "unsure", "open"]].tolist() == [22, 16, 4, 2, 0]
    matrix = report.matrix.set_index(["region", "map_class"])
    assert matrix.loc[("total", "detected"), ["slump", "no_slump"]].tolist() == [26, 14]
    assert matrix.loc[("total", "not_detected"), "area_slump"] == pytest.approx(10 / 3000)
    assert matrix.loc["total", ["area_slump", "area_no_slump"]].to_numpy().sum() == pytest.approx(1)
    assert report.points["result"].value_counts().to_dict() == {
        "correct_rejection": 148, "hit": 26, "false_alarm": 14, "open": 3, "unsure": 3, "miss": 1,
    }  # fmt: skip


def test_a_sample_without_verdicts_has_no_estimate() -> None:
    report = report_by_hand(reviewed()[1].assign(sample_id="area-of-another-store").head(1))
    assert report.areas["area_ha"].isna().all()
    assert report.areas["open"].tolist() == [125, 70, 195]
    assert report.accuracies["value"].isna().all()
    assert set(report.points["result"]) == {"open"}


def test_simulated_inventories_are_estimated_without_bias_and_with_honest_intervals() -> None:
    """The quick version of `tests/benchmarks/area_intervals.py`, which simulates 1,000 inventories."""
    random, parameters = np.random.default_rng(3), SampleParameters(points=300, min_points=60, by_region=False)
    reports = [estimated(random, Landscape(side=6000, slumps=60), parameters.replace(seed=seed)) for seed in range(60)]
    ratios = [report.total["area_ha"] / truth for report, truth in reports]
    assert np.mean(ratios) == pytest.approx(1, abs=3 * np.std(ratios) / np.sqrt(60))
    covered = [report.total["low_ha"] <= truth <= report.total["high_ha"] for report, truth in reports]
    assert np.mean(covered) >= 0.88, "95 % less three standard deviations of 60 trials"
