"""Chart of an estimate: mapped and estimated areas by region, and the share of slumps in each stratum."""

from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from darts_assets.area_estimation.area_estimate import TOTAL, AreaReport
from darts_assets.area_estimation.stratified_estimators import proportion_intervals
from darts_assets.plots import new_figure, render

_TEXT = 8
_MOST_REGIONS, _MOST_STRATA = 10, 14


def area_chart(report: AreaReport) -> Image:
    """Areas with their intervals by region, and the share of slumps among the points of each stratum.

    Args:
        report: the estimates.

    Returns:
        RGB, 760 x 320. The regions with the largest mapped area and the largest strata are shown.
    """
    figure = new_figure(760, 320, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1])
    _areas(left, report.areas)
    _strata(right, report.strata)
    for axes in (left, right):
        axes.tick_params(labelsize=_TEXT - 1)
        axes.xaxis.label.set_fontsize(_TEXT)
    return render(figure)


def _areas(axes: Any, areas: pd.DataFrame) -> None:
    total = areas[areas["region"] == TOTAL]
    regions = areas[areas["region"] != TOTAL].sort_values("mapped_ha", ascending=False).head(_MOST_REGIONS)
    rows = pd.concat([total, regions.sort_values("region")]) if len(regions) > 1 else total
    rows = rows.dropna(subset="area_ha")
    at = np.arange(len(rows))[::-1]
    spread = np.clip([rows["area_ha"] - rows["low_ha"], rows["high_ha"] - rows["area_ha"]], 0, None)
    axes.errorbar(
        rows["area_ha"], at, xerr=spread, fmt="o", markersize=4, color="C0", capsize=2, label="estimated, 95 % interval"
    )
    axes.plot(rows["mapped_ha"], at, "|", color="C3", markersize=12, markeredgewidth=2, label="mapped")
    axes.set_yticks(at, rows["region"])
    axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("area of slumps, ha")
    axes.legend(fontsize=_TEXT - 1, loc="best")


def _strata(axes: Any, strata: pd.DataFrame) -> None:
    rows = strata.sort_values("area_ha", ascending=False).head(_MOST_STRATA).sort_values("stratum")
    decided = (rows["yes"] + rows["no"]).to_numpy()
    rows, decided = rows[decided > 0], decided[decided > 0]
    at, share = np.arange(len(rows))[::-1], rows["share"].to_numpy()
    low, high = proportion_intervals(rows["yes"].to_numpy(), decided)
    spread = np.clip([share - low, high - share], 0, None)
    axes.errorbar(share, at, xerr=spread, fmt="s", markersize=3.5, color="C2", capsize=2)
    names = zip(rows["stratum"], rows["yes"], decided, strict=True)
    axes.set_yticks(at, [f"{stratum}  {yes}/{number}" for stratum, yes, number in names])
    axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    axes.set(xlim=(-0.02, 1.02), xlabel="share of points in a slump, by stratum")
