"""How long the registry takes with many scenes, in PostgreSQL.

`python -m tests.benchmarks.registry_scale`

For each size a database is made anew, in which all scenes are registered and all but the last 100 processed: each has a
run of its chain and materializations, multiplied within the database from those of one scene. Then this is measured:

- registering all scenes, and registering them again;
- the partition status of an asset as the UI asks for it, at first and after some events;
- a tick of the sensor, whose catalog gives 1000 scenes, 900 of them processed;
- `discover_scenes` with the ids of 1000 registered scenes;
- asking for a backfill as the UI does, and the first iteration of Dagster's daemon, which creates its runs and leaves
  them in the queue: of `segmentation`, by default 10,000 scenes in runs of eight, and of `raw_scene`, in as many runs
  of one scene; the iteration's seconds are for each run.

Dagster's webserver and daemon, PostgreSQL and the catalog run on this machine, the first two in this process. Beside
seconds, the table has processor seconds, PostgreSQL's included: they suffer less from what else the machine does. The
growth between sizes is an exponent: 1 is linear.
"""

import datetime as dt
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import dagster as dg
import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.dynamic_partitions import register
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings
from tests.benchmarks.measuring import machine
from tests.e2e.backfills import Backfills
from tests.servers.postgres.cluster import FAST_DISKS, postgres_instance
from tests.servers.stac_api.scene_feed import SceneFeed, scene
from tests.servers.stac_api.server import StacApi, running

SIZES = (1000, 10_000, 100_000)
NEW = 100
SHOWN = 1000
RUNS = 1250  # 10,000 scenes
PUBLISHED = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)

STATUS = """
query Status($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionStats { numMaterialized numPartitions }
    assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions } }
  } }
}
"""

LAUNCH = """
mutation Launch($asked: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $asked) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message stack }
  }
}
"""


@dataclass
class Measured:
    """Of one size.

    Attributes:
        size: registered scenes.
        seconds: what was done -> wall clock and processor seconds.
    """

    size: int
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str, parts: int = 1) -> Iterator[None]:
        """Measure what is done within; for each of its `parts`."""
        cpu, started = processor_seconds(), time.perf_counter()
        yield
        self.seconds[what] = ((time.perf_counter() - started) / parts, (processor_seconds() - cpu) / parts)


def processor_seconds() -> float:
    """Of this process and of those that it has started, PostgreSQL's backends included, also those that have ended."""
    own = psutil.Process()
    total = sum(own.cpu_times()[:2])
    for child in own.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # its parent has its times by now
    return total


def scene_id(number: int) -> str:
    return str(scene(number, PUBLISHED)["id"])


@dataclass(frozen=True)
class Registry:
    """An instance of some size.

    Attributes:
        folder: of all its files.
        instance: Dagster's.
        settings: of the code location.
        scenes: their ids, as they are registered.
    """

    folder: Path
    instance: dg.DagsterInstance
    settings: Settings
    scenes: Sequence[str]

    @property
    def defs(self) -> dg.Definitions:
        return build_defs(self.settings, watch=Watch(path=str(self.folder / "areas.toml")))

    def process(self) -> None:
        """Let all scenes but the last have runs and materializations."""
        first, *others = self.scenes[:-NEW]
        run = dg.DagsterRun(job_name="sentinel2_chain", tags={"dagster/partition": first})
        self.instance.add_run(run)
        for step in STEPS:
            tags = {"dagster/data_version": "1", "dagster/code_version": "1"}
            event = dg.AssetMaterialization(SENTINEL2.key(step), partition=first, tags=tags)
            self.instance.report_runless_asset_event(event)
        storage: Any = self.instance.event_log_storage
        with storage.index_connection() as connection:
            connection.execute(sa.text("CREATE TEMP TABLE others (number serial, id text)"))
            for start in range(0, len(others), 5000):
                values = [{"id": other} for other in others[start : start + 5000]]
                connection.execute(sa.text("INSERT INTO others (id) VALUES (:id)"), values)
            for statement in MULTIPLY:
                connection.execute(sa.text(statement), {"first": first, "run": run.run_id})
        self.analyze()

    def analyze(self) -> None:
        """Let PostgreSQL look at its tables, as it does by itself within minutes."""
        storage: Any = self.instance.event_log_storage
        with storage.index_connection() as connection:
            connection.execute(sa.text("ANALYZE"))

    def keep_items(self, numbers: Sequence[int]) -> None:
        """What registering has kept of scenes."""
        scenes = (self.defs.resources or {})["scenes"]
        source = SENTINEL2.load_source()
        for number in numbers:
            scenes.keep(SENTINEL2, source.parse(scene(number, PUBLISHED)))

    def tick(self) -> int:
        """A tick of the sensor; how many runs it asks for."""
        defs = self.defs
        with dg.build_sensor_context(
            self.instance, None, definitions=defs, resources=defs.resources, instance_ref=self.instance.get_ref()
        ) as context:
            evaluated: Any = defs.resolve_sensor_def("new_sentinel2_scenes").evaluate_tick(context)
        return len(evaluated.run_requests)

    def discover(self, ids: Sequence[str]) -> None:
        config = {"ops": {"find_scenes": {"config": {"scene_ids": list(ids)}}}, "loggers": QUIET}
        job = self.defs.resolve_job_def("discover_scenes")
        assert job.execute_in_process(instance=self.instance, run_config=config).success


QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}

