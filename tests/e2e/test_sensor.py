"""Scenes appear, and Dagster's own daemon requests each of them once, however often it is killed."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
from scene_feed import SceneFeed, scene
from stac_api import StacApi

SENSOR = "new_sentinel2_scenes"
LOCATION = Path(__file__).with_name("watched_location.py")
SECONDS = 120

YAML = """
telemetry: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 0}}  # runs wait in the queue for good
"""
AREAS = """
version = 1

[[areas]]
name = "Peel"
tiles = ["08WMB"]

[[areas]]
name = "everything"
aoi = "everything.geojson"
"""
EVERYTHING = """{"type": "Polygon", "coordinates": [[[-140, 67], [-130, 67], [-130, 70], [-140, 70], [-140, 67]]]}"""


@dataclass(frozen=True)
class Home:
    """A Dagster instance on disk, its settings, and what is watched.

    Attributes:
        folder: of the instance.
        environment: of its processes.
        instance: the same, for looking at it.
    """

    folder: Path
    environment: dict[str, str]
    instance: dg.DagsterInstance

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Dagster's daemon, which is killed at the end with all its processes."""
        with (self.folder / "daemon.log").open("a") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-f", str(LOCATION)],
                env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield
            finally:
                children = psutil.Process(daemon.pid).children(recursive=True)
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
                for child in children:
                    if child.is_running():
                        child.kill()
                psutil.wait_procs(children, SECONDS)

    def wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not until():
            if time.monotonic() > end:
                pytest.fail((self.folder / "daemon.log").read_text()[-4000:])
            time.sleep(0.1)

    def ticks(self, status: str) -> int:
        (state,) = self.instance.all_instigator_state()
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sum(tick.status.value == status for tick in ticks)


@pytest.fixture
def home(tmp_path: Path, stac_api: StacApi) -> Iterator[Home]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(YAML)
    (tmp_path / "areas.toml").write_text(AREAS)
    (tmp_path / "everything.geojson").write_text(EVERYTHING)
    environment = {
        **os.environ, "DAGSTER_HOME": str(folder), "DARTS_STORE": str(tmp_path / "store"), "DARTS_CATALOG_PAUSE": "0",
        "DARTS_CDSE_URL": stac_api.url, "DARTS_WATCH": str(tmp_path / "areas.toml"),
    }  # fmt: skip
    instance = dg.DagsterInstance.from_config(str(folder))
    yield Home(folder, environment, instance)
    instance.dispose()


@pytest.mark.slow
def test_every_scene_is_requested_once(home: Home, stac_api: StacApi) -> None:
    """Three batches, the second one twice, and a daemon that is killed while it requests the first and the second."""
    feed = SceneFeed(stac_api)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    scenes = [scene(n, start + dt.timedelta(minutes=n), ("08WMB", "08WNB")[n % 2]) for n in range(200)]
    first, second, third = scenes[:70], scenes[70:140], scenes[140:]
    turn_on = [sys.executable, "-m", "dagster", "sensor", "start", SENSOR, "-f", str(LOCATION)]
    subprocess.run(turn_on, env=home.environment, cwd=home.folder, check=True, capture_output=True)

    feed.publish(first)
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 20)
    assert home.instance.get_runs_count() < 70, "it was killed in the middle"
    feed.publish(second)
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 90)
    assert home.instance.get_runs_count() < 140
    feed.publish([*third, *second])
    with home.daemon():
        home.wait(lambda: home.instance.get_runs_count() >= 200)
        seen = home.ticks("SKIPPED")
        home.wait(lambda: home.ticks("SKIPPED") > seen + 1)  # it has looked again, and again

    ids = sorted(item["id"] for item in scenes)
    assert sorted(home.instance.get_dynamic_partitions("sentinel2_scene")) == ids
    runs = home.instance.get_runs()
    assert Counter(run.tags["dagster/partition"] for run in runs) == Counter(ids)
    assert {run.tags["darts/area"] for run in runs} == {"Peel", "everything"}
    assert {run.status for run in runs} == {dg.DagsterRunStatus.QUEUED}
    assert home.ticks("FAILURE") == 0
