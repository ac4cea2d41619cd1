"""Which scene goes to which worker, and what happens to scenes and workers that fail.

The workers are programs that behave as the id of a scene says.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from darts_assets.area_mapping import area_run, worker_pool
from darts_assets.area_mapping.area_run import AreaResult, AreaRun, WorkersFailedError, write_failures
from darts_assets.area_mapping.progress_display import ProgressDisplay
from darts_assets.area_mapping.worker_pool import Capacity
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry

WORKER = f"""#!{sys.executable}
import json, os, sys, time
from pathlib import Path

def send(kind, text="", **fields):
    print(json.dumps(dict(kind=kind, text=text, **fields)), flush=True)

folder = Path(os.environ["FOLDER"])
if (folder / "broken").exists():
    sys.exit("SettingsError: DARTS_MODELS: it is broken")
send("ready")
for line in sys.stdin:
    task = json.loads(line)
    scene = task["scene"]
    with (folder / "tasks").open("a") as tasks:
        tasks.write(f"{{scene}} {{' '.join(task['steps'])}}\\n")
    Path(task["log"]).write_text("10:00:00 a message\\n10:00:01 half of ano")
    tried = folder / scene
    again = tried.exists()
    tried.touch()
    for step in task["steps"]:
        send("step", step)
        if scene.startswith("slow"):
            time.sleep(60)
        if step == "auxiliary":
            if scene.startswith("killed") or (scene.startswith("lost") and not again):
                os.kill(os.getpid(), 9)
            if scene.startswith("bad"):
                send("done", "RasterError: a.tif is truncated")
                break
            if scene.startswith("offline") or (scene.startswith("outage") and not again):
                send("done", "no route to host", unreachable=True)
                break
        send("progress", "row 1 of 2")
        send("finished", step)
    else:
        send("done", succeeded=True, figures=dict(objects=3, extent_km2=1.5), notes=["a check"])
    send("ready")
