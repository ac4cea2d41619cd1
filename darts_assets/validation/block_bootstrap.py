"""Intervals of ratios of sums by resampling blocks of ground.

Neighbouring slumps are alike: the same image, terrain and reviewer. So whole blocks are drawn with replacement, not
objects. With few blocks the percentiles of such resamples are too narrow: they are taken further outside, as in the
expanded percentile interval of Hesterberg (2015), doi 10.1080/00031305.2015.1089789.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

LEAST_BLOCKS = 5
"""Fewer blocks give no interval."""

CONFIDENCE = 0.95

_AT_ONCE = 4_000_000  # draws in memory

Values = npt.NDArray[np.float64]
Statistics = Callable[[Mapping[str, Values]], dict[str, Values]]


def block_intervals(
    blocks: npt.NDArray[np.object_], sums: Mapping[str, Values], statistics: Statistics, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Intervals of statistics of sums.

    Args:
        blocks: block of each object (n,).
        sums: name -> value of each object (n,), such as 1 for a hit.
        statistics: from sums over objects (resamples,), by name, to statistics (resamples,), NaN where undefined.
        resamples: number of resamples.
        seed: of the generator; the same arguments give the same intervals.

    Returns:
        Lower and upper end of each statistic; NaN with fewer than `LEAST_BLOCKS` blocks, and if all resamples agree.
    """
    names, of_block = np.unique(np.asarray(blocks, dtype=str), return_inverse=True)
    count = len(names)
    totals = np.zeros((count, len(sums)))
    for column, values in enumerate(sums.values()):
        totals[:, column] = np.bincount(of_block, weights=values, minlength=count)
    zeros = {name: np.zeros(1) for name in sums}
    if count < LEAST_BLOCKS:
        return dict.fromkeys(statistics(zeros), (np.nan, np.nan))
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(sums)))
    step = max(1, _AT_ONCE // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        # Faster than multinomial numbers for thousands of blocks.
        chosen = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, np.newaxis]
        times = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)
        drawn[start : start + size] = times.astype(np.float64) @ totals
    results = statistics({name: drawn[:, column] for column, name in enumerate(sums)})
    return {name: _interval(each, count) for name, each in results.items()}


def _interval(values: Values, blocks: int) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:
        return np.nan, np.nan
    tail = float(norm.cdf(-np.sqrt(blocks / (blocks - 1)) * t.ppf((1 + CONFIDENCE) / 2, blocks - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
