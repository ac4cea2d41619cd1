"""Results and timings of some runs as files in the store, written after each mapping of an area."""

import datetime as dt
import io
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg
import obstore

from darts_assets.orchestration.core.dagster_compat import latest_materialization
from darts_assets.orchestration.core.partitions import STEPS, SceneFamily
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.run_monitoring.event_log import RunSelection, finished_runs, step_rows
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

_IDS_PER_QUERY = 500


def write_results(
    instance: dg.DagsterInstance,
    store: Store,
    family: SceneFamily,
    run_ids: Sequence[str],
    scenes: Sequence[str] = (),
    *,
    last_step: str = STEPS[-1],
    with_chart: bool = True,
) -> StoreLocation:
    """Write results and timings of finished runs into a new folder, `runs/results/<time>/`.

    `results.parquet` has one row per scene (`timings.RESULT_COLUMNS`), `timings.parquet` one row per step of each scene
    (`timings.COLUMNS`), `timings.png` is the chart of the timings. `results.parquet` is written last.

    Args:
        instance: the instance in which the runs are recorded.
        store: the store.
        family: family of the scenes.
        run_ids: ids of the runs; runs that are not finished, or not recorded, are left out.
        scenes: ids of the selected scenes; those that no run has processed are `kept` or `missing` in the results.
        last_step: the step that a scene of an earlier run must have, to be `kept`.
        with_chart: whether to draw the chart, which takes seconds.

    Returns:
        The folder.

    Raises:
        StoreError: if the store does not respond.
    """
    from darts_assets.timings import chart, results_table, steps_table

    chunks = [tuple(run_ids[n : n + _IDS_PER_QUERY]) for n in range(0, len(run_ids), _IDS_PER_QUERY)]
    runs = [run for ids in chunks for run in finished_runs(instance, RunSelection(ids), len(ids))]
    steps = steps_table(row for run in runs for row in step_rows(instance, run))
    processed = set(steps["scene"].dropna())
    kept = _kept(instance, family.key(last_step), [scene for scene in scenes if scene not in processed])
    results = results_table(steps, family.name, kept, scenes)
    folder = store.root.child("runs", "results", f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}")
    files = timing_files(steps, chart(steps) if with_chart else None) | {"results.parquet": _parquet(results)}
    for name, content in files.items():
        obstore.put(folder.objects(), name, content)
    return folder


def timing_files(steps: "pd.DataFrame", figure: "Image | None") -> dict[str, bytes]:
    """The files `timings.parquet` and `timings.png` (if there is a chart)."""
    files = {"timings.parquet": _parquet(steps)}
    if figure:
        buffer = io.BytesIO()
        figure.save(buffer, "png", optimize=True)
        files["timings.png"] = buffer.getvalue()
    return files


def _parquet(table: "pd.DataFrame") -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _kept(instance: dg.DagsterInstance, asset: dg.AssetKey, scenes: Sequence[str]) -> dict[str, str]:
    """Path of the result of each scene that was finished by an earlier run."""
    finished = instance.get_materialized_partitions(asset) if scenes else set()
    paths = {}
    for scene in scenes:
        record = latest_materialization(instance, asset, scene) if scene in finished else None
        if record is not None and record.asset_materialization is not None:
            path = record.asset_materialization.metadata.get("path")
            paths[scene] = str(path.value) if path else ""
    return paths
