"""The estimators: the worked example of Olofsson et al. (2014), formulas by hand, intervals against simulated truth."""

import numpy as np
import pytest

from darts_assets.area_estimation.stratified_estimators import (
    StratifiedSample,
    Z,
    area_proportion,
    linear_estimate,
    overall_accuracy,
    producers_accuracy,
    proportion_intervals,
    users_accuracy,
)

DEFORESTATION, GAIN, FOREST, OTHER = range(4)

EXAMPLE = StratifiedSample(
    areas=np.array([200_000.0, 150_000, 3_200_000, 6_450_000]),
    map_class=np.arange(4),
    counts=np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]),
)
"""Table 8 of the paper: rows are the map, columns the reference; hectares."""

TOTAL = 10_000_000


def test_the_worked_example_of_the_paper() -> None:
    """Its page 54: areas in hectares and accuracies, with 1.96 standard errors."""
    area = area_proportion(EXAMPLE, DEFORESTATION).scaled(TOTAL)
    assert round(area.value) == 235_086
    assert 1.96 * area.error == pytest.approx(68_418, abs=1)
    # By hand: 0.02 * 66/75 + 0.32 * 1/165 + 0.645 * 2/325.
    assert area.value / TOTAL == pytest.approx(0.0176 + 0.00193939 + 0.00396923, abs=1e-8)
    overall = overall_accuracy(EXAMPLE)
    assert (round(overall.value, 3), round(1.96 * overall.error, 3)) == (0.947, 0.018)
    users = [users_accuracy(EXAMPLE, number) for number in range(4)]
    assert [round(one.value, 2) for one in users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(1.96 * one.error, 2) for one in users] == [0.07, 0.1, 0.04, 0.02]
    producers = [producers_accuracy(EXAMPLE, number) for number in range(4)]
    assert [round(one.value, 2) for one in producers] == [0.75, 0.85, 0.93, 0.96]
    assert [round(1.96 * producers[number].error, 2) for number in (DEFORESTATION, FOREST, OTHER)] == [0.21, 0.03, 0.02]


def test_the_error_matrix_as_proportions_of_area() -> None:
    """Table 9 of the paper, rounded to four digits."""
    matrix = EXAMPLE.error_matrix()
    assert matrix.sum() == pytest.approx(1)
    assert matrix.sum(axis=1) == pytest.approx([0.02, 0.015, 0.32, 0.645])
    assert matrix[0] == pytest.approx([0.0176, 0, 0.0013, 0.0011], abs=5e-5)
    assert matrix[:, DEFORESTATION] == pytest.approx([0.0176, 0, 0.0019, 0.0040], abs=5e-5)


def test_equation_7_by_hand() -> None:
    """N1 200000, U 66/75, n 75; other strata add P^2 N^2 p (1 - p) / (n - 1)."""
    total = 235_086.2470862471
    p = 176_000 / total
    own = (200_000 * (1 - p)) ** 2 * 0.88 * 0.12 / 74
    others = 3_200_000**2 * (1 / 165) * (164 / 165) / 164 + 6_450_000**2 * (2 / 325) * (323 / 325) / 324
    assert producers_accuracy(EXAMPLE, DEFORESTATION).error == pytest.approx(np.sqrt(own + p**2 * others) / total)


def test_strata_within_classes_equal_classes_of_one_stratum_where_they_are_alike() -> None:
    """A class divided into two strata with the same shares has the same estimates; by formula, errors shrink."""
    whole = StratifiedSample(np.array([10.0, 90]), np.array([0, 1]), np.array([[80, 20], [4, 96]]))
    divided = StratifiedSample(np.array([5.0, 5, 90]), np.array([0, 0, 1]), np.array([[40, 10], [40, 10], [4, 96]]))
    for function in (area_proportion, users_accuracy, producers_accuracy):
        assert function(divided, 0).value == pytest.approx(function(whole, 0).value)
    # Two strata of 50 points, half of the weight each: 0.25 * 2 * 0.16 / 49 instead of 0.16 / 99.
    assert users_accuracy(divided, 0).error == pytest.approx(np.sqrt(0.16 / 98))
    assert users_accuracy(whole, 0).error == pytest.approx(np.sqrt(0.16 / 99))
    assert divided.error_matrix() == pytest.approx(whole.error_matrix())


