"""Size of a sample and its division among strata (Olofsson et al. 2014, sections 5.1.1 and 5.1.2)."""

import math

import numpy as np
import numpy.typing as npt

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.errors import SettingsError

MOST_POINTS = 20_000
"""Of a sample."""

LEAST_POINTS = 2
"""Of a stratum; a variance needs two."""

Numbers = npt.NDArray[np.float64]


def sample_size(weights: Numbers, shares: Numbers, standard_error: float) -> int:
    """Number of points for a standard error (equation 13, for an area that is large against a point).

    Args:
        weights: shares of the strata in the area, (n,), sum 1.
        shares: conjectured fractions of the class of interest in each stratum, or its user's accuracy for the overall
            accuracy, (n,).
        standard_error: of the estimated proportion.
    """
    deviation = np.sqrt(shares * (1 - shares))
    # Rounded before, so that 640.0000001 is not 641.
    return math.ceil(round(float((weights @ deviation / standard_error) ** 2), 6))


def allocation(weights: Numbers, points: int, min_points: int) -> npt.NDArray[np.int64]:
    """Points of each stratum: rare strata get the minimum, and the others the rest in proportion to their area.

    A stratum is rare if its proportional part would be less than `min_points`; after rare strata have received them,
    others may have become rare. If `points` do not suffice for the minimum in all strata, all get equally many.
    Fractions are given to the largest remainders.

    Args:
        weights: areas of the strata in any unit, (n,).
        points: their total.
        min_points: in a stratum.

    Raises:
        SettingsError: if there are fewer than two points for each stratum.
    """
    count = len(weights)
    if points < LEAST_POINTS * count:
        raise SettingsError(f"points is {points}, expected at least {LEAST_POINTS * count} for {count} strata")
    if points <= min_points * count:
        return _rounded(np.full(count, points / count), points)
    wanted, rare = np.zeros(count), np.zeros(count, dtype=bool)
    while True:
        rest = points - min_points * rare.sum()
        wanted = np.where(rare, min_points, rest * weights / weights[~rare].sum())
        if not (more := ~rare & (wanted < min_points)).any():
            return _rounded(wanted, points)
        rare |= more


def planned_points(weights: Numbers, shares: Numbers, parameters: SampleParameters) -> npt.NDArray[np.int64]:
    """Points of each stratum by `points` or `target_error`.

    Args:
        weights: as of `sample_size`.
        shares: likewise.
        parameters: size and minimum.

    Raises:
        SettingsError: if `target_error` needs more than `MOST_POINTS`, or there are fewer points than two per stratum.
    """
    points = parameters.points
    if parameters.target_error is not None:
        points = sample_size(weights, shares, parameters.target_error * float(weights @ shares))
        points = max(points, LEAST_POINTS * len(weights))
        if points > MOST_POINTS:
            raise SettingsError(
                f"target_error is {parameters.target_error:g}, for which {points} points would be needed, more than "
                f"{MOST_POINTS}: increase it, or set points"
            )
    return allocation(weights, points, parameters.min_points)


def expected_error(weights: Numbers, shares: Numbers, points: npt.NDArray[np.int64]) -> float:
    """Expected standard error of the area as a fraction of the expected area (equation 10).

    Args:
        weights: as of `sample_size`.
        shares: likewise.
        points: of each stratum.
    """
    variance = float((weights**2 * shares * (1 - shares) / points).sum())
    return math.sqrt(variance) / float(weights @ shares)


def _rounded(wanted: Numbers, total: int) -> npt.NDArray[np.int64]:
    """Integers with a sum, the fractions to the largest remainders; among equal ones to the first."""
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    order = np.argsort(-(wanted - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts
