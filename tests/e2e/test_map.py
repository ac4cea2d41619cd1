"""`darts-assets map`, as a user types it: an area from a STAC API to polygons, interrupts, shards, and its messages."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from darts_assets.demo import World
from darts_assets.orchestration.core.dagster_compat import (
    BACKFILL_ID_TAG,
    add_backfill,
    cancel_is_requested,
    finished_partitions,
    update_backfill,
)
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from tests.e2e.backfills import Backfills
from tests.e2e.harness import DEMO_MODEL, QUIET, Site
from tests.servers.network.file_server import serve_folder
from tests.servers.s3.eodata import Eodata, raster, scene_item
from tests.servers.s3.moto_server import S3Server
from tests.servers.stac_api.server import StacApi

COMMAND = str(Path(sys.executable).parent / "darts-assets")
NOWHERE = "http://127.0.0.1:9"
SECONDS = 600


@dataclass
class User:
    """Somebody with a folder and an environment, who maps."""

    folder: Path
    environment: dict[str, str]
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "dagster-home"

    def start(self, *options: str, command: str = "map", **environment: str) -> "subprocess.Popen[str]":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DARTS_", "DAGSTER_"))}
        process = subprocess.Popen(
            [COMMAND, command, *options], cwd=self.folder, env={**inherited, **self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def map(self, *options: str, **environment: str) -> tuple[int, list[str]]:
        """Exit code and lines of the output."""
        process = self.start(*options, **environment)
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, [line for line in output.splitlines() if line.strip()]

    def runs_of_steps(self) -> Counter[tuple[str, str]]:
        """(step, scene) -> number of materializations."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return Counter(
                (step, str(record.partition_key))
                for step in STEPS
                for record in instance.fetch_materializations(SENTINEL2.key(step), limit=1000).records
            )

    def backfills(self) -> list[tuple[str, str]]:
        """Status and title of each backfill, the latest first."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [(backfill.status.value, str(backfill.title)) for backfill in instance.get_backfills()]

    def unfinished_runs(self) -> list[str]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [run.status.value for run in instance.get_runs() if not run.is_finished]


@pytest.fixture
def user(tmp_path: Path, world: World) -> Iterator[User]:
    sources = {"DARTS_ARCTICDEM": str(world.arcticdem), "DARTS_TCVIS": world.tcvis, "DARTS_MODELS": DEMO_MODEL}
    # The model then sees 300 px, not a reflection of them up to 1024.
    (tmp_path / "darts.toml").write_text("[segmentation]\npatch_size = 256\noverlap = 64\n")
    user = User(tmp_path, {**sources, "DARTS_STORE": str(tmp_path / "store"), "COLUMNS": "200"})
    yield user
    for process in user.processes:
        process.kill()
        process.communicate()


# --- an area ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Area:
    """Twelve scenes of a summer in a STAC API, with their files behind HTTP; one is corrupt, one is clouded."""

    url: str
    aoi: Path
    corrupt: str
    clouded: str
    corrupt_file: Path
    intact_file: Path


@pytest.fixture(scope="module")
def area(stac_api: StacApi, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Area]:
    folder = tmp_path_factory.mktemp("area")
    clear = json.loads(world.items[0].read_text())
    with serve_folder(folder) as address:
        items = [_acquisition(clear, world.items[0].parent, folder, address, day) for day in range(1, 13)]
        corrupt, clouded = items[4]["id"], items[8]["id"]
        (nir,) = (folder / corrupt).rglob("*B08_10m.tif")
        intact = folder / "intact.tif"
        shutil.copy(nir, intact)
        nir.write_bytes(intact.read_bytes()[: intact.stat().st_size // 2])
        (scl,) = (folder / clouded).rglob("*SCL_20m.tif")
        with rasterio.open(scl) as source:
            profile, values = source.profile, source.read()
        with rasterio.open(scl, "w", **profile) as target:
            target.write(np.full_like(values, 9))  # clouds of high probability
        stac_api.load("sentinel-2-l2a", items)
        aoi = folder / "area.gpkg"
        footprint = shapely.geometry.shape(clear["geometry"])
        gpd.GeoDataFrame(geometry=[footprint.centroid.buffer(0.001)], crs=4326).to_crs(3995).to_file(aoi)
        yield Area(stac_api.url, aoi, corrupt, clouded, nir, intact)


def _acquisition(item: dict[str, Any], files: Path, folder: Path, address: str, day: int) -> dict[str, Any]:
    """A copy of a scene, sensed on another day, with its files in a folder of its own."""
    scene = re.sub("20230715T", f"202307{day:02}T", item["id"])
    shutil.copytree(files, folder / scene)
    made = copy.deepcopy(item)
    made["id"] = scene
    made["properties"]["datetime"] = re.sub("2023-07-15", f"2023-07-{day:02}", made["properties"]["datetime"])
    for asset in made["assets"].values():
        asset["href"] = f"{address}/{scene}/{asset['href'].removeprefix('./')}"
        asset.pop("file:size", None)
        asset.pop("file:checksum", None)
    return made


def test_an_area_is_mapped_but_for_a_corrupt_scene_and_a_rerun_touches_only_that(user: User, area: Area) -> None:
    user.environment |= {"DARTS_CDSE_URL": area.url, "DARTS_CATALOG_PAUSE": "0"}
    options = ["--aoi", str(area.aoi), "--source", "cdse", "--years", "2023", "--months", "7"]
    code, lines = user.map(*options, "--dry-run")
    assert code == 0
    assert "12 scenes match, 12 would be new; 0 finished, 12 to process." in lines
    assert lines[0].startswith(f"Dagster instance: {user.home} (created)")
    assert not (user.folder / "store").exists()

    code, lines = user.map(*options, "--export", "results", "--workers", "2")
    assert code == 1
    text = "\n".join(lines)
    assert "Processing 2 scenes at a time (as requested)." in lines
    done = [line for line in lines if re.match(r"\[\d+/12\] 2023-07-\d\d T08WMB S2A: ", line)]
    assert len(done) == 12
    assert re.search(r"^11 scenes mapped with \d+ detections?, 1 failed in ", text, re.MULTILINE), text
    assert lines[-1].startswith(f"  2023-07-05 T08WMB S2A ({area.corrupt}): RasterError: ")
    assert "B08_10m.tif" in lines[-1]
    assert sum("RasterError" in line for line in lines) == 1
    assert "2023-07-09 T08WMB S2A: " in text
    assert any("the valid area is empty" in line or "clouds" in line for line in lines if "2023-07-09" in line)
    assert (
        len(gpd.read_file(user.folder / "results" / "slumps.gpkg", layer="prediction_extent")["scene_id"].unique())
        >= 10
    )
    (backfill,) = user.backfills()
    assert backfill == ("COMPLETED_FAILED", "darts-assets map: 12 sentinel2 scenes")
    failed = json.loads(next(user.home.glob("map-logs/*/failed.json")).read_text())
    assert failed == [area.corrupt]
    before = user.runs_of_steps()
    assert before["products", area.clouded] == 1
    assert all(count == 1 for count in before.values())

    shutil.copy(area.intact_file, area.corrupt_file)
    code, lines = user.map(*options)
    assert code == 0
    assert "12 scenes match; 11 finished, 1 to process." in lines
    assert user.runs_of_steps() - before == Counter({(step, area.corrupt): 1 for step in STEPS})
    code, lines = user.map(*options, "--offline", DARTS_CDSE_URL=NOWHERE)
    assert code == 0
    assert "12 scenes match; 12 finished, 0 to process." in lines


def test_shards_share_a_store_and_sync_gives_their_statuses_to_another_instance(user: User, area: Area) -> None:
    shutil.copy(area.intact_file, area.corrupt_file)
    user.environment |= {"DARTS_CDSE_URL": area.url, "DARTS_CATALOG_PAUSE": "0"}
    options = ["--aoi", str(area.aoi), "--source", "cdse", "--through", "preprocessed_tile", "--workers", "1"]
    homes = [user.folder / f"home-{number}" for number in range(1, 5)]
    shards = [[*options, "--shard", f"{number}/4"] for number in range(1, 5)]
    running = [user.start(*shard, DAGSTER_HOME=str(home)) for shard, home in zip(shards, homes, strict=True)]
    _await(lambda: any(homes[0].glob("map-logs/*/S2*.log")))
    running[0].kill()
    for process in running:
        process.communicate(timeout=SECONDS)
    assert [process.returncode for process in running] == [-signal.SIGKILL, 0, 0, 0]
    assert user.map(*shards[0], DAGSTER_HOME=str(homes[0]))[0] == 0
    parts = [_finished(home) for home in homes]
    whole = {step: set().union(*(part[step] for part in parts)) for step in STEPS}
    counts = [len(part["preprocessed_tile"]) for part in parts]
    assert sum(counts) == len(whole["preprocessed_tile"]) == 12, "no scene is in two shards"
    assert counts.count(0) < 3
    fresh = user.folder / "fresh"
    done = user.start(command="sync", DAGSTER_HOME=str(fresh))
    output, _ = done.communicate(timeout=SECONDS)
    assert done.returncode == 0, output
    assert _finished(fresh) == whole


def _finished(home: Path) -> dict[str, set[str]]:
    """Step -> scenes whose partition is materialized and has not failed since."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return {step: finished_partitions(instance, SENTINEL2.key(step), SENTINEL2.partitions) for step in STEPS}


