"""How often the 95 % intervals of estimated areas contain the truth, over simulated inventories and samples.

python -m tests.benchmarks.area_intervals --inventories 1000
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from tests.area_estimation.simulated import Landscape, estimated

LANDSCAPES = {
    "dense": Landscape(side=6000, slumps=60),
    "usual": Landscape(side=12_000, slumps=100, median_m2=4000),
    "sparse, half missed": Landscape(side=20_000, slumps=60, missed=0.5),
    "many false outlines": Landscape(side=12_000, slumps=60, invented=1.5, missed=0.1),
}
PARAMETERS = SampleParameters(points=500, min_points=75, by_region=False)


def one(number: int, landscape: Landscape) -> tuple[float, bool, bool, float]:
    """Estimate over truth; whether the interval, and 1.96 standard errors, contain it; mapped area over truth."""
    random = np.random.default_rng([11, number])
    report, truth = estimated(random, landscape, PARAMETERS.replace(seed=number))
    total = report.total
    return (
        total["area_ha"] / truth,
        total["low_ha"] <= truth <= total["high_ha"],
        abs(total["area_ha"] - truth) <= total["margin_ha"],
        total["mapped_ha"] / truth,
    )


def main() -> None:
    """Print a row for each landscape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventories", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"{'landscape':22} {'estimate/truth':>14} {'mapped/truth':>12} {'interval':>9} {'1.96 SE':>8}")
    with ProcessPoolExecutor(options.processes) as pool:
        for name, landscape in LANDSCAPES.items():
            rows = np.array(list(pool.map(partial(one, landscape=landscape), range(options.inventories), chunksize=20)))
            ratio, inside, by_errors, mapped = rows.mean(axis=0)
            print(f"{name:22} {ratio:14.3f} {mapped:12.3f} {inside:9.3f} {by_errors:8.3f}", flush=True)


if __name__ == "__main__":
    main()
