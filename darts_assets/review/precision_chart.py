"""Chart of a precision report: by probability, above thresholds, and by region."""

from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from darts_assets.plots import new_figure, render
from darts_assets.review.precision import PrecisionReport

_TEXT = 8
_MOST_REGIONS = 12


def precision_chart(report: PrecisionReport, wanted: float) -> Image:
    """Precision with intervals over the probability, as points per bin and as a band above thresholds, and per region.

    Args:
        report: the figures.
        wanted: precision that is drawn as a line.

    Returns:
        RGB, 720 x 300. The regions with most reviewed slumps are shown.
    """
    figure = new_figure(720, 300, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2], sharey=True)
    curve = report.thresholds.dropna(subset="precision")
    left.fill_between(curve["threshold"], curve["low"], curve["high"], color="C0", alpha=0.2, linewidth=0)
    left.plot(curve["threshold"], curve["precision"], color="C0", linewidth=1.2, label="all at or above")
    bins = report.bins.dropna(subset="precision")
    _points(left, bins["probability"], bins, label="bin that begins here")
    if report.threshold is not None:
        left.axvline(report.threshold, color="C2", linewidth=1)
    left.set(
        xlim=(min(report.thresholds["threshold"].min(), 0.9) - 0.05 if len(curve) else 0, 1),
        ylim=(0, 1.02),
        xlabel="mean probability",
    )
    left.set_ylabel("precision of the reviewed slumps", fontsize=_TEXT)
    left.legend(fontsize=_TEXT, loc="lower left")
    regions = report.regions.dropna(subset="precision").sort_values("reviewed", ascending=False)
    regions = regions.head(_MOST_REGIONS).sort_values("region")
    _points(right, np.arange(len(regions)), regions)
    labels = [f"{row.region}\n{row.reviewed}/{row.slumps}" for row in regions.itertuples()]
    right.set_xticks(np.arange(len(regions)), labels)
    right.set(xlim=(-0.6, max(len(regions), 1) - 0.4), xlabel="region, reviewed/slumps")
    for axes in (left, right):
        axes.axhline(wanted, color="0.5", linewidth=0.8, linestyle="--")
        axes.tick_params(labelsize=_TEXT - 1)
        axes.xaxis.label.set_fontsize(_TEXT)
    return render(figure)


def _points(axes: Any, at: Any, table: pd.DataFrame, **options: Any) -> None:
    """Precisions with their intervals."""
    errors = np.clip([table["precision"] - table["low"], table["high"] - table["precision"]], 0, None)
    axes.errorbar(at, table["precision"], errors, fmt="o", markersize=3.5, linewidth=1, color="C3", **options)