# --- interrupts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_an_interrupt_a_rerun_finishes_and_repeats_only_the_step_under_way(
    user: User, world: World, number: signal.Signals
) -> None:
    options = ["--scene", str(world.items[0])]
    process = user.start(*options)
    _await(lambda: "segmentation" in _logged(user))
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "Run the command again: finished work is kept." in output
        assert user.unfinished_runs() == []
        assert not list((user.folder / "store" / "runs" / "results").rglob("*.png")), "nobody waits for a chart"
        assert user.backfills()[0][0] == "CANCELED"
    code, lines = user.map(*options)
    assert code == 0, lines
    assert user.unfinished_runs() == []
    repeated = [step for (step, _), count in user.runs_of_steps().items() if count > 1]
    assert repeated in ([], ["segmentation"])
    assert {step for step, _ in user.runs_of_steps()} == set(STEPS)
    assert "1 scene matches; 1 finished, 0 to process." in user.map(*options)[1]


def _logged(user: User) -> str:
    return "".join(path.read_text() for path in user.home.glob("map-logs/*/*.log"))


def _await(condition: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# --- beside a daemon --------------------------------------------------------------------------------------------------


def test_a_daemon_launches_nothing_for_a_backfill_of_map(new_site: Callable[..., Site], world: World) -> None:
    site = new_site()
    first, second = site.register(*world.items)
    target = {SENTINEL2.key(step): [first, second] for step in ("raw_scene", "auxiliary")}
    add_backfill(site.instance, site.defs, "id", SENTINEL2.partitions, target, title="a map", description="")
    with Backfills.at(site.folder, site.settings, site.instance) as daemon:
        daemon.iterate()
        job = site.defs.resolve_job_def("sentinel2_chain")
        tags = {BACKFILL_ID_TAG: "id"}
        for scene in (first, second):
            job.execute_in_process(
                instance=site.instance, partition_key=scene, asset_selection=[SENTINEL2.key("raw_scene")], tags=tags,
                run_config=QUIET,
            )  # fmt: skip
            daemon.iterate()
        assert len(site.instance.get_runs()) == 2
        # A daemon that sees no run for a while may end the record; the command has the last word.
        update_backfill(
            site.instance, site.defs, "id", SENTINEL2.partitions,
            materialized={SENTINEL2.key("raw_scene"): [first, second]}, failed={}, status="REQUESTED",
        )  # fmt: skip
        assert not cancel_is_requested(site.instance, "id")


# --- messages ---------------------------------------------------------------------------------------------------------


def test_messages_are_short_and_end_with_the_reason(user: User, world: World, tmp_path: Path) -> None:
    item = str(world.items[0])
    unknown = "S2A_MSIL2A_20200101T000000_N0509_R001_T08WMB_20200101T010101"
    area = tmp_path / "area.geojson"
    gpd.GeoDataFrame(geometry=[shapely.box(-135, 69, -134.9, 69.1)], crs=4326).to_file(area)
    nowhere = {"DARTS_EARTH_SEARCH_URL": NOWHERE}
    cases: list[tuple[list[str], dict[str, str], int, str]] = [
        (["--aoi", str(area)], nowhere, 1, r"Error: .*refused the connection.*proxy and firewall settings"),
        (["--aoi", str(area), "--dry-run"], nowhere, 1, r"Error: .*refused the connection"),
        (["--scene", item], {"DARTS_MODELS": "none.ckpt"}, 1, r"Error: checkpoint .*none\.ckpt cannot be read"),
        (["--aoi", "aera.gpkg"], {}, 1, r"Error: .*aera\.gpkg"),
        (["--scene", unknown, "--offline"], {}, 1, r"offline"),
        (["--scene", "S2A_tpyo"], {}, 1, r"S2A_tpyo"),
        (["--scene", item, "--through", "segment"], {}, 1, r"'segment' is not a step; expected one of raw_scene"),
        ([], {}, 2, r"Error: no scenes are selected: set --aoi, --tiles, --scene or --ids-file"),
    ]
    for options, environment, expected, reason in cases:
        code, lines = user.map(*options, **environment)
        assert code == expected, lines
        assert len(lines) <= 15, lines
        assert re.search(reason, lines[-1]), lines
        assert "Traceback" not in "".join(lines)


def test_refused_keys_are_the_reason(user: User, tmp_path: Path) -> None:
    server = S3Server(tmp_path)
    try:
        bucket = Eodata(server.client)
        pixels = np.full((240, 240), 2000, np.uint16)
        bands = {
            f"B{n}_10m": bucket.asset(f"B{n}_10m", raster(pixels, 10, "JP2OpenJPEG")) for n in ("02", "03", "04", "08")
        }
        classes = bucket.asset("SCL_20m", raster(pixels[:120, :120].astype(np.uint8), 20, "JP2OpenJPEG"))
        (tmp_path / "item.json").write_text(json.dumps(scene_item({**bands, "SCL_20m": classes})))
        _, secret = server.require_keys(bucket.bucket, "Sentinel-2")
        keys = {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": secret}
        code, lines = user.map("--scene", str(tmp_path / "item.json"), DARTS_SOURCE_ENDPOINT=server.endpoint, **keys)
    finally:
        server.stop()
    assert code == 1
    assert len(lines) <= 15, lines
    assert "the keys in AWS_ACCESS_KEY_ID are refused (HTTP 403 InvalidAccessKeyId)" in lines[-1]
    for word in ("Traceback", "AKIAWRONG", secret):
        assert word not in "\n".join(lines)
