"""Table of results: one row per scene, from the rows of its steps."""

from collections.abc import Mapping, Sequence

import pandas as pd

RESULT_COLUMNS: dict[str, str] = {
    "scene_id": "string",
    "family": "string",
    "status": "string",  # ok, failed, kept (finished before), missing (not processed)
    "step": "string",  # that failed (`..._checks`: its blocking check), or the last one that succeeded
    "error": "string",  # message of the failure
    "output_path": "string",  # path or URL of the result of the last step that succeeded; `latest/` of products
    "started": "datetime64[us, UTC]",
    "seconds": "float64",  # sum of the steps
    "run_id": "string",  # the last run
}
"""Columns of the table and their dtypes."""


def results_table(steps: pd.DataFrame, family: str, kept: Mapping[str, str], selected: Sequence[str]) -> pd.DataFrame:
    """Build a table with `RESULT_COLUMNS`.

    Args:
        steps: table with `COLUMNS`, sorted by start; of repeated steps the last one counts.
        family: family of the scenes.
        kept: path of the result of each selected scene that was finished before.
        selected: ids of scenes, which all get a row, in this order; other scenes of the steps follow.

    Returns:
        One row per scene.
    """
    own = steps[steps["asset"].str.startswith((f"{family}/", f"{family}__")) & steps["scene"].notna()]
    # Skipped steps have no start: the runs are in order, not the steps.
    first = own.groupby("run_id")["started"].min().sort_values(na_position="last")
    own = own.iloc[own["run_id"].map({run: number for number, run in enumerate(first.index)}).argsort(kind="stable")]
    rows = {str(scene): _row(of_scene, family) for scene, of_scene in own.groupby("scene", sort=False)}
    for scene in selected:
        if scene not in rows:
            rows[scene] = {"status": "kept" if scene in kept else "missing", "output_path": kept.get(scene)}
    order = dict.fromkeys([*selected, *rows])
    table = pd.DataFrame(
        [{"scene_id": scene, "family": family, **rows[scene]} for scene in order], columns=list(RESULT_COLUMNS)
    )
    table["started"] = pd.to_datetime(table["started"], utc=True)
    return table.astype(RESULT_COLUMNS)


def _row(steps: pd.DataFrame, family: str) -> dict[str, object]:
    """The row of a scene, from all rows of its steps in order of the runs; its last run decides."""
    last_run = steps[steps["run_id"] == steps["run_id"].iloc[-1]]
    failed, finished = (last_run[last_run["result"] == result] for result in ("failed", "ok"))
    done = steps[steps["result"] == "ok"].drop_duplicates("asset", keep="last")
    paths, deciding = done["output_path"].dropna(), (failed if len(failed) else finished)
    return {
        "status": "failed" if len(failed) else "ok" if len(finished) == len(last_run) else "missing",
        "step": deciding["asset"].iloc[-1].removeprefix(family).lstrip("/_") if len(deciding) else None,
        "error": failed["error"].iloc[-1] if len(failed) else None,
        "output_path": paths.iloc[-1] if len(paths) else None,
        "started": steps["started"].min(),
        "seconds": done["seconds"].sum(),
        "run_id": last_run["run_id"].iloc[-1],
    }
