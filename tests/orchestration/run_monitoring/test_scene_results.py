"""Results of runs, written into the store."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.run_monitoring.scene_results import write_results
from darts_assets.timings import COLUMNS, RESULT_COLUMNS

pytestmark = pytest.mark.slow

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dg.asset(key=SENTINEL2.key("raw_scene"), partitions_def=SENTINEL2.partitions)
def raw_scene(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    if context.partition_key == "torn":
        raise dg.Failure("RasterError: B02.tif is damaged", allow_retries=False)
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(f"raw/{context.partition_key}")})


@dg.asset_check(asset=raw_scene, blocking=True)
def is_bright(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=context.partition_key != "dark", description="median 0.01")


@dg.asset(key=SENTINEL2.key("products"), partitions_def=SENTINEL2.partitions, deps=[raw_scene])
def products(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(f"products/{context.partition_key}/latest")})


def test_results_and_timings_of_runs(tmp_path: Path) -> None:
    scenes = ["new", "torn", "dark", "old", "none"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(SENTINEL2.partitions.name), scenes)
        runs = {
            scene: dg.materialize(
                [raw_scene, is_bright, products], partition_key=scene, instance=instance, run_config=QUIET,
                raise_on_error=False,
            ).run_id
            for scene in scenes[:-1]
        }  # fmt: skip
        store = Store(url=str(tmp_path))
        of_now = [run for scene, run in runs.items() if scene != "old"]
        folder = write_results(instance, store, SENTINEL2, of_now, scenes)
        again = write_results(instance, store, SENTINEL2, [], scenes[3:], last_step="raw_scene")
        fast = write_results(instance, store, SENTINEL2, of_now, with_chart=False)
    assert {path.name for path in fast.path.iterdir()} == {"results.parquet", "timings.parquet"}
    assert folder.path.parent == tmp_path / "runs" / "results"
    assert {path.name for path in folder.path.iterdir()} == {"results.parquet", "timings.parquet", "timings.png"}
    table = pd.read_parquet(folder.path / "results.parquet")
    assert list(table.columns) == list(RESULT_COLUMNS)
    assert dict(zip(table["scene_id"], table["status"], strict=True)) == {
        "new": "ok", "torn": "failed", "dark": "failed", "old": "kept", "none": "missing",
    }  # fmt: skip
    paths = dict(zip(table["scene_id"], table["output_path"].fillna(""), strict=True))
    assert paths == {
        "new": "products/new/latest", "torn": "", "dark": "raw/dark", "old": "products/old/latest", "none": "",
    }  # fmt: skip
    errors = table.set_index("scene_id")["error"]
    assert errors["torn"] == "RasterError: B02.tif is damaged"
    assert errors["dark"] == "is_bright: median 0.01"
    steps = pd.read_parquet(folder.path / "timings.parquet")
    assert list(steps.columns) == list(COLUMNS)
    assert set(steps["run_id"]) == set(of_now)
    assert {path.name for path in again.path.iterdir()} == {"results.parquet", "timings.parquet"}, "no chart of nothing"
    assert pd.read_parquet(again.path / "results.parquet")["output_path"].tolist()[:1] == ["raw/old"]
