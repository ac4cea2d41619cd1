"""Plausibility of probabilities."""

import pytest

from darts_assets.model.sanity import probability_errors, probability_warnings
from darts_assets.stores.statistics import BandStatistics

SOUND = BandStatistics(1000, 0.0, 0.98, counts={0: 900, 40: 60, 98: 40, 255: 24})


def warnings(found: BandStatistics, with_data: int = 1000) -> list[str]:
    return probability_warnings("p", found, with_data, certain=0.5, slumps=0.3)


def test_sound_probabilities_are_not_spoken_of() -> None:
    assert probability_errors("p", SOUND, 1000) == warnings(SOUND) == []


def test_a_scene_without_data_may_have_no_probabilities() -> None:
    assert probability_errors("p", BandStatistics(0), 0) == warnings(BandStatistics(0), 0) == []
    assert "no values" in probability_errors("p", BandStatistics(0), 7)[0]


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0, 1.01), (0, 3.4e38)])
def test_what_is_no_probability_is_an_error(low: float, high: float) -> None:
    assert "expected 0 to 1" in probability_errors("p", BandStatistics(9, low, high), 9)[0]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (BandStatistics(1000, 0, 1, counts={0: 400, 99: 600}), "60.0 % of the scene (saturated?)"),
        (BandStatistics(1000, 0, 1, counts={0: 600, 51: 400}), "exceeds 50 % in 40.0 %"),
        (BandStatistics(1000, 0.5, 0.5, counts={50: 1000}), "0.5 everywhere"),
        (BandStatistics(990, 0, 1, counts={0: 980, 90: 10, 255: 10}), "no value in 10 of 1000 valid"),
    ],
)
def test_what_is_suspicious(found: BandStatistics, words: str) -> None:
    (said,) = warnings(found)
    assert words in said
