"""Chart of step durations, equivalent to `benchviz` of DARTS: distributions, durations per scene, means."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from PIL.Image import Image

from darts_assets.plots import new_figure, render
from darts_assets.timings.table import scene_steps

_COLORS = [f"C{number}" for number in range(10)]
_BINS = 60
_MAX_COLUMNS = 600  # of the heat map, about its width in pixels


def chart(steps: pd.DataFrame) -> Image | None:
    """Draw the durations of successful steps: distributions, and of the steps of scenes values per scene and means.

    Assets materialized within another asset's step are left out.

    Args:
        steps: table with `COLUMNS`.

    Returns:
        RGB, 900 x 800; None if no step succeeded.
    """
    done = steps[(steps["result"] == "ok") & steps["within"].isna() & (steps["seconds"] > 0)]
    if done.empty:
        return None
    assets = list(dict.fromkeys(done["asset"]))
    colors = {asset: _COLORS[number % len(_COLORS)] for number, asset in enumerate(assets)}
    figure = new_figure(900, 800, layout="constrained")
    axes = figure.subplot_mosaic([["distributions"], ["scenes"], ["mean"]], height_ratios=[4, 3.5, 1.8])
    _distributions(axes["distributions"], done, colors)
    of_scenes = scene_steps(done)
    _scenes(figure, axes["scenes"], of_scenes, list(dict.fromkeys(of_scenes["asset"])))
    _mean(axes["mean"], of_scenes, colors)
    return render(figure)


def _distributions(axes: Any, done: pd.DataFrame, colors: dict[str, str]) -> None:
    """Histograms on a logarithmic axis, with a line at each median."""
    low, high = done["seconds"].min(), done["seconds"].max()
    bins = np.geomspace(low / 1.1, high * 1.1, _BINS)
    for asset, color in colors.items():
        seconds = done.loc[done["asset"] == asset, "seconds"]
        label = f"{asset}: {seconds.median():.3g} s, {len(seconds)} steps"
        axes.hist(seconds, bins=bins, color=color, alpha=0.6, label=label)
        axes.axvline(seconds.median(), color=color, linewidth=1)
    axes.set(xscale="log", xlabel="duration of a step in seconds; lines: medians", ylabel="steps")
    axes.xaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _scenes(figure: Figure, axes: Any, done: pd.DataFrame, assets: list[str]) -> None:
    """Heat map with a column per scene, in order of first start; repeated steps show the latest attempt."""
    latest = done.drop_duplicates(["asset", "scene"], keep="last")
    if latest.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no scene in these runs", ha="center", va="center")
        return
    scenes = list(dict.fromkeys(latest["scene"]))
    shown = scenes[:: max(1, -(-len(scenes) // _MAX_COLUMNS))]
    seconds = latest.pivot_table(index="asset", columns="scene", values="seconds").reindex(index=assets, columns=shown)
    values = seconds.to_numpy("float64")
    low, high = np.nanmin(values), np.nanmax(values)
    norm = LogNorm(low, max(high, low * 1.01))
    image = axes.imshow(values, aspect="auto", interpolation="nearest", norm=norm, cmap="viridis")
    numbers = LogFormatter(minor_thresholds=(1.5, 0.5))
    figure.colorbar(image, ax=axes, label="seconds", format=LogFormatter()).ax.yaxis.set_minor_formatter(numbers)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yticks(range(len(assets)), assets, fontsize=8)
    axes.set_xlabel(f"{len(scenes)} scenes in order of first start; white: missing or failed")


def _mean(axes: Any, done: pd.DataFrame, colors: dict[str, str]) -> None:
    """Mean durations of the steps of a scene as one stacked bar."""
    if done.empty:
        axes.set_axis_off()
        return
    means = done.groupby("asset", sort=False)["seconds"].mean()
    left, total = 0.0, float(means.sum())
    for asset, mean in zip(map(str, means.index), means, strict=True):
        color = colors[asset]
        axes.barh([0], [mean], left=left, color=color)
        if mean > total / 7:
            words = f"{asset.rpartition('/')[2]}\n{mean:.1f} s"
            axes.text(left + mean / 2, 0, words, ha="center", va="center", fontsize=8, color="white")
        left += mean
    axes.set(
        yticks=[], xlim=(0, total), xlabel=f"mean duration of the steps of a scene in seconds; total {total:.1f} s"
    )
