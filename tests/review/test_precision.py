"""Precision from verdicts: figures by hand, intervals against published ones, thresholds, text and pictures."""

import math

import numpy as np
import pandas as pd
import pytest

from darts_assets.errors import SettingsError
from darts_assets.review.precision import as_text, precision_report, wilson
from darts_assets.review.precision_chart import precision_chart
from darts_assets.review.precision_parameters import PrecisionParameters


def slumps(*rows: tuple[float, str], lon: float = -134.5, year: int = 2023, start: int = 0) -> pd.DataFrame:
    """Judged sites, one per slump: mean probability and verdict."""
    return pd.DataFrame(
        {
            "slump_id": [f"slump {start + number}" for number in range(len(rows))],
            "year": year,
            "lon": lon,
            "lat": 69.0,
            "mean_probability": [probability for probability, _ in rows],
            "verdict": [verdict for _, verdict in rows],
            "reviewed": [verdict != "" for _, verdict in rows],
        }
    )


TABLE = pd.concat(
    [
        slumps((0.52, "no"), (0.54, "no"), (0.5, "yes"), (0.53, "unsure"), (0.51, "")),
        slumps((0.9, "yes"), (0.949, "redraw"), (0.93, "yes"), (1.0, "yes"), lon=-100, start=10),
        slumps((0.05, "no"), (0.06, "no"), lon=-100, year=2020, start=10),  # earlier sites of these slumps
    ]
)


def test_figures_by_probability_and_region() -> None:
    report = precision_report(TABLE)
    bins = report.bins.set_index("probability")
    assert bins.index.tolist() == [0.5, 0.9, 0.95]
    assert bins.loc[0.5, ["slumps", "reviewed", "yes", "redraw", "no", "unsure"]].tolist() == [5, 4, 1, 0, 2, 1]
    assert bins.loc[0.9, ["slumps", "reviewed", "yes", "redraw", "no", "unsure"]].tolist() == [3, 3, 2, 1, 0, 0]
    assert bins["share_reviewed"].tolist() == [0.8, 1, 1]
    assert bins["precision"].tolist() == [pytest.approx(1 / 3), 1, 1]
    regions = report.regions.set_index("region")
    assert regions["slumps"].to_dict() == {"08W": 5, "14W": 4}
    assert regions["precision"].to_dict() == {"08W": pytest.approx(1 / 3), "14W": 1}
    assert (report.total["slumps"], report.total["reviewed"], report.total["precision"]) == (9, 8, pytest.approx(5 / 7))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1),
    ],
)
def test_wilsons_intervals_are_those_of_newcombe(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe (1998), table 1, method 3."""
    assert wilson(successes, trials) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_without_trials_there_is_no_interval() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_the_lowest_threshold_that_reaches_a_precision() -> None:
    many = slumps(*[(0.52, "no"), (0.52, "yes")] * 5, *[(0.72, "yes")] * 15, (0.72, "no"), *[(0.87, "yes")] * 80)
    report = precision_report(many, PrecisionParameters(wanted_precision=0.95))
    above = report.thresholds.set_index("threshold")["precision"]
    assert above.index.tolist() == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85]
    assert above[0.5] == pytest.approx(100 / 106)
    assert above[0.55] == above[0.7] == pytest.approx(95 / 96)
    assert above[0.85] == 1
    assert (report.threshold, report.safe_threshold) == (0.55, 0.75)
    assert precision_report(many, PrecisionParameters(wanted_precision=0.9)).threshold == 0.5
    hopeless = precision_report(slumps((0.9, "no")))
    assert (hopeless.threshold, hopeless.safe_threshold) == (None, None)
    with pytest.raises(SettingsError, match="wanted_precision is 1"):
        PrecisionParameters(wanted_precision=1)


def test_without_verdicts_or_slumps_there_is_a_report_without_figures() -> None:
    for table in (slumps((0.9, ""), (0.5, "unsure")), slumps()):
        report = precision_report(table)
        assert math.isnan(report.total["precision"])
        assert report.threshold is None
        assert "precision 0" not in as_text(report, 0.9)
        assert precision_chart(report, 0.9).size == (720, 300)


def test_text_and_chart() -> None:
    report = precision_report(TABLE, PrecisionParameters(bin_width=0.1))
    text = as_text(report, 0.9)
    assert text.startswith("8 of 9 slumps reviewed; precision 0.714 (0.359 to 0.918)\n")
    assert "a precision of 0.9: from a mean probability of 0.60\n" in text
    assert "a precision of 0.9, also at the lower end of its interval: by no threshold\n" in text
    picture = np.asarray(precision_chart(report, 0.9))
    assert picture.shape == (300, 720, 3)
    red = (np.abs(picture.astype(int) - (214, 39, 40)) < 30).all(axis=2)  # the points: bins on the left, regions right
    assert red[:, :420].sum() > 50
    assert red[:, 420:].sum() > 30
