"""A few of the simulated inventories of `interval_coverage`, with wide bounds."""

from tests.benchmarks.interval_coverage import simulated_coverage


def test_intervals_contain_the_truth() -> None:
    coverage = simulated_coverage(30)
    assert 0.92 < coverage["site"] < 0.98
    assert 0.9 < coverage["one_day"] < 0.99
    assert 0.85 < coverage["total"] <= 1
    assert 0.92 < coverage["rate"] < 0.98
    assert coverage["false_alarms"] < 0.1
    assert coverage["detected"] > 0.4
