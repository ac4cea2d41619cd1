"""Figures of the stages: as a table for people, as JSON to keep, against those that were kept."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks.measuring import machine

Figures = dict[str, dict[str, float | None]]
"""Stage -> name of a figure -> its value."""

LIMITED = {"cpu_seconds": "CPU seconds", "peak_rss": "peak RSS"}
"""The figures that must not grow: wall clock depends on who else is at work."""

_TOTALS: dict[str, Callable[[Iterable[float]], float]] = {"seconds": sum, "cpu_seconds": sum, "peak_rss": max}
"""How figures of several stages become one."""

_MOST_NOISE = {"cpu_seconds": 0.3, "peak_rss": 32 * 2**20}
"""Differences up to that say nothing, however small the figures are."""


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The median of each figure over runs."""
    return {
        name: None if runs[0][name] is None else statistics.median(run[name] for run in runs)
        for name in runs[0]
        if name != "stage"
    }


def table(title: str, figures: Figures) -> Table:
    """Stages as rows."""
    drawn = Table(title=title, title_justify="left")
    for column in ("stage", "seconds", "CPU s", "peak RSS", "read", "written", "I/O s", "s / I/O s"):
        drawn.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for stage, row in figures.items():
        moving = (row.get("read_seconds") or 0) + (row.get("write_seconds") or 0)
        drawn.add_row(
            stage, f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", size(row["peak_rss"]), size(row["bytes_read"]),
            size(row["bytes_written"]), f"{moving:.2f}" if moving else "-",
            f"{row['seconds'] / moving:.2f}" if moving and row["seconds"] else "-",
        )  # fmt: skip
    return drawn


def size(number: float | None) -> str:
    """Bytes for people."""
    if number is None:
        return "-"
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def keep(path: Path, pixels: int, figures: Mapping[str, Any]) -> None:
    """Put figures of one scene size into a file, beside those of other sizes; stages that were not run stay."""
    kept = load(path) if path.exists() else {"sizes": {}}
    before = kept["sizes"].get(str(pixels), {})
    merged = {part: {**before.get(part, {}), **values} for part, values in figures.items()}
    kept["sizes"][str(pixels)] = {**before, **merged}
    kept["sizes"] = dict(sorted(kept["sizes"].items(), key=lambda item: int(item[0])))
    path.write_text(json.dumps({"machine": machine(), **{k: v for k, v in kept.items() if k != "machine"}}, indent=1))


def load(path: Path) -> dict[str, Any]:
    """The content of a file of figures."""
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def compared(figures: Figures, baseline: Figures, tolerance: float) -> tuple[Table, list[str]]:
    """Ratios to a baseline, stage by stage, and what has become worse by more than `tolerance` (a fraction)."""
    drawn = Table(title="Now / baseline", title_justify="left")
    for column in ("stage", "seconds", *LIMITED.values()):
        drawn.add_column(column, justify="left" if column == "stage" else "right")
    worse = []
    for stage, now in figures.items():
        before = baseline.get(stage)
        if before is None:
            drawn.add_row(stage, "-", "-", "-")
            continue
        ratios = {name: (now[name] or 0) / (before[name] or 1) for name in ("seconds", *LIMITED)}
        drawn.add_row(stage, *(f"{ratio:.2f}" for ratio in ratios.values()))
        for name, title in LIMITED.items():
            grown = (now[name] or 0) - (before[name] or 0)
            if ratios[name] > 1 + tolerance and grown > _MOST_NOISE[name]:
                worse.append(f"{stage}: {title} is {ratios[name]:.2f} times the baseline's")
    return drawn, worse


def beside_peer(figures: Figures, peer: Figures) -> Table:
    """Ours and the peer's seconds and memory; both outline objects, we in `postprocess`, the peer in `products`."""
    drawn = Table(title="Ours / the peer", title_justify="left")
    for column in ("stage", "ours, s", "peer, s", "ratio", "CPU s, ratio", "peak RSS, ratio"):
        drawn.add_column(column, justify="left" if column == "stage" else "right")
    for stages in (("preprocess",), ("postprocess",), ("products",), ("postprocess", "products")):
        if any(stage not in figures for stage in stages):
            continue
        ours, theirs = (
            {name: total(row[name] or 0 for row in map(kept.get, stages) if row) for name, total in _TOTALS.items()}
            for kept in (figures, peer)
        )
        ratios = {name: ours[name] / theirs[name] for name in _TOTALS}
        drawn.add_row(
            " + ".join(stages), f"{ours['seconds']:.2f}", f"{theirs['seconds']:.2f}", f"{ratios['seconds']:.2f}",
            f"{ratios['cpu_seconds']:.2f}", f"{ratios['peak_rss']:.2f}",
        )  # fmt: skip
    return drawn
