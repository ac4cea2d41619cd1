"""Intervals by blocks: they cover the truth of a simulated population, and are wider than of independent objects."""

import math

import numpy as np
import pytest

from darts_assets.validation.block_bootstrap import block_intervals


def share(sums):
    return {"share": np.divide(sums["hit"], sums["all"], out=np.full(len(sums["all"]), np.nan), where=sums["all"] > 0)}


@pytest.mark.parametrize(("blocks", "least"), [(12, 0.88), (60, 0.92)])
def test_intervals_cover_the_truth_as_often_as_they_promise(blocks: int, least: float) -> None:
    """Blocks differ in their numbers of slumps and in how many of them are detected."""
    generator, trials = np.random.default_rng(7), 400
    covered = naive = 0
    for trial in range(trials):
        sizes = generator.integers(3, 20, blocks)
        chances = generator.beta(4, 2, blocks)  # their mean is 2/3
        of = np.repeat(np.arange(blocks), sizes)
        hit = (generator.random(len(of)) < chances[of]).astype(float)
        low, high = block_intervals(of, {"hit": hit, "all": np.ones(len(of))}, share, 400, trial)["share"]
        covered += low <= 2 / 3 <= high
        half = 1.96 * math.sqrt(hit.mean() * (1 - hit.mean()) / len(hit))
        naive += abs(hit.mean() - 2 / 3) <= half
    assert least <= covered / trials <= 0.985
    assert naive / trials < 0.85


def test_a_seed_gives_the_same_interval_whatever_the_order_of_objects() -> None:
    of, hit = np.array(["a", "b", "c", "d", "e", "f"] * 3, dtype=object), np.arange(18.0) % 4 == 0
    sums = {"hit": hit.astype(float), "all": np.ones(18)}
    first = block_intervals(of, sums, share, 500, 1)
    order = np.random.default_rng(0).permutation(18)
    again = block_intervals(of[order], {name: values[order] for name, values in sums.items()}, share, 500, 1)
    assert first == again != block_intervals(of, sums, share, 500, 2)


def test_few_blocks_and_equal_resamples_have_no_interval() -> None:
    ones = {"hit": np.ones(8), "all": np.ones(8)}
    assert all(map(math.isnan, block_intervals(np.arange(8), ones, share, 200, 0)["share"]))
    half = {"hit": np.array([1.0, 0.0] * 4), "all": np.ones(8)}
    assert all(map(math.isnan, block_intervals(np.arange(8) % 4, half, share, 200, 0)["share"]))
