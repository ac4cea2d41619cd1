"""Coverage of the 95 % intervals of areas, totals and changes in simulated inventories of known truth.

    python -m tests.benchmarks.interval_coverage --inventories 1000

Each inventory has `SITES` sites in two years. A site is seen whole on 1 to 8 days of a year; a fifth of them on one day
only. On each day its detected area is the true one plus a normal displacement of the outline (standard deviation
`DISPLACEMENT` metres, times a factor of the site) times its length. Displacements are independent between days and
sites: the assumption of the intervals. `--shared` adds a displacement that all sites of a day have in common, which
the total does not know of.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.inventory.area_intervals import Floats, area_by_year, with_intervals
from darts_assets.inventory.site_changes import with_changes

SITES = 40
DISPLACEMENT = 4.0


def simulated_coverage(
    inventories: int, unevenness: float = 0.0, shared: float = 0.0, seed: int = 0
) -> dict[str, float]:
    """Share of intervals that contain the truth.

    Args:
        inventories: number of simulated inventories.
        unevenness: standard deviation of the logarithm of the sites' factors; 0 if all sites have the same error.
        shared: standard deviation of the displacement that sites of a day have in common, metres.
        seed: of the random numbers.

    Returns:
        `site`, `one_day` (sites with one day), `total` and `rate`: shares; `false_alarms`: share `grown` or `shrunk`
        of the sites without change; `detected`: share `grown` of the sites that grow by a third.
    """
    random = np.random.default_rng(seed)
    hits: Counter[str] = Counter()
    tries: Counter[str] = Counter()

    def count(name: str, inside: Any) -> None:
        hits[name] += int(np.sum(inside))
        tries[name] += int(np.size(inside))

    truths, tables = [], []
    growth = np.where(np.arange(SITES) < SITES // 2, 0.0, 1 / 3)
    for number in range(inventories):
        side = np.exp(random.normal(np.log(90), 0.4, SITES))
        factor = np.exp(random.normal(0, unevenness, SITES))
        for later in (0, 1):
            now = side * np.sqrt(1 + growth * later)
            truths.append(now**2 / 1e4)
            tables.append(_observed(now, factor, shared, number, later, random))
    # All inventories at once: `year` counts them and their two years.
    every = with_changes(pd.concat(tables, ignore_index=True), 0.1)
    truth = np.concatenate(truths)
    inside = (every["area_low_ha"] <= truth) & (truth <= every["area_high_ha"])
    count("site", inside)
    count("one_day", inside[every["area_days"] == 1])
    totals = area_by_year(gpd.GeoDataFrame(every, crs=EQUAL_AREA))
    totals = totals[totals["region"] == "all"]
    sums = truth.reshape(-1, SITES).sum(axis=1)
    count("total", (totals["area_low_ha"] <= sums) & (sums <= totals["area_high_ha"]))
    after = every[every["event"] == "continued"]
    rate = np.diff(truth.reshape(-1, 2, SITES), axis=1).ravel()
    count("rate", (after["rate_low_ha_per_year"] <= rate) & (rate <= after["rate_high_ha_per_year"]))
    grows = np.tile(growth > 0, inventories)
    count("false_alarms", after["change"].isin(["grown", "shrunk"]).to_numpy()[~grows])
    count("detected", (after["change"] == "grown").to_numpy()[grows])
    return {name: hits[name] / tries[name] for name in tries}


def _observed(
    side: Floats, factor: Floats, shared: float, number: int, later: int, random: np.random.Generator
) -> pd.DataFrame:
    """Sites of a year of an inventory with their intervals; the years are one Julian year apart."""
    days = np.where(random.random(SITES) < 0.2, 1, random.integers(2, 9, SITES))
    looks = np.arange(days.max()) < days[:, None]
    displacements = random.normal(0, DISPLACEMENT, looks.shape) * factor[:, None] + random.normal(0, shared, days.max())
    areas = np.where(looks, (side[:, None] ** 2 + 4 * side[:, None] * displacements) / 1e4, 0)
    mean = areas.sum(axis=1) / days
    squares = (np.where(looks, areas - mean[:, None], 0) ** 2).sum(axis=1)
    names = [f"{number:06}-{site:04}" for site in range(SITES)]
    date = pd.Timestamp("2022-07-01", tz="UTC") + pd.Timedelta(days=365.25) * later
    table = pd.DataFrame(
        {
            "site_id": names, "slump_id": names, "year": 2 * number + later, "event": "continued" if later else "new",
            "lon": -135.0, "lat": 68.5, "area_ha": side**2 / 1e4, "first_date": date, "last_date": date,
            "area_days": days, "area_mean_ha": mean,
            "area_sd_ha": np.where(days > 1, np.sqrt(squares / np.maximum(days - 1, 1)), np.nan),
            "geometry": shapely.box(np.zeros(SITES), np.zeros(SITES), side, side),
        }
    )  # fmt: skip
    return with_intervals(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the coverage in three settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventories", type=int, default=1000)
    parser.add_argument("--shared", type=float, default=0.0, help="metres; see above")
    options = parser.parse_args(arguments)
    for unevenness in (0.0, 0.3, 0.6):
        result = simulated_coverage(options.inventories, unevenness, options.shared)
        print(f"factors of sites exp(N(0, {unevenness})):", {name: round(share, 4) for name, share in result.items()})


if __name__ == "__main__":
    main()