def test_the_interval_of_one_stratum_is_that_of_jeffreys() -> None:
    """Against table 5 of Brown, Cai and DasGupta (2001), seven trials."""
    published = [(0, 0.292), (0.016, 0.501), (0.065, 0.648), (0.139, 0.765)]
    ends = np.stack(proportion_intervals(np.arange(4), np.full(4, 7)), axis=1)
    assert ends == pytest.approx(np.array(published), abs=6e-4)
    one = linear_estimate(np.ones(1), np.array([2]), np.array([7]))
    assert (one.low, one.high) == pytest.approx(tuple(ends[2]))
    low, high = proportion_intervals(np.array([20, 0]), np.array([20, 0]))
    assert (low[0], high[0]) == (pytest.approx(1 - proportion_intervals(np.array([0]), np.array([20]))[1][0]), 1)
    assert np.isnan([low[1], high[1]]).all()


def ends(successes: int, points: int) -> tuple[float, float]:
    low, high = proportion_intervals(np.array([successes]), np.array([points]))
    return float(low[0]), float(high[0])


def test_a_stratum_without_slumps_still_widens_the_interval_upwards() -> None:
    sample = StratifiedSample(np.array([1.0, 99]), np.array([0, 1]), np.array([[50, 0], [0, 300]]))
    area = area_proportion(sample, 0)
    assert (area.value, area.error) == (0.01, 0)
    assert area.low == pytest.approx(0.01 - 0.01 * (1 - ends(50, 50)[0]))
    assert area.high == pytest.approx(0.01 + 0.99 * ends(0, 300)[1])


def test_what_the_points_do_not_suffice_for_is_nan() -> None:
    one = StratifiedSample(np.array([1.0, 9]), np.array([0, 1]), np.array([[1, 0], [2, 8]]))
    area = area_proportion(one, 0)
    assert area.value == pytest.approx(0.1 + 0.9 * 0.2)
    assert np.isnan(area.error)
    none = StratifiedSample(np.array([1.0, 9]), np.array([0, 1]), np.array([[0, 0], [2, 8]]))
    assert np.isnan([area_proportion(none, 0).value, area_proportion(none, 0).low]).all()
    nothing = StratifiedSample(np.array([9.0]), np.array([1]), np.array([[0, 8]]))
    assert np.isnan(users_accuracy(nothing, 0).value)
    assert np.isnan(producers_accuracy(nothing, 0).value)
    assert producers_accuracy(nothing, 1).value == 1


@pytest.mark.parametrize(
    ("weights", "points", "shares"),
    [
        ((0.02, 0.015, 0.32, 0.645), (75, 75, 165, 325), (0.88, 0.02, 0.006, 0.006)),
        ((0.01, 0.01, 0.06, 0.92), (75, 75, 150, 500), (0.9, 0.7, 0.05, 0.003)),
        ((0.001, 0.001, 0.01, 0.988), (50, 50, 100, 300), (0.9, 0.7, 0.03, 0.0002)),
        ((0.003, 0.002, 0.02, 0.975), (100, 100, 150, 650), (0.9, 0.7, 0.05, 0.002)),
    ],
)  # fmt: skip
def test_intervals_contain_the_truth_in_93_to_97_and_a_half_percent(
    weights: tuple[float, ...], points: tuple[int, ...], shares: tuple[float, ...]
) -> None:
    """10,000 samples; the intervals of 1.96 standard errors would contain it in 73 to 90 %.

    Not 95 % for each design, since a stratum with few slumps has few possible counts.
    """
    random = np.random.default_rng(7)
    w, n, truth = np.array(weights), np.array(points), float(np.dot(weights, shares))
    drawn = [linear_estimate(w, random.binomial(n, shares), n) for _ in range(10_000)]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in drawn]) <= 0.975
    assert np.mean([abs(one.value - truth) <= Z * one.error for one in drawn]) < 0.92