"""

STEPS = ("raw_scene", "auxiliary", "preprocessed_tile")
Execute = Callable[..., AreaResult]


@pytest.fixture
def output() -> StringIO:
    return StringIO()


@pytest.fixture
def execute(tmp_path: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch, output: StringIO) -> Iterator[Execute]:
    program = tmp_path / "python"
    program.write_text(WORKER)
    program.chmod(0o755)
    monkeypatch.setattr(worker_pool.sys, "executable", str(program))
    monkeypatch.setattr(area_run, "_OUTAGE_SECONDS", 0.1)
    monkeypatch.setattr(area_run, "_RECORD_SECONDS", 0.0)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    home = tmp_path / "dagster"
    shutil.copytree(empty_home, home)
    registry = SceneRegistry(store=Store(url=str(tmp_path / "store")), access=SourceAccess())
    with dg.DagsterInstance.from_config(str(home)) as instance:

        def run(
            *scenes: str,
            workers: int = 1,
            verbose: bool = False,
            prepare: Callable[[dg.DagsterInstance], None] | None = None,
        ) -> AreaResult:
            instance.add_dynamic_partitions("sentinel2_scene", list(scenes))
            if prepare:
                prepare(instance)
            plan = dict.fromkeys(scenes, STEPS)
            display = ProgressDisplay(Console(file=output, width=200), len(plan), 3 * len(plan))
            work = AreaRun(
                instance, dg.Definitions(), registry, SENTINEL2, plan,
                title="a map", environment=os.environ, logs=tmp_path / "logs",
                verbose=verbose,
            )  # fmt: skip
            return work.execute(Capacity(workers, (), "a test"), display)

        run.instance = instance  # type: ignore[attr-defined]
        yield run


def tasks(tmp_path: Path) -> list[str]:
    return (tmp_path / "tasks").read_text().splitlines()


def record(execute: Execute, result: AreaResult) -> tuple[str, dict[str, set[str]], dict[str, set[str]]]:
    """Status of the backfill, materialized and failed partitions by step."""
    backfill = execute.instance.get_backfill(result.backfill)  # type: ignore[attr-defined]
    data = backfill.asset_backfill_data

    def partitions(subset: "dg.AssetGraphSubset") -> dict[str, set[str]]:  # type: ignore[name-defined]
        found: dict[str, set[str]] = {}
        for key in subset.iterate_asset_partitions():
            found.setdefault(key.asset_key.path[-1], set()).add(key.partition_key)
        return found

    return backfill.status.value, partitions(data.materialized_subset), partitions(data.failed_and_downstream_subset)


def test_a_failed_scene_does_not_stop_the_others(execute: Execute, tmp_path: Path, output: StringIO) -> None:
    result = execute("a", "bad", "c", workers=2)
    assert result.mapped == {"a": {"objects": 3, "extent_km2": 1.5}, "c": {"objects": 3, "extent_km2": 1.5}}
    assert result.failed == {"bad": "RasterError: a.tif is truncated"}
    assert result.notes == {"a": ("a check",), "c": ("a check",)}
    assert (result.not_tried, result.ended_by) == ([], None)
    everything, good = {"a", "bad", "c"}, {"a", "c"}
    assert record(execute, result) == (
        "COMPLETED_FAILED",
        {"raw_scene": everything, "auxiliary": good, "preprocessed_tile": good},
        {"auxiliary": {"bad"}, "preprocessed_tile": {"bad"}},
    )
    lines = output.getvalue().splitlines()
    assert any(line.endswith("bad: failed in auxiliary") for line in lines)
    assert any("a: 3 detections in 1.5 km2 (" in line for line in lines)
    path = write_failures(result)
    assert path is not None
    assert path.read_text().split() == ["[", '"bad"', "]"]
    assert write_failures(execute("d")) is None


def test_a_lost_worker_is_replaced_and_its_scene_goes_on_where_it_was(execute: Execute, tmp_path: Path) -> None:
    result = execute("lost", "killed", "c")
    assert result.mapped.keys() == {"lost", "c"}
    assert result.failed == {
        "killed": "the process of its step auxiliary was killed by signal 9; is there enough memory? Fewer workers "
        "need less (--workers)"
    }
    assert tasks(tmp_path) == [
        "lost raw_scene auxiliary preprocessed_tile",
        "killed raw_scene auxiliary preprocessed_tile",
        "c raw_scene auxiliary preprocessed_tile",
        "lost auxiliary preprocessed_tile",
        "killed auxiliary preprocessed_tile",
    ]


def test_a_connection_that_is_lost_meanwhile_is_awaited(execute: Execute, tmp_path: Path) -> None:
    result = execute("a", "outage", "offline")
    assert result.mapped.keys() == {"a", "outage"}
    assert result.failed == {"offline": "no route to host"}
    assert [task.split()[0] for task in tasks(tmp_path)].count("offline") == 4


def test_without_a_connection_at_the_start_nothing_more_is_tried(execute: Execute, tmp_path: Path) -> None:
    result = execute("offline1", "offline2", "offline3")
    assert result.failed == {"offline1": "no route to host"}
    assert result.ended_by == "services cannot be reached"
    assert result.not_tried == ["offline2", "offline3"]
    assert record(execute, result)[0] == "CANCELED"


def test_the_log_of_a_scene_is_shown_on_request(execute: Execute, output: StringIO) -> None:
    assert execute("a", verbose=True).mapped.keys() == {"a"}
    assert "10:00:00 a message" in output.getvalue().splitlines()
    assert "half of ano" not in output.getvalue()
    execute("b")
    assert output.getvalue().count("a message") == 1


def test_scenes_of_other_runs_are_left_to_them(execute: Execute) -> None:
    def start_another(instance: dg.DagsterInstance) -> None:
        run = instance.create_run_for_job(noop, tags={"dagster/partition": "b"})
        instance.report_run_canceling(run)

    @dg.job
    def noop() -> None: ...

    result = execute("a", "b", prepare=start_another)
    assert result.mapped.keys() == {"a"}
    assert result.elsewhere == ["b"]


def test_cancelling_the_backfill_in_dagster_ends_the_work(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(area_run, "cancel_is_requested", lambda instance, backfill: True)
    monkeypatch.setattr(worker_pool, "_GRACE", 0.2)
    result = execute("slow1", "slow2")
    assert result.ended_by == "cancelled in Dagster"
    assert sorted(result.not_tried) == ["slow1", "slow2"]
    assert record(execute, result)[0] == "CANCELED"


def test_workers_that_do_not_start_end_the_command_with_their_reason(execute: Execute, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(WorkersFailedError, match="do not start: SettingsError: DARTS_MODELS: it is broken"):
        execute("a")
