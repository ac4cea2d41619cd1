"""The chart shows each figure at its height, with its interval, and a panel of periods if there are several."""

import numpy as np
import pandas as pd

from darts_assets.validation.accuracy_chart import accuracy_chart
from darts_assets.validation.accuracy_figures import accuracy
from darts_assets.validation.accuracy_parameters import AccuracyParameters
from darts_assets.validation.outcomes import Comparison
from tests.validation.outlines import area, objects, square

BLUE, RED = (31, 119, 180), (214, 39, 40)
"""Colours of recall and precision."""


def chart(*years: int, extent: bool = True, count: int = 30) -> np.ndarray:
    """A fifth of the reference is missed, and half of ours are false alarms; a kilometre apart."""
    reference = pd.concat([objects({f"{n}": square(1000 * n) for n in range(count)}, year) for year in years])
    ours = pd.concat(
        [
            objects({f"{n}-{off}": square(1000 * n, off) for n in range(count) if n % 5 for off in (0, 500)}, year)
            for year in years
        ]
    )
    ground = area(square(-1000, -1000, 100_000)) if extent else None
    parameters = AccuracyParameters(block_km=1, resamples=200)
    result = accuracy(Comparison(ours.reset_index(drop=True), reference.reset_index(drop=True), parameters, ground))
    return np.asarray(accuracy_chart(result)).astype(int)


def rows_of(picture: np.ndarray, color: tuple[int, int, int], columns: slice, least: int = 1) -> np.ndarray:
    """The rows with at least some pixels of a colour in a part of the picture."""
    return np.flatnonzero((np.abs(picture[:, columns] - color).max(axis=2) < 60).sum(axis=1) >= least)


def test_recall_and_precision_are_at_their_heights() -> None:
    picture = chart(2023)
    assert picture.shape == (320, 740, 3)
    panel = slice(380, 740)  # the only region
    frame = np.flatnonzero((picture[:, 420:700].max(axis=2) < 200).mean(axis=1) > 0.9)
    height = (frame.max() - frame.min()) / 1.04
    for color, share in ((BLUE, 0.8), (RED, 0.5)):
        point = rows_of(picture, color, panel, least=4)
        assert abs((frame.max() - point.mean()) / height - share) < 0.02
        # The interval is a line above and below the point.
        assert len(rows_of(picture, color, panel)) > (10 if color == BLUE else 3)


def test_each_period_has_a_place_and_without_an_extent_there_is_no_precision() -> None:
    assert chart(2022, 2023).shape == (320, 1110, 3)
    picture = chart(2023, extent=False)
    assert len(rows_of(picture, BLUE, slice(380, 740)))
    assert not len(rows_of(picture, RED, slice(380, 740)))


def test_no_objects() -> None:
    reference = objects({"A": square(0)}, 2023)
    result = accuracy(
        Comparison(objects({}, 2023), reference, AccuracyParameters(resamples=100), None, our_years=[2023])
    )
    assert result.total["recall"].tolist() == [0]
    assert np.asarray(accuracy_chart(result)).shape == (320, 740, 3)
