"""The chart of an estimate draws what the report has, and also nothing."""

import numpy as np
import pandas as pd

from darts_assets.area_estimation.area_chart import area_chart
from darts_assets.area_estimation.area_estimate import AreaReport
from tests.area_estimation.test_area_estimate import report_by_hand


def colours(report: AreaReport) -> set[tuple[int, ...]]:
    image = area_chart(report)
    assert image.size == (760, 320)
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_areas_and_shares_are_drawn() -> None:
    blue, red, green = (31, 119, 180), (214, 39, 40), (44, 160, 44)
    assert {blue, red, green} <= colours(report_by_hand())


def test_a_report_without_verdicts_has_an_empty_chart() -> None:
    report = report_by_hand(pd.DataFrame(columns=["sample_id", "verdict", "reviewers", "agreement"]))
    assert (44, 160, 44) not in colours(report)
