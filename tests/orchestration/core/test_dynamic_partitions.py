"""Queries on the registry load only the keys that they ask about."""

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.dynamic_partitions import (
    materialized,
    register,
    registered,
    registered_containing,
    with_runs,
)
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.orchestration.data_preparation.config import PrepareDataConfig, find_scenes_for
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings
from tests.servers.stac_api.scene_feed import SceneFeed, scene
from tests.servers.stac_api.server import StacApi

SCENES = SENTINEL2.partitions
PRODUCTS = SENTINEL2.key(STEPS[-1])
PUBLISHED = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
COUNT = 5000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """Many scenes, each with a run and products: those of one, multiplied in the database."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("registry"))) as instance:
        names = [scene(number, PUBLISHED)["id"] for number in range(COUNT)]
        register(instance, SCENES, names)
        instance.add_run(dg.DagsterRun(job_name="sentinel2_chain", tags={"dagster/partition": names[0]}))
        for step in STEPS:
            instance.report_runless_asset_event(dg.AssetMaterialization(SENTINEL2.key(step), partition=names[0]))
        events: Any = instance.event_log_storage
        with events.index_connection() as connection:
            connection.exec_driver_sql(
                """INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)
                SELECT run_id, event, dagster_event_type, timestamp, asset_key, p.partition
                FROM event_logs e, dynamic_partitions p WHERE e.partition = ? AND p.partition <> ?""",
                (names[0], names[0]),
            )
        runs: Any = instance.run_storage
        with runs.connect() as connection:
            for number, name in enumerate(names[1:]):
                connection.exec_driver_sql(
                    """INSERT INTO runs (run_id, pipeline_name, status, run_body, partition)
                    SELECT ?, pipeline_name, status, run_body, ? FROM runs LIMIT 1""",
                    (f"run-{number}", name),
                )
                connection.exec_driver_sql(
                    "INSERT INTO run_tags (run_id, key, value) VALUES (?, 'dagster/partition', ?)",
                    (f"run-{number}", name),
                )
        yield instance


@contextmanager
def rows_loaded() -> Iterator[list[int]]:
    """How many rows the database has given to each query within, by asking it again."""
    asked: list[tuple[str, str, Any]] = []
    rows: list[int] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            asked.append((connection.engine.url.database, statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield rows
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    for database, statement, parameters in asked:
        with sqlite3.connect(database) as connection:
            rows.append(len(connection.execute(statement, parameters).fetchall()))


def test_only_what_is_asked_for(full: dg.DagsterInstance) -> None:
    known = [scene(number, PUBLISHED)["id"] for number in range(1500)]
    unknown = [scene(number, PUBLISHED)["id"] for number in range(COUNT, COUNT + 1500)]
    for found in (
        registered(full, SCENES, known + unknown),
        materialized(full, PRODUCTS, known + unknown),
        with_runs(full, known + unknown),
    ):
        assert found == {*known}
    for found in (registered(full, SCENES, []), materialized(full, PRODUCTS, []), with_runs(full, [])):
        assert found == set()


def test_registering_again_changes_nothing(full: dg.DagsterInstance) -> None:
    before = full.get_dynamic_partitions(SCENES.name)
    done: list[int] = []
    register(full, SCENES, [*reversed(before), before[0]], done.append)
    assert full.get_dynamic_partitions(SCENES.name) == before
    assert done == [5000, 5001]


def test_keys_that_contain_a_text() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        register(instance, SCENES, ["b_1", "a_1", "ab1", "a%1", "c"])
        assert registered_containing(instance, SCENES, ["_1"]) == ["b_1", "a_1"]
        assert registered_containing(instance, SCENES, ["%", "c"]) == ["a%1", "c"]
        assert registered_containing(instance, SCENES, []) == []


def test_a_tick_loads_only_the_scenes_that_it_sees(full: dg.DagsterInstance, stac_api: StacApi, tmp_path: Path) -> None:
    newest = [scene(number, PUBLISHED + dt.timedelta(seconds=number)) for number in range(COUNT - 20, COUNT + 10)]
    ids = SceneFeed(stac_api).publish(newest)
    (tmp_path / "areas.toml").write_text('version = 1\n[[areas]]\nname = "Peel"\ntiles = ["08WMB"]\nsince = 2024-01-01')
    settings = Settings(store=str(tmp_path / "store"), cdse_url=stac_api.url, catalog_pause=0)
    defs = build_defs(settings, watch=Watch(path=str(tmp_path / "areas.toml")))
    with (
        rows_loaded() as rows,
        dg.build_sensor_context(
            full, None, definitions=defs, resources=defs.resources, instance_ref=full.get_ref()
        ) as context,
    ):
        said: Any = defs.resolve_sensor_def("new_sentinel2_scenes").evaluate_tick(context)
    assert [request.partition_key for request in said.run_requests] == ids[20:]
    assert 20 <= sum(rows) < 500


def test_preparing_known_scenes_loads_only_these(full: dg.DagsterInstance, tmp_path: Path) -> None:
    resources: Any = build_defs(Settings(store=str(tmp_path / "store"), offline=True)).resources
    wanted = [scene(number, PUBLISHED) for number in range(40)]
    for item in wanted:
        resources["scenes"].keep(SENTINEL2, SENTINEL2.load_source().parse(item))
    how = {"instance": full, "scenes": resources["scenes"], "catalogs": resources["catalogs"], "log": lambda text: None}
    ids = [item["id"] for item in wanted]
    with rows_loaded() as rows:
        found = find_scenes_for(PrepareDataConfig(scene_ids=ids), dry_run=False, **how)
    assert found.registered.scene_ids == ids
    assert found.registered.new == []
    assert 40 <= sum(rows) < 500
    with rows_loaded() as rows:
        found = find_scenes_for(PrepareDataConfig(registered_tiles=["33UUP"]), dry_run=False, **how)
    assert found.summary == "0 scenes match (0 already registered, 0 new)."
    assert sum(rows) == len(full.get_dynamic_partitions(SCENES.name)), "all keys are loaded once: 0.3 s for 100,000"


def test_another_process_adds_the_same_partitions(tmp_path: Path) -> None:
    """Between Dagster's look at the existing ones and its insertion of the others, on SQLite."""
    partitions = dg.DynamicPartitionsDefinition(name="shared")
    database = tmp_path / "history" / "runs" / "index.db"
    others = ["b"]

    def intrude(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO dynamic_partitions") and others:
            with sqlite3.connect(database) as connection:
                insertion = "INSERT INTO dynamic_partitions (partitions_def_name, partition) VALUES ('shared', ?)"
                connection.execute(insertion, [others.pop()])

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.get_dynamic_partitions("shared")
        event.listen(Engine, "before_cursor_execute", intrude)
        try:
            register(instance, partitions, ["a", "b", "c"])
        finally:
            event.remove(Engine, "before_cursor_execute", intrude)
        assert not others
        assert instance.get_dynamic_partitions("shared") == ["b", "a", "c"]
