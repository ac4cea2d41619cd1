"""Size and allocation: the figures of Olofsson et al. (2014), and the rules at their limits."""

import numpy as np
import pytest

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.sample_design import allocation, expected_error, planned_points, sample_size
from darts_assets.errors import SettingsError

WEIGHTS = np.array([0.02, 0.015, 0.32, 0.645])


def test_the_sample_size_of_the_paper() -> None:
    """Its section 5.1.1: conjectured user's accuracies, standard error 0.01 of the overall accuracy."""
    assert sample_size(WEIGHTS, np.array([0.7, 0.6, 0.9, 0.95]), 0.01) == 641


def test_rare_strata_have_the_minimum_and_others_the_rest_by_area() -> None:
    """641 points for the strata of the paper: by area, and with 50 for each rare one; 541 * 0.32 / 0.965 = 179.4."""
    assert allocation(WEIGHTS, 641, 2).tolist() == [13, 10, 205, 413]
    assert allocation(WEIGHTS, 641, 50).tolist() == [50, 50, 179, 362]


def test_rules_of_the_allocation() -> None:
    assert allocation(WEIGHTS, 640, 1000).tolist() == [160, 160, 160, 160]
    assert allocation(WEIGHTS, 10, 50).tolist() == [3, 3, 2, 2]
    # With 100 for each of the first, the third becomes rare: 300 * 0.32 / 0.965 = 99.5.
    assert allocation(WEIGHTS, 500, 100).tolist() == [100, 100, 100, 200]
    for points in range(8, 900, 7):
        assert allocation(WEIGHTS, points, 50).sum() == points
    with pytest.raises(SettingsError, match="points is 7, expected at least 8 for 4 strata"):
        allocation(WEIGHTS, 7, 50)


def test_a_target_error_is_reached_by_the_proportional_sample() -> None:
    weights, shares = np.array([0.2, 0.8]), np.array([0.9, 0.05])
    points = planned_points(weights, shares, SampleParameters(target_error=0.05, min_points=2))
    # (0.2 * 0.3 + 0.8 * 0.2179)^2 / (0.05 * 0.22)^2
    assert points.sum() == int(np.ceil((0.06 + 0.8 * np.sqrt(0.0475)) ** 2 / 0.011**2)) == 454
    assert expected_error(weights, shares, points) == pytest.approx(0.05, abs=0.002)
    with pytest.raises(SettingsError, match=r"target_error is 0\.001, for which .* points would be needed, more than"):
        planned_points(weights, shares, SampleParameters(target_error=0.001))


def test_parameters_are_checked() -> None:
    for wrong in ("", "A", "a/b", "-a", "a" * 41):
        with pytest.raises(SettingsError, match="expected 1 to 40 lower-case letters, digits and hyphens"):
            SampleParameters(sample=wrong)
    for edges in ([0.0], [1.0], [0.8, 0.6], [0.5, 0.5]):
        with pytest.raises(SettingsError, match="expected ascending numbers between 0 and 1"):
            SampleParameters(probability_edges=edges)
    assert SampleParameters(sample="peel-2", probability_edges=[]).sample == "peel-2"
