"""Auxiliary data that cannot be had: broken tiles, no network, no account, and wishes that make no sense."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS

from darts_assets.bands import TCVIS
from darts_assets.cubes.tcvis import PROVIDER_NAMES
from darts_assets.demo import World
from darts_assets.orchestration.core import error_handling
from darts_assets.remote import retry
from tests.e2e.harness import QUIET, Site, prepare_auxiliary, reason, summary
from tests.servers.earth_engine.server import serving
from tests.servers.earth_engine.world import FULL, GRID, expected, world
from tests.servers.network.file_server import serve_folder
from tests.servers.network.http_proxy import proxy_of

BIN = Path(sys.executable).parent


def shell(command: str, site: Site, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command line as a user of the site would enter it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DARTS_", "DAGSTER_"))}
    own = {
        "DAGSTER_HOME": str(site.folder / "dagster"), "DARTS_STORE": site.settings.store,
        "DARTS_ARCTICDEM": site.settings.arcticdem, "PATH": f"{BIN}:{os.environ['PATH']}",
    } | ({"DARTS_TCVIS": site.settings.tcvis} if site.settings.tcvis else {})  # fmt: skip
    return subprocess.run(
        ["sh", "-c", command], cwd=site.folder, env={**clean, **own, **settings}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


# --- a broken tile ----------------------------------------------------------------------------------------------------


class Broken:
    """A site whose mosaic has a truncated tile.

    Attributes:
        site: the site.
        tile: the tile.
        keys: the chunks under the tile, and a ring of neighbours.
    """

    def __init__(self, world: World, folder: Path, new_site: Callable[..., Site]) -> None:
        shutil.copytree(world.arcticdem.parent, folder)
        self.tile = max(folder.rglob("*_dem.tif"), key=lambda path: path.stat().st_size)
        self.site = new_site("broken", arcticdem=str(folder / "catalog.json"))
        self._content = self.tile.read_bytes()
        grid = self.site.resource("cubes").arcticdem_cube(10).spec.grid
        with rasterio.open(self.tile) as source:
            left, bottom, right, top = source.bounds
        cols, rows = grid.geobox.wld2pix(np.array([left, right]), np.array([top, bottom]))
        rows, cols = (range(int(a) // 1024 - 1, int(b) // 1024 + 2) for a, b in (rows, cols))
        self.keys = [grid.key(row, col) for row in rows for col in cols]
        self.tile.write_bytes(self._content[: len(self._content) // 3])

    def repair(self) -> None:
        self.tile.write_bytes(self._content)

    def lost(self) -> set[str]:
        """What is not filled; Dagster must know all the rest, and no more."""
        filled = self.site.resource("cubes").arcticdem_cube(10).filled(self.keys)
        assert self.site.chunks("arcticdem") == filled
        return set(self.keys) - filled


@pytest.fixture
def broken(world: World, tmp_path: Path, new_site: Callable[..., Site]) -> Broken:
    return Broken(world, tmp_path / "arcticdem", new_site)


def test_a_broken_tile_fails_its_chunks_and_the_others_of_the_run_are_recorded(broken: Broken) -> None:
    broken.site.instance.add_dynamic_partitions("arcticdem_chunk", [*broken.keys, "10m-malformed"])
    result = broken.site.materialize_chunks("arcticdem", broken.keys[0], broken.keys[-1])
    assert not result.success
    lost = broken.lost()
    assert 0 < len(lost) < len(broken.keys)
    said = reason(result)
    assert f"{len(lost)} chunk(s) could not be filled" in said
    assert broken.tile.name in said
    assert all(key in said for key in sorted(lost)[:10])
    maps = [facts["coverage"] for facts in broken.site.recorded(result, "arcticdem").values() if "coverage" in facts]
    assert len(maps) == 1
    assert f"red: {len(lost)} missing" in maps[0]

    broken.repair()
    result = broken.site.materialize_chunks("arcticdem", broken.keys[0], broken.keys[-1])
    assert result.success
    assert broken.lost() == set()
    said = broken.site.recorded(result, "arcticdem")
    assert {key for key, facts in said.items() if "already_filled" not in facts} == lost


def test_a_malformed_key_in_a_range_does_not_keep_the_others_from_being_filled(broken: Broken) -> None:
    broken.repair()
    first, second = broken.keys[:2]
    broken.site.instance.add_dynamic_partitions("arcticdem_chunk", [first, "10m-malformed", second])
    result = broken.site.materialize_chunks("arcticdem", first, second)
    assert "'10m-malformed'" in reason(result)
    assert broken.site.chunks("arcticdem") == {first, second}


def test_a_broken_tile_fails_its_batches_of_the_job_and_the_next_run_heals_them(broken: Broken) -> None:
    block = [f"{broken.keys[0]}...{broken.keys[-1]}"]
    result = broken.site.prepare(chunks=block, chunks_per_step=4)
    assert not result.success
    lost = broken.lost()
    assert 0 < len(lost) < len(broken.keys)
    failed = [event for event in result.all_events if event.is_step_failure]
    assert {event.step_key.partition("[")[0] for event in failed} == {"fill_arcticdem_chunks"}
    said = " ".join(event.step_failure_data.user_failure_data.description for event in failed)
    assert set(re.findall(r"10m-r\d{4}-c\d{4}", said)) == lost
    succeeded = [event for event in result.all_events if event.is_step_success]
    assert len(succeeded) > 1, "batches without a chunk of that tile are not concerned"

    broken.repair()
    again = broken.site.prepare(chunks=block, chunks_per_step=4)
    assert again.success
    assert summary(again)["arcticdem_10m"]["filled_now"] == len(lost)
    assert broken.lost() == set()


def test_a_failed_run_is_gone_on_with_by_dagster_itself(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("store", "arcticdem", "tcvis"):
        monkeypatch.setenv(f"DARTS_{name.upper()}", getattr(broken.site.settings, name))
    job, instance = dg.reconstructable(prepare_auxiliary), broken.site.instance
    chosen = {"chunks": [f"{broken.keys[0]}...{broken.keys[-1]}"], "chunks_per_step": 4}
    config = {**QUIET, "ops": {"choose_chunks": {"config": chosen}}}
    steps = Path(broken.site.settings.store) / "steps"
    with dg.execute_job(job, instance=instance, run_config=config) as first:
        assert not first.success
        failed = {event.step_key for event in first.all_node_events if event.is_step_failure}
        assert list(steps.rglob("*.json")), "what its steps have handed on is needed again"
    broken.repair()
    again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
    with dg.execute_job(job, instance=instance, run_config=config, reexecution_options=again) as second:
        assert second.success
        done = {event.step_key for event in second.all_node_events if event.is_step_success}
    assert done == {*failed, "sum_up"}
    assert broken.lost() == set()
    assert list(steps.iterdir()) == []


# --- no network, no account -------------------------------------------------------------------------------------------


def test_offline_the_advice_is_a_command_that_works(new_site: Callable[..., Site], world: World) -> None:
    site = new_site(offline=True)
    (scene,) = site.register(world.items[0])
    said = reason(site.run(scene, "raw_scene", "auxiliary"))
    assert re.search(r"arcticdem_10m: \d+ chunk\(s\) are missing: 10m-r\d{4}-c\d{4}", said)
    command = said.partition("this fetches them: ")[2]
    assert scene in command
    done = shell(command, site)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert site.run(scene).success, "with its chunks filled, a scene runs offline"


def test_offline_chunks_that_are_there_are_recorded_and_the_others_named(new_site: Callable[..., Site]) -> None:
    site = new_site()
    keys = [f"10m-r0400-c{col:04d}" for col in (300, 301, 302)]
    site.prepare(chunks=keys[:2])
    other = new_site("other").using(store=site.settings.store, offline=True)
    other.instance.add_dynamic_partitions("arcticdem_chunk", keys)
    said = reason(other.materialize_chunks("arcticdem", keys[0], keys[-1]))
    assert "1 chunk(s) are missing: 10m-r0400-c0302" in said
    assert other.chunks("arcticdem") == set(keys[:2])
    arguments = shlex.split(said.partition("this fetches them: ")[2])
    assert json.loads(arguments[1])["ops"]["choose_chunks"]["config"] == {"chunks": keys[2:]}
    said = reason(other.prepare(chunks=keys))
    assert "10m-r0400-c0302" in said
    assert "DARTS_OFFLINE" in said


@pytest.mark.parametrize("on_a_cluster", [False, True])
def test_a_mosaic_that_cannot_be_reached_fails_the_step_and_is_tried_again_on_a_cluster(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, on_a_cluster: bool
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if on_a_cluster:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)
    monkeypatch.setattr(error_handling, "MAX_SOURCE_RETRIES", 1)
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)
    site = new_site(arcticdem="http://127.0.0.1:9/api/v1/")
    result = site.prepare(chunks=["10m-r0400-c0300", "10m-r0400-c0301"])
    assert any(event.is_step_up_for_retry for event in result.all_events) is on_a_cluster
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "GET http://127.0.0.1:9/api/v1/ failed: 127.0.0.1:9 refused the connection" in str(
        failure.step_failure_data.error
    )
    assert site.chunks("arcticdem") == set()


def test_what_was_filled_before_a_service_failed_is_recorded_once(
    new_site: Callable[..., Site], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    with serve_folder(world.arcticdem.parent) as folder, proxy_of(folder) as proxy:
        site = new_site(arcticdem=f"{proxy.url}/catalog.json")
        with rasterio.open(next(world.arcticdem.parent.rglob("*_dem.tif"))) as source:
            middle = shapely.Point(source.xy(source.height // 2, source.width // 2))
            one = site.resource("cubes").arcticdem_cube(10).spec.grid.chunks_under(middle, CRS(source.crs))
        keys = [*one, *(f"10m-r0400-c{col:04d}" for col in range(300, 306))]  # the others have no tile to wait for
        site.instance.add_dynamic_partitions("arcticdem_chunk", keys)
        proxy.fail("_dem.tif", 503, times=12)
        result = site.materialize_chunks("arcticdem", keys[0], keys[-1])
    assert result.success
    assert {event.step_key for event in result.all_events if event.is_step_up_for_retry} == {"aux__arcticdem_chunk"}
    logs = site.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert sorted(log.dagster_event.partition for log in logs) == sorted(keys)
    assert all("Picture" in facts for facts in site.recorded(result, "arcticdem").values())


def test_without_an_account_trends_say_what_to_set(
    new_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    said = reason(new_site(tcvis=None).prepare(chunks=["2024-r0080-c0500"]))
    assert "DARTS_EARTH_ENGINE_KEY_FILE" in said
    assert "earthengine authenticate" in said
    said = reason(new_site("key", tcvis=None, earth_engine_key_file="gone.json").prepare(chunks=["2024-r0080-c0500"]))
    assert "gone.json" in said


@pytest.mark.slow
def test_trends_come_from_earth_engine_by_settings_with_a_process_for_each_step(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(tcvis=None)
    key = GRID.key(*FULL)
    config = json.dumps({"ops": {"choose_chunks": {"config": {"chunks": [key]}}}})
    command = f"echo {shlex.quote(config)} | dagster job execute -m darts_assets -j prepare_auxiliary -c /dev/stdin"
    with serving(world()) as server:
        secret = server.key()
        (tmp_path / "key.json").write_text(json.dumps(secret))
        account = {"DARTS_EARTH_ENGINE_URL": server.url, "DARTS_EARTH_ENGINE_KEY_FILE": str(tmp_path / "key.json")}
        own = {"DARTS_EARTH_ENGINE_PROJECT": secret["project_id"], "DARTS_EXECUTOR": "multiprocess"}
        done = shell(command, site, **account, **own)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        wrong = shell(command.replace("c0500", "c0499"), site, **account, DARTS_EARTH_ENGINE_PROJECT="somebody-elses")
        assert wrong.returncode == 1
        assert "somebody-elses" in wrong.stderr
    box = GRID.chunk_geobox(*FULL)
    window = site.resource("cubes").tcvis_cube(2024).window(box)
    for name, provider in zip(TCVIS, PROVIDER_NAMES, strict=True):
        np.testing.assert_array_equal(window[name].values, expected(2024, box)[provider])
    assert site.chunks("tcvis") == {key}
    for text in (done.stdout, done.stderr, wrong.stdout, wrong.stderr):
        assert secret["private_key"][100:140] not in text


# --- wishes that make no sense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "No chunks selected: set exactly one of aoi, scenes and chunks"),
        (
            {"aoi": "a.gpkg", "chunks": ["10m-r0400-c0300"]},
            "aoi and chunks are set: set exactly one of aoi, scenes and chunks",
        ),
        ({"aoi": "no-such-file.gpkg"}, "no-such-file.gpkg: there is no such file"),
        ({"aoi": "a.gpkg", "years": [2020], "vintages": [2020]}, "years and vintages"),
        ({"aoi": "a.gpkg", "layers": ["lidar"]}, "lidar; expected arcticdem, tcvis"),
        ({"scenes": ["S2A_unknown"]}, "S2A_unknown"),
        ({"scenes": ["S2A_unknown"], "vintages": [2020]}, "vintages has no effect if chunks are selected by scenes"),
        ({"chunks": ["10m-r0400-c0300"], "layers": ["tcvis"]}, "layers has no effect if chunks are selected by chunks"),
        ({"chunks": ["5m-r0400-c0300"]}, "'5m-r0400-c0300' is not a chunk of arcticdem"),
        ({"chunks": ["10m-r0400-c0300...10m-r9999-c0300"]}, "10m-r9999-c0300"),
        ({"chunks": ["10m-r0400-c0300...2024-r0070-c0300"]}, "'2024-r0070-c0300' is not a chunk of this cube"),
        ({"chunks": ["tcvis"]}, "'tcvis' is not a chunk of tcvis; expected a key such as 2024-r0123-c0456"),
        ({"chunks": ["10m-r0400-c0300"], "chunks_per_step": 0}, "chunks_per_step: 0; expected at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_registered(
    site: Site, config: dict[str, Any], words: str
) -> None:
    assert words in reason(site.prepare(**config))
    assert site.instance.get_dynamic_partitions("arcticdem_chunk") == []


def test_areas_that_no_cube_covers_or_that_need_unknown_cubes(site: Site, tmp_path: Path) -> None:
    import geopandas as gpd

    for name, shape in {"canaries": shapely.box(-16, 27, -15, 28), "north": shapely.box(10, 70, 10.1, 70.1)}.items():
        gpd.GeoDataFrame(geometry=[shape], crs=4326).to_file(tmp_path / f"{name}.gpkg")
    assert "no cube covers" in reason(site.prepare(aoi=str(tmp_path / "canaries.gpkg")))
    north = str(tmp_path / "north.gpkg")
    assert "TCVIS has the vintages" in reason(site.prepare(aoi=north, vintages=[2021]))
    assert "not at 5 m" in reason(site.prepare(aoi=north, arcticdem_resolution=5))
    assert "tpi_outer_radius" in reason(site.prepare(aoi=north, tpi_outer_radius=-1))
    without = site.using(auxiliary=())
    assert "DARTS_AUXILIARY" in reason(without.prepare(aoi=north))
    assert without.prepare(aoi=north, layers=["tcvis"], dry_run=True).success


# --- history ----------------------------------------------------------------------------------------------------------


def test_the_history_of_cubes_is_shortened_on_request(site: Site) -> None:
    def said(**config: Any) -> dict[str, Any]:
        result = site.run_job("expire_cube_history", "expire_history", **config)
        assert result.success, reason(result)
        (output,) = [event for event in result.all_events if event.is_successful_output]
        return {name: value.value for name, value in output.step_output_data.metadata.items()}

    assert said() == {}
    assert not (Path(site.settings.store) / "aux").exists(), "asking does not make a folder"
    keys = ["10m-r0400-c0300", "10m-r0400-c0301"]
    site.prepare(chunks=[*keys, "2024-r0080-c0500"])
    nothing = {"snapshots": 0, "objects": 0, "bytes": 0}
    assert said() == {"arcticdem_10m": nothing, "tcvis_2024": nothing}
    assert said(cubes=["tcvis_2024"], older_than_days=1) == {"tcvis_2024": nothing}
    assert site.resource("cubes").arcticdem_cube(10).filled(keys) == set(keys)
    for config, words in (
        ({"older_than_days": 0.5}, "cannot expire"),
        ({"cubes": ["arcticdem_11m"]}, "unknown cube 'arcticdem_11m'; expected one of arcticdem_2m, "),
    ):
        assert words in reason(site.run_job("expire_cube_history", "expire_history", **config))


def test_two_runs_do_not_shorten_the_history_at_once(site: Site) -> None:
    from dagster._core.test_utils import create_run_for_test

    other = create_run_for_test(site.instance, job_name="expire_cube_history", status=dg.DagsterRunStatus.STARTED)
    words = reason(site.run_job("expire_cube_history", "expire_history"))
    assert f"run {other.run_id} is already expiring the history" in words
    site.instance.report_run_canceled(other)
    assert site.run_job("expire_cube_history", "expire_history").success
