"""Table of steps with their results and costs, and its summary."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from darts_assets.stores.store_layout import FAMILIES

COLUMNS: dict[str, str] = {
    "run_id": "string",
    "job": "string",
    "backfill": "string",  # id of the backfill that launched the run
    "asset": "string",  # such as `sentinel2/segmentation`; the step key for ops
    "scene": "string",  # partition key: a scene id or chunk key
    "result": "string",  # ok, failed, skipped
    "error": "string",  # message of the failure
    "within": "string",  # asset whose step materialized this one (`auxiliary` fills chunks)
    "attempts": "Int64",
    "started": "datetime64[us, UTC]",
    "seconds": "float64",
    "cpu_seconds": "float64",
    "peak_memory": "Int64",  # bytes
    "peak_gpu_memory": "Int64",
    "output_path": "string",  # path or URL of the result
    "bytes": "Int64",  # written to the store
    "bytes_read": "Int64",  # read from files
    "bytes_written": "Int64",
    "code_version": "string",
    "data_version": "string",
    "config": "string",  # JSON: config of the step, including defaults
    "parameters": "string",  # JSON: resolved parameters in the data version
    "inputs": "string",  # JSON: data versions of the inputs
    "versions": "string",  # JSON: Python and packages
}
"""Columns of the table and their dtypes; values that were not measured or do not apply are missing."""

_MIB = 2**20


def steps_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build a table with `COLUMNS`, sorted by start; rows may lack entries."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table["started"] = pd.to_datetime(table["started"], unit="s", utc=True)
    return table.astype(COLUMNS).sort_values("started", kind="stable", ignore_index=True)


def scene_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps of scene chains: without catalogs, inventories (by year), chunks and training data."""
    return steps[steps["asset"].str.partition("/")[0].isin(FAMILIES) & steps["scene"].notna()]


def summary(steps: pd.DataFrame) -> pd.DataFrame:
    """Summarize results and costs per asset, in order of first start.

    Args:
        steps: table with `COLUMNS`.

    Returns:
        Indexed by `asset`: counts `ok`, `failed`, `skipped`; for successful steps `mean`, `sd` (NaN for one step),
        `median`, `p95` and `total` of seconds, `share` of the total of all assets (NaN for assets materialized within
        another asset's step), `cpu_seconds` (mean), `peak_memory` (maximum, MiB) and `mib` (sum written to the store).
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
    """Format a `summary` as a Markdown table."""
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
