import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from rich.console import Console

from darts_assets.orchestration.core.dynamic_partitions import materialized, register
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.settings import Settings
from tests.benchmarks.backfill_scale import Backfilled, SimulatedLauncher, partitions_of, table
from tests.e2e.backfills import Backfills

YAML = """
telemetry: {enabled: false}
run_launcher: {module: tests.benchmarks.backfill_scale, class: SimulatedLauncher, config: {seconds: 0.0}}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""


@pytest.mark.slow
def test_simulated_runs_complete_a_backfill(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text(YAML)
    scenes = ["a", "b", "c"]
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        assert isinstance(instance.run_launcher, SimulatedLauncher)
        register(instance, SENTINEL2.partitions, scenes)
        with Backfills.at(tmp_path, Settings(store=str(tmp_path / "store"), scenes_per_run=2), instance) as backfills:
            done = backfills.launch([SENTINEL2.key(step) for step in STEPS], scenes)
            until = time.monotonic() + 120
            while done.status is BulkActionStatus.REQUESTED and time.monotonic() < until:
                backfills.iterate()
                time.sleep(0.5)
                state = instance.get_backfill(done.backfill_id)
                assert state
                done = state
            assert done.status is BulkActionStatus.COMPLETED_SUCCESS, [run.status for run in backfills.runs(done)]
            runs = backfills.runs(done)
        assert all(run.is_success for run in runs)
        segmented = [run for run in runs if SENTINEL2.key("segmentation") in (run.asset_selection or ())]
        assert sorted(len(partitions_of(instance, run)) for run in segmented) == [1, 2]
        for step in STEPS:
            assert materialized(instance, SENTINEL2.key(step), scenes) == set(scenes)


def test_a_table_of_a_backfill() -> None:
    console = Console(record=True, width=120)
    console.print(table(Backfilled(1000, 2125, 600.0, 3.5, 2**28, 2**29, 300.0, 10**8)))
    assert "2,125" in console.export_text()
