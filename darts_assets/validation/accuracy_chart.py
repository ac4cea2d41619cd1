"""Chart of a comparison: recall and precision by size, region and period."""

from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from darts_assets.plots import new_figure, render
from darts_assets.validation.accuracy_figures import Accuracy

_TEXT = 8
_MOST_ROWS = 10
_SIDES = (("recall", "reference", "C0", -0.14), ("precision", "ours", "C3", 0.14))
"""Figure, column with the number of objects, colour, and offset on the axis."""


def accuracy_chart(result: Accuracy) -> Image:
    """Recall and precision with their intervals, by size class and region, and by period if there are several.

    Returns:
        RGB, 370 pixels wide for each of them and 320 high. The regions and periods with most objects are shown; points
        without a fill have no interval.
    """
    panels = [("size_class", result.by_size), ("region", _largest(result.by_region))]
    if len(result.periods) > 1:
        panels.append(("period", _largest(result.by_period)))
    figure = new_figure(370 * len(panels), 320, layout="constrained")
    for axes, (name, table) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        _panel(axes, table, name)
    total = result.total.iloc[0]
    figure.suptitle("; ".join(filter(None, (_sentence(total, name) for name, *_ in _SIDES))) or " ", fontsize=_TEXT + 1)
    return render(figure)


def _panel(axes: Any, table: pd.DataFrame, name: str) -> None:
    at = np.arange(len(table))
    for share, _, color, offset in _SIDES:
        known = table[share].notna().to_numpy()
        rows = table[known]
        errors = np.clip([rows[share] - rows[f"{share}_low"], rows[f"{share}_high"] - rows[share]], 0, None)
        axes.errorbar(at[known] + offset, rows[share], np.nan_to_num(errors), fmt="none", linewidth=1, color=color)
        certain = rows[f"{share}_low"].notna()
        fill = np.where(certain, color, "white")
        axes.scatter(at[known] + offset, rows[share], 14, fill, edgecolors=color, linewidths=1, zorder=3)
        axes.scatter([], [], 14, color, label=share)
    labels = [f"{_short(row[name])}\n{row['reference']}\n{row['ours']}" for row in table.to_dict("records")]
    axes.set_xticks(at, labels)
    axes.set(xlim=(-0.6, max(len(table), 1) - 0.4), ylim=(0, 1.04))
    title = "size class, m2" if name == "size_class" else name
    axes.set_xlabel(f"{title}; objects of the reference, of ours", fontsize=_TEXT)
    axes.tick_params(labelsize=_TEXT - 1.5)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if name == "size_class":
        axes.legend(fontsize=_TEXT, loc="lower right", handletextpad=0.2)


def _short(text: str) -> str:
    """A name of a size class in two lines, without its unit."""
    return text.removesuffix(" m2").replace(" to ", "\nto ").replace("below ", "below\n").replace("from ", "from\n")


def _largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with most objects, in their order."""
    objects = table["reference"] + table["ours"]
    return table.loc[np.sort(objects[objects > 0].nlargest(_MOST_ROWS).index)]


def _sentence(total: "pd.Series[float]", name: str) -> str:
    if np.isnan(total[name]):
        return ""
    interval = "" if np.isnan(total[f"{name}_low"]) else f" ({total[f'{name}_low']:.2f} to {total[f'{name}_high']:.2f})"
    return f"{name} {total[name]:.2f}{interval}"
