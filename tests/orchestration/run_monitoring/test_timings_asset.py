"""`runs/timings` over an instance in which all kinds of things have happened to runs."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.run_monitoring.timings_asset import run_timings
from darts_assets.settings import Settings
from darts_assets.stores.publish import Place
from darts_assets.timings import COLUMNS

pytestmark = pytest.mark.slow

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SCENES = dg.DynamicPartitionsDefinition(name="scene")


class Config(dg.Config):
    fail: str = ""
    size: int = 1


@dg.asset(key=["family", "first"], partitions_def=SCENES)
@measured
def first(context: dg.AssetExecutionContext, config: Config) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        if config.fail == "sentence":
            raise dg.Failure("SceneError: there is no such scene", allow_retries=False)
        if config.fail == "surprise":
            raise dg.RetryRequested(1, 0) from ValueError("surprise\nand more")
    context.log_event(dg.AssetMaterialization(["aux", "chunk"], partition="r0-c0", metadata={"seconds": 2.5}))
    facts = provenance("1", {"size": config.size}, item="abc")
    return dg.MaterializeResult(metadata=as_metadata({"bytes": 10 * 2**20, "provenance": facts}))


@dg.asset(key=["family", "second"], partitions_def=SCENES, deps=[first])
def second() -> None: ...


@dg.asset(key=["family", "several"], partitions_def=SCENES, output_required=False,
          backfill_policy=dg.BackfillPolicy.multi_run(9))  # fmt: skip
def several(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for scene in context.partition_keys:
        if scene != "b":
            yield dg.AssetMaterialization(context.asset_key, partition=scene, metadata={"seconds": 3.0})
    raise dg.Failure("b: dark", metadata={"failed": dg.MetadataValue.json({"b": "dark"})}, allow_retries=False)


@dg.op
def careless() -> None:
    raise ValueError("not an asset")


@dg.op
def preparing() -> None:
    raise dg.Failure("x: down; y: gone", metadata={"failed": dg.MetadataValue.json({"x": "down", "y": "gone"})})


@dg.job
def careless_job() -> None:
    careless()
    preparing()


class History:
    """An instance with runs, and a store."""

    def __init__(self, folder: Path) -> None:
        (folder / "dagster").mkdir()
        self.instance = dg.DagsterInstance.local_temp(str(folder / "dagster"))
        self.settings = Settings(store=str(folder / "store"))
        self.instance.add_dynamic_partitions("scene", list("abc"))

    def run(self, *assets: dg.AssetsDefinition, config: dict[str, Any] | None = None, **options: Any) -> str:
        ops = {"family__first": {"config": config}} if config else {}
        return dg.materialize(
            list(assets), instance=self.instance, run_config={**QUIET, "ops": ops}, raise_on_error=False, **options
        ).run_id  # fmt: skip

    def timings(self, **config: Any) -> tuple[dict[str, Any], pd.DataFrame]:
        """What the asset says, and its table."""
        done = dg.materialize(
            [run_timings], instance=self.instance, resources={"store": Store(url=self.settings.store)},
            run_config={**QUIET, "ops": {"runs__timings": {"config": config}}},
        )  # fmt: skip
        (event,) = done.get_asset_materialization_events()
        place = Place(self.settings.root.child("runs", "timings"))
        versions = place.require().contents
        folder = place.location.path / versions["timings.parquet"]
        assert {path.name for path in folder.iterdir()} == versions.keys()
        return (
            {name: value.value for name, value in event.materialization.metadata.items()},
            pd.read_parquet(folder / "timings.parquet"),
        )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    history = History(tmp_path_factory.mktemp("history"))
    for scene in "ab":
        history.run(first, second, partition_key=scene, tags={"dagster/backfill": "season"})
    history.run(first, second, partition_key="c", config={"fail": "sentence", "size": 5})
    history.run(first, partition_key="c", config={"fail": "surprise"})
    ends = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    history.run(several, tags=ends)
    careless_job.execute_in_process(instance=history.instance, raise_on_error=False, run_config=QUIET)
    yield history
    history.instance.dispose()


@pytest.fixture(scope="module")
def all_of_it(history: History) -> tuple[dict[str, Any], pd.DataFrame]:
    return history.timings()


def rows(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    said = table.astype(object).where(table.notna(), None)
    return sorted(said[list(columns)].itertuples(index=False, name=None), key=str)


@pytest.mark.slow
def test_every_step_of_every_scene_has_a_row(all_of_it: tuple[dict[str, Any], pd.DataFrame]) -> None:
    said, table = all_of_it
    assert list(table.columns) == list(COLUMNS)
    assert rows(table, "asset", "scene", "result", "error", "attempts") == sorted(
        [
            ("family/first", "a", "ok", None, 1),
            ("family/first", "b", "ok", None, 1),
            ("family/first", "c", "failed", "SceneError: there is no such scene", 1),
            ("family/first", "c", "failed", "ValueError: surprise", 2),
            ("family/second", "a", "ok", None, 1),
            ("family/second", "b", "ok", None, 1),
            ("family/second", "c", "skipped", None, None),
            ("aux/chunk", "r0-c0", "ok", None, 1),
            ("aux/chunk", "r0-c0", "ok", None, 1),
            ("family/several", "a", "ok", None, 1),
            ("family/several", "b", "failed", "dark", None),
            ("family/several", "c", "ok", None, 1),
            ("careless", None, "failed", "ValueError: not an asset", 1),
            ("preparing", "x", "failed", "down", None),
            ("preparing", "y", "failed", "gone", None),
        ],
        key=str,
    )
    assert (said["runs"], said["steps"], said["ok"], said["failed"], said["skipped"]) == (6, 15, 8, 6, 1)
    failures = [dict(record.data) for record in said["failures"].records]
    assert {row["error"] for row in failures} >= {"dark", "ValueError: surprise", "SceneError: there is no such scene"}


def test_figures_config_and_versions_are_in_the_table(all_of_it: tuple[dict[str, Any], pd.DataFrame]) -> None:
    _, table = all_of_it
    one = table[(table["asset"] == "family/first") & (table["scene"] == "a")].iloc[0]
    assert 0 < one["seconds"] < 5
    assert one["peak_memory"] > 2**20
    assert one["bytes"] == 10 * 2**20
    assert json.loads(one["config"]) == {"fail": "", "size": 1}
    assert json.loads(one["parameters"]) == {"size": 1}
    assert json.loads(one["inputs"]) == {"item": "abc"}
    assert "dagster" in json.loads(one["versions"])
    assert one["code_version"].endswith("+1")
    assert re.fullmatch("[0-9a-f]{16}", one["data_version"])
    assert one["backfill"] == "season"
    assert abs(one["started"] - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=5)
    other = table[(table["asset"] == "family/second") & (table["result"] == "ok")]
    assert (other["seconds"] > 0).all(), "by the log, where nothing was measured"
    chunks = table[table["asset"] == "aux/chunk"]
    assert set(chunks["within"]) == {"family/first"}
    assert set(chunks["seconds"]) == {2.5}


def test_the_summary_and_the_chart(all_of_it: tuple[dict[str, Any], pd.DataFrame]) -> None:
    said, table = all_of_it
    lines = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("| ").split("|")]
                                               for line in said["summary"].splitlines())}  # fmt: skip
    assert lines["step"][:3] == ["ok", "failed", "skipped"]
    assert lines["family/several"][:8] == ["2", "1", "0", "3.00", "0.00", "3.00", "3.00", "6.0"]
    assert lines["aux/chunk"][:9] == ["2", "0", "0", "2.50", "0.00", "2.50", "2.50", "5.0", "-"], "counted already"
    own = table[table["within"].isna() & (table["result"] == "ok")]["seconds"].sum()
    assert lines["family/several"][8] == f"{6 / own:.0%}"
    assert lines["careless"] == ["0", "1", "0", *["-"] * 9]
    assert lines["family/first"][-1] == "20.0"
    assert said["chart"].startswith("![](data:image/png;base64,")
    assert len(said["chart"]) < 100_000


@pytest.mark.slow
def test_selection_of_runs(history: History) -> None:
    runs = {run.run_id: run for run in history.instance.get_runs()}
    now = dt.datetime.now(dt.UTC)
    day, earlier = f"{now:%Y-%m-%d}", (now - dt.timedelta(hours=2)).isoformat(timespec="seconds")
    (failed,) = [run.run_id for run in runs.values() if run.job_name == "careless_job"]

    def table(**config: Any) -> list[tuple[Any, ...]]:
        return rows(history.timings(**config)[1], "asset", "scene")

    assert table(runs=[failed]) == [("careless", None), ("preparing", "x"), ("preparing", "y")]
    first_of_season = [("aux/chunk", "r0-c0")] * 2 + [("family/first", "a"), ("family/first", "b")]
    assert table(backfill="season", assets=["aux", "family/first"]) == first_of_season
    assert table(since=day, until=day, assets=["careless"]) == [("careless", None)]
    assert table(until=earlier) == []
    season = [run_id for run_id, run in runs.items() if run.tags.get("dagster/backfill")]
    assert table(runs=season, max_runs=1, assets=["family/first"]) == [("family/first", "b")], "the newest"
    assert "No finished steps" in history.timings(until=earlier)[0]["summary"]


def test_invalid_time(history: History) -> None:
    with pytest.raises(dg.Failure, match="since is 'yesterday': expected a date or a time such as 2026-07-01T12:00"):
        history.timings(since="yesterday")


@pytest.mark.slow
def test_pages_are_followed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    from darts_assets.orchestration.run_monitoring import event_log

    whole = history.timings(assets=["family", "aux", "careless"])[1]
    monkeypatch.setattr(event_log, "_RUNS_PER_PAGE", 2)
    monkeypatch.setattr(event_log, "_EVENTS_PER_PAGE", 3)
    paged = history.timings(assets=["family", "aux", "careless"])[1]
    pd.testing.assert_frame_equal(paged, whole)