_RUN = "replace(run_id, substr(run_id, 1, 8), to_hex(number + 268435456))"
MULTIPLY = (
    f"""INSERT INTO runs
    (run_id, snapshot_id, pipeline_name, status, run_body, partition, create_timestamp, update_timestamp)
    SELECT {_RUN}, snapshot_id, pipeline_name, status, replace(replace(run_body, :first, others.id), run_id, {_RUN}),
    others.id, create_timestamp, update_timestamp FROM runs, others WHERE run_id = :run""",
    f"""INSERT INTO run_tags (run_id, key, value)
    SELECT {_RUN}, key, replace(value, :first, others.id) FROM run_tags, others WHERE run_id = :run""",
    """INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT run_id, replace(event, :first, others.id), dagster_event_type, timestamp, step_key, asset_key, others.id
    FROM event_logs, others WHERE partition = :first""",
)
"""SQL that makes, of the run and the events of one scene, those of the others."""


@contextmanager
def registry(folder: Path, size: int, api: StacApi) -> Iterator[Registry]:
    """Of some size, nothing being registered yet."""
    config = {"concurrency": {"runs": {"max_concurrent_runs": 0}}}
    with postgres_instance(folder, config, options=FAST_DISKS) as instance:
        since = f"{PUBLISHED - dt.timedelta(days=9):%Y-%m-%d}"
        (folder / "areas.toml").write_text(
            f'version = 1\n[[areas]]\nname = "Peel"\ntiles = ["08WMB"]\nsince = {since}\n'
        )
        settings = Settings(store=str(folder / "store"), cdse_url=api.url, catalog_pause=0)
        yield Registry(folder, instance, settings, [scene_id(number) for number in range(size)])


def measure(size: int, runs: int, folder: Path, api: StacApi) -> Measured:
    """All of it for one size, with backfills of so many runs."""
    from dagster_graphql.test.utils import execute_dagster_graphql

    measured = Measured(size)
    with registry(folder, size, api) as made:
        with measured.of("registration"):
            register(made.instance, SENTINEL2.partitions, made.scenes)
        made.analyze()
        with measured.of("registration, all known"):
            register(made.instance, SENTINEL2.partitions, made.scenes)
        made.process()
        shown = range(max(0, size - SHOWN), size)
        SceneFeed(api).publish(scene(number, PUBLISHED + dt.timedelta(seconds=number)) for number in shown)
        made.keep_items(shown)
        with measured.of("sensor tick"):
            requested = made.tick()
        assert requested == NEW, f"{requested} of {NEW} new scenes were requested"
        with measured.of(f"discover {len(shown)} known"):
            made.discover([made.scenes[number] for number in shown])
        with Backfills.at(folder, made.settings, made.instance) as backfills:

            def ask(query: str, **variables: Any) -> Any:
                return execute_dagster_graphql(backfills.workspace.create_request_context(), query, variables).data

            key = {"path": SENTINEL2.key("preprocessed_tile").path}
            ask(STATUS, key={"path": SENTINEL2.key("products").path})  # loads what is loaded once
            with measured.of("status, first"):
                evaluated = ask(STATUS, key=key)["assetNodeOrError"]["partitionStats"]
            assert evaluated == {"numMaterialized": size - NEW, "numPartitions": size}
            made.instance.report_runless_asset_event(
                dg.AssetMaterialization(SENTINEL2.key("preprocessed_tile"), partition=made.scenes[-1])
            )
            with measured.of("status, then"):
                assert ask(STATUS, key=key)["assetNodeOrError"]["partitionStats"]["numMaterialized"] == size - NEW + 1
            for step, each in (("segmentation", made.settings.scenes_per_run), ("raw_scene", 1)):
                launched = made.scenes[: min(size, runs * each)]
                asked = {"partitionNames": launched, "assetSelection": [{"path": SENTINEL2.key(step).path}]}
                count = math.ceil(len(launched) / each)
                what = f"{step}, backfill"
                with measured.of(f"{what}, asked for"):
                    answer = ask(LAUNCH, asked=asked)["launchPartitionBackfill"]
                assert answer["__typename"] == "LaunchBackfillSuccess", answer
                with measured.of(f"{what}, a run (of {each})", parts=count):
                    backfills.iterate()
                mine = dg.RunsFilter(tags={"dagster/backfill": answer["backfillId"]})
                assert made.instance.get_runs_count(mine) == count
    return measured


def growth(before: Measured, after: Measured, what: str) -> float:
    """The exponent by which processor time has grown between two sizes: 1 is linear."""
    times = after.seconds[what][1] / max(before.seconds[what][1], 0.01)
    return math.log(max(times, 0.01)) / math.log(after.size / before.size)


def table(sizes: Sequence[Measured]) -> Table:
    host = machine()
    shown = Table(title=f"{host['cpu']}, {host['cores']} cores, load {os.getloadavg()[0]:.0f}")
    shown.add_column("seconds (processor seconds)")
    for each in sizes:
        shown.add_column(f"{each.size:,}", justify="right")
    for before, after in pairwise(sizes):
        shown.add_column(f"growth {before.size:,} to {after.size:,}", justify="right")
    for what in sizes[0].seconds if sizes else ():
        times = [f"{wall:.3f} ({cpu:.3f})" for wall, cpu in (each.seconds[what] for each in sizes)]
        shown.add_row(what, *times, *(f"{growth(a, b, what):.2f}" for a, b in pairwise(sizes)))
    return shown


@click.command(help=__doc__)
@click.option("--partitions", type=int, multiple=True, default=SIZES, help="Registered scenes; several times.")
@click.option("--runs", default=RUNS, help="That each backfill launches.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the figures, JSON.")
def main(partitions: Sequence[int], runs: int, output: Path | None) -> None:
    """Measure, and print a table."""
    sizes = []
    with running() as api:
        for size in partitions:
            with tempfile.TemporaryDirectory(prefix="registry-") as folder:
                sizes.append(measure(size, runs, Path(folder), api))
            Console().print(table(sizes))
    if output:
        figures = {"machine": machine(), "load": os.getloadavg(), "sizes": {m.size: m.seconds for m in sizes}}
        output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
