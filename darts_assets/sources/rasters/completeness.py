"""Whether a raw scene is whole: its bands there, on one grid, with something in them."""

from collections.abc import Iterable, Mapping

from darts_assets.bands import OPTICAL
from darts_assets.stores.statistics import BandStatistics


def band_faults(
    needed: Iterable[str],
    shapes: Mapping[str, tuple[int, int]],
    grid: tuple[int, int],
    statistics: Mapping[str, BandStatistics],
) -> list[str]:
    """What makes a raw scene unusable, in sentences.

    A scene without any data is whole: it is a scene in which nothing can be found.

    Args:
        needed: bands that whoever uses the scene needs.
        shapes: rows and columns of each band that is there.
        grid: rows and columns of the scene's grid.
        statistics: of the digital numbers of each band.
    """
    faults = [f"band {name} is missing" for name in needed if name not in shapes]
    faults += [
        f"band {name} has {shape[0]} x {shape[1]} pixels, its grid {grid[0]} x {grid[1]}"
        for name, shape in shapes.items()
        if tuple(shape) != tuple(grid)
    ]
    optical = {name: band for name, band in statistics.items() if name in OPTICAL}
    fullest = max(optical, key=lambda name: optical[name].pixels, default="")
    for name, band in optical.items():
        if not band.pixels and optical[fullest].pixels:
            share = optical[fullest].pixels / (grid[0] * grid[1])
            faults.append(f"band {name} holds nothing, though {fullest} covers {100 * share:.1f} % of the scene")
        elif band.is_constant:
            faults.append(f"band {name} is {band.low:g} wherever it holds something")
    return faults


def coverage_faults(coverage: Mapping[str, float], least: float, spread: float) -> list[str]:
    """What is odd about where a raw scene holds data, in sentences.

    Args:
        coverage: of each band, the fraction of pixels with data.
        least: fraction below which it is said.
        spread: difference between the optical bands' fractions above which it is said.
    """
    optical = {name: share for name, share in coverage.items() if name in OPTICAL}
    fullest, emptiest = max(optical, key=optical.__getitem__), min(optical, key=optical.__getitem__)
    faults = []
    if optical[fullest] < least:
        faults.append(f"only {100 * optical[fullest]:.1f} % of the scene holds data, less than {100 * least:g} %")
    if optical[fullest] - optical[emptiest] > spread:
        faults.append(
            f"bands hold data in different parts of the scene: {emptiest} in {100 * optical[emptiest]:.1f} %, "
            f"{fullest} in {100 * optical[fullest]:.1f} %"
        )
    return faults
