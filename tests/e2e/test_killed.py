"""`raw_scene` killed with SIGKILL while it writes: not readable, not materialized, and the next run heals it."""

import json
import multiprocessing
import multiprocessing.context
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import rasterio

from darts_assets.demo import World, build_world
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.settings import Settings
from darts_assets.stores.tiles import read_tile
from tests.e2e.harness import Site

KILLS = 6


def materialize(home: str, folder: str, settings: Settings, scene: str) -> None:
    """What a run's process does."""
    site = Site(Path(folder), settings, dg.DagsterInstance.from_config(home))
    site.run(scene, "raw_scene")


@pytest.fixture(scope="module")
def larger_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One scene of 1024 x 1024 px: its write takes long enough to be hit."""
    return build_world(tmp_path_factory.mktemp("larger") / "world", seed=3, scenes=1, size=1024)


def test_kills_at_random_moments(new_site: Callable[..., Site], larger_world: World) -> None:
    processes = multiprocessing.get_context("forkserver")  # a server that has imported everything: children start fast
    processes.set_forkserver_preload(["tests.e2e.harness", "darts_assets.sources", "darts_assets.stores.tiles"])
    site = new_site()
    (scene,) = site.register(larger_world.items[0])
    home, folder = str(site.folder / "dagster"), str(site.folder)
    place = site.place("raw", "cdse", scene)
    moments = random.Random(11)
    duration = _seconds_of_writing(processes, new_site("unharmed"), larger_world)
    outcomes = {"absent": 0, "complete": 0}
    in_the_middle = 0
    for _ in range(KILLS):
        shutil.rmtree(place.location.path, ignore_errors=True)
        child = processes.Process(target=materialize, args=(home, folder, site.settings, scene))
        child.start()
        _wait_for(lambda: _is_written(place.location.path), child)
        time.sleep(moments.uniform(0, duration))
        child.kill()
        child.join()
        in_the_middle += _is_written(place.location.path)
        if place.manifest() is None:
            outcomes["absent"] += 1
            assert not _recorded_by_the_last_run(site, scene), "Dagster must not call materialized what is not readable"
        else:
            outcomes["complete"] += 1
            _assert_equal_to_source(place, larger_world)
            duration *= 0.8  # this machine has become faster since it was measured
    assert in_the_middle >= KILLS // 2, f"most kills must hit the write itself: {in_the_middle}, {outcomes}"

    assert site.run(scene, "raw_scene").success
    _assert_equal_to_source(place, larger_world)
    assert site.materialized("raw_scene") == {scene}
    names = {path.name for path in place.location.path.iterdir()}
    assert names == {"current.json", "current.json.lock", *place.require().contents.values()}, (
        "the next run removes what killed ones left"
    )


def _seconds_of_writing(processes: multiprocessing.context.BaseContext, site: Site, world: World) -> float:
    """How long a write takes on this machine, so that kills fall into it."""
    (scene,) = site.register(world.items[0])
    folder = site.place("raw", "cdse", scene).location.path
    child = processes.Process(
        target=materialize, args=(str(site.folder / "dagster"), str(site.folder), site.settings, scene)
    )
    child.start()
    _wait_for(lambda: _is_written(folder), child)
    began = time.monotonic()
    _wait_for(lambda: not _is_written(folder), child)
    took = time.monotonic() - began
    child.join()
    return took


def _is_written(place: Path) -> bool:
    """Whether a writer's name is in the pointer."""
    try:
        return json.loads((place / "current.json").read_bytes())["writer"] is not None
    except FileNotFoundError:
        return False


def _wait_for(condition: Callable[[], bool], child: multiprocessing.process.BaseProcess) -> None:
    deadline = time.monotonic() + 60
    while not condition() and child.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _recorded_by_the_last_run(site: Site, scene: str) -> bool:
    records = site.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=SENTINEL2.key("raw_scene"), asset_partitions=[scene]), limit=1
    ).records
    runs = site.instance.get_run_records(limit=1)
    return bool(records) and records[0].run_id == runs[0].dagster_run.run_id


def _assert_equal_to_source(place, world: World) -> None:
    raw = read_tile(place, decode=False)
    for name, asset in (("blue", "B02"), ("nir", "B08")):
        (path,) = world.items[0].parent.rglob(f"*_{asset}_*.tif")
        with rasterio.open(path) as source:
            np.testing.assert_array_equal(raw[name].values, source.read(1))
