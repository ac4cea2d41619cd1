"""The table of steps and its summary."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

COLUMNS: dict[str, str] = {
    "run_id": "string",
    "job": "string",
    "backfill": "string",  # id of the backfill that asked for the run
    "asset": "string",  # such as `sentinel2/segmentation`; the step, where it belongs to no asset
    "scene": "string",  # partition: a scene's id, a chunk's key
    "result": "string",  # ok, failed, skipped
    "error": "string",  # why it failed, in a sentence
    "within": "string",  # the asset whose step has made this one as well, as `auxiliary` makes chunks
    "attempts": "Int64",
    "started": "datetime64[us, UTC]",
    "seconds": "float64",
    "cpu_seconds": "float64",
    "peak_memory": "Int64",  # bytes
    "peak_gpu_memory": "Int64",
    "bytes": "Int64",  # of what was written into the store
    "bytes_read": "Int64",  # of files
    "bytes_written": "Int64",
    "code_version": "string",
    "data_version": "string",
    "config": "string",  # JSON: all of the step's, defaults included
    "parameters": "string",  # JSON: those that the data version depends on, as they were resolved
    "inputs": "string",  # JSON: data versions of what the step has read
    "versions": "string",  # JSON: of Python and packages
}
"""Columns of the table and their dtypes; what was not measured or does not apply is missing."""

_MIB = 2**20


def steps_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with `COLUMNS`, in the order in which steps have started; rows may lack entries."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table["started"] = pd.to_datetime(table["started"], unit="s", utc=True)
    return table.astype(COLUMNS).sort_values("started", kind="stable", ignore_index=True)


def summary(steps: pd.DataFrame) -> pd.DataFrame:
    """What steps have cost, by asset, in the order of their first start.

    Args:
        steps: with `COLUMNS`.

    Returns:
        Indexed by `asset`: counts `ok`, `failed`, `skipped`; of the steps that went well the `mean`, `sd` (NaN of one),
        `median` and `p95` of their seconds, the `total` seconds and their `share` of all (NaN for what was made within
        another asset's step, which has counted it), `cpu_seconds` (mean), `peak_memory` (highest, MiB) and `mib`
        (written into the store, all together).
    """
    order = list(dict.fromkeys(steps["asset"]))
    counts = steps.groupby(["asset", "result"]).size().unstack(fill_value=0).reindex(order)
    counts = counts.reindex(columns=["ok", "failed", "skipped"], fill_value=0)
    done = steps[steps["result"] == "ok"].groupby("asset")
    seconds = done["seconds"]
    costs = pd.DataFrame(
        {
            "mean": seconds.mean(),
            "sd": seconds.std(),
            "median": seconds.median(),
            "p95": seconds.quantile(0.95),
            "total": seconds.sum(),
            "cpu_seconds": done["cpu_seconds"].mean(),
            "peak_memory": done["peak_memory"].max().astype("float64") / _MIB,
            "mib": done["bytes"].sum().astype("float64") / _MIB,
        }
    ).reindex(order)
    own = steps[(steps["result"] == "ok") & steps["within"].isna()].groupby("asset")["seconds"].sum()
    costs.insert(5, "share", own.reindex(order) / own.sum() if own.sum() else float("nan"))
    return counts.join(costs)


def as_markdown(table: pd.DataFrame) -> str:
    """A `summary` as a table in Markdown."""
    heads = ["step", "ok", "failed", "skipped", "mean s", "sd", "median s", "p95 s", "total s", "share", "CPU s",
             "peak MiB", "written MiB"]  # fmt: skip
    digits = {"mean": 2, "sd": 2, "median": 2, "p95": 2, "total": 1, "cpu_seconds": 2, "peak_memory": 0, "mib": 1}
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, row in table.iterrows():
        cells = [str(name)]
        for column, value in row.items():
            if pd.isna(value):
                cells.append("-")
            elif column == "share":
                cells.append(f"{value:.0%}")
            else:
                cells.append(f"{value:.{digits.get(str(column), 0)}f}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
