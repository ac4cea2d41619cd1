"""The commands of the README, as processes of their own."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import geopandas as gpd
import pytest
import rasterio
import requests
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from geopandas.testing import assert_geodataframe_equal

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2

BIN = Path(sys.executable).parent


def call(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DARTS_STORE", "DAGSTER_"))}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo on one scene of 640 x 640 px: its folder and what it output."""
    folder = tmp_path_factory.mktemp("newcomer")
    # As in a script's background; what it started must end with it, else its output would never.
    command = ["/bin/sh", "-c", 'trap "" INT TERM; exec "$0" "$@"', str(BIN / "darts-assets")]
    done = call(*command, "demo", "--scenes", "1", "--size", "640", cwd=folder, COLUMNS="80")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "darts-demo", done.stdout


def variables(folder: Path) -> dict[str, str]:
    assignments = [shlex.split(line)[1] for line in (folder / "env.sh").read_text().splitlines()]
    return {name: value for name, _, value in (assignment.partition("=") for assignment in assignments)}


def products(folder: Path) -> dict[str, Path]:
    (place,) = (folder / "store" / "products" / "sentinel2").iterdir()
    current = json.loads((place / "current.json").read_text())["contents"]
    return {name: place / version / name for name, version in current.items()}


def test_the_demo_finds_the_slumps_and_says_where_everything_is(demo: tuple[Path, str]) -> None:
    folder, output = demo
    row = re.search(r"2023-07-15 T08WMB S2A │\s+(\d+) │\s+(\d+) │\s+(\d+) │\s+(\d+) │\s+(\d+) │ (0\.\d\d) │", output)
    assert row, output
    detections, slumps, hits, misses, _, iou = row.groups()
    assert float(iou) >= 0.6
    assert int(hits) + int(misses) == int(slumps) > 0
    assert int(detections) > 0
    latest = products(folder)["prediction_segments.gpkg"].parents[1] / "latest"
    assert str(latest) in output
    assert (latest / "prediction_segments.gpkg").is_file()
    assert "1 of 1 scenes" in output
    assert f". {folder / 'env.sh'} && dagster dev -m darts_assets" in output


def test_publish_updates_inventory_catalog_and_map(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    store = folder / "store"
    nothing = call(
        "darts-assets", "publish", cwd=folder, DARTS_STORE=str(folder / "none"), DAGSTER_HOME=str(folder / "h")
    )
    assert nothing.returncode == 1
    assert nothing.stderr.splitlines()[-1].startswith("Error: no scene has polygons to publish; map scenes first")
    for _ in range(2):
        done = call("darts-assets", "publish", cwd=folder, **variables(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        lines = re.sub(r" \(\d+ s\)", "", done.stdout).splitlines()
        sites = len(gpd.read_parquet(store / "inventory" / "rts" / "2023" / "latest" / "rts_2023.parquet"))
        assert lines[:3] == [
            f"Inventory of 2023: {sites} sites",
            f"Slumps through the years: {sites} slumps, {sites} chips",
            f"Catalog and map: {len(gpd.read_parquet(store / 'catalog' / 'detections'))} detections",
        ]
        assert len(lines) == 4
        assert (store / "catalog" / "map" / "index.html").is_file()


def test_another_world_in_the_same_folder_is_refused(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    before = (folder / "world" / "world.json").read_text()
    done = call("darts-assets", "demo", "--scenes", "2", "--size", "640", cwd=folder.parent)
    assert done.returncode == 1
    assert "contains a demo with other parameters" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "world" / "world.json").read_text() == before


def test_materializing_the_scene_by_hand_gives_the_same_files(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    (scene,) = (path.name for path in (folder / "store" / "products" / "sentinel2").iterdir())
    before = {name: path.read_bytes() for name, path in products(folder).items()}
    segments = gpd.read_parquet(products(folder)["prediction_segments.parquet"])
    done = call(
        "dagster", "asset", "materialize", "-m", "darts_assets",
        "--select", 'group:"sentinel2"', "--partition", scene,
        cwd=folder, **variables(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    after = products(folder)
    assert after.keys() == before.keys()
    assert after["metadata.json"].read_bytes() != before["metadata.json"], "it was written again: another export date"
    for name in ("probabilities.tif", "binarized.tif"):
        with rasterio.MemoryFile(before[name]) as memory, memory.open() as old, rasterio.open(after[name]) as new:
            assert (old.read() == new.read()).all()
            assert old.profile == new.profile
    assert after["thumbnail.jpg"].stat().st_size > 1000
    assert_geodataframe_equal(gpd.read_parquet(after["prediction_segments.parquet"]), segments)
    with dg.DagsterInstance.from_config(variables(folder)["DAGSTER_HOME"]) as instance:
        check = dg.AssetCheckKey(SENTINEL2.key("polygons"), "geometries_valid")
        history = instance.event_log_storage.get_asset_check_execution_history(check, limit=9)
    by_hand, of_demo = history
    assert {record.status for record in history} == {AssetCheckExecutionRecordStatus.SUCCEEDED}
    assert {record.partition for record in history} == {scene}
    assert by_hand.run_id != of_demo.run_id


def test_register_by_command_and_by_job(world: World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"DAGSTER_HOME": str(home), "DARTS_STORE": str(tmp_path / "store")}
    done = call("darts-assets", "register", str(world.items[0]), cwd=tmp_path, **environment)
    assert done.stdout.splitlines() == [world.items[0].stem]
    _, _, time, *_, tile, _ = world.items[0].stem.split("_")
    assert f"{time[:4]}-{time[4:6]}-{time[6:8]} {tile} {world.items[0].stem[:3]}" in done.stderr
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"ops": {"register": {"config": {"items": [str(world.items[1])]}}}}))
    done = call(
        "dagster", "job", "execute", "-m", "darts_assets", "-j", "register_scenes", "--config", str(config),
        cwd=tmp_path, **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list((home / "storage").glob("*/register"))
    kept = {path.stem for path in (tmp_path / "store" / "scenes" / "sentinel2").glob("*.json")}
    assert kept == {item.stem for item in world.items}


def test_the_checkout_is_a_code_location_without_flags(tmp_path: Path) -> None:
    done = call("dagster", "definitions", "validate", cwd=Path(__file__).parents[2], DAGSTER_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Validation successful" in done.stdout + done.stderr


def test_register_says_what_is_wrong(world: World, tmp_path: Path) -> None:
    item = str(world.items[0])
    without_home = call("darts-assets", "register", item, cwd=tmp_path)
    assert without_home.returncode == 1
    assert "DAGSTER_HOME is not set" in without_home.stderr
    absent = call("darts-assets", "register", "no-such-item.json", cwd=tmp_path, DAGSTER_HOME=str(tmp_path))
    assert absent.returncode == 1
    assert "no-such-item.json" in absent.stderr
    assert "Traceback" not in absent.stderr
    senseless = call(
        "darts-assets", "register", item, cwd=tmp_path, DAGSTER_HOME=str(tmp_path), DARTS_AUXILIARY="lidar"
    )
    assert senseless.returncode == 1
    assert "DARTS_AUXILIARY" in senseless.stderr
    assert "Traceback" not in senseless.stderr


CHECKOUT = Path(__file__).parents[2]


def test_dg_checks_and_lists_the_definitions_of_the_checkout(tmp_path: Path) -> None:
    home = {"DAGSTER_HOME": str(tmp_path)}
    done = call("dg", "check", "defs", cwd=CHECKOUT, **home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully." in done.stdout
    listed = call("dg", "list", "defs", "--json", "--target-path", str(CHECKOUT), cwd=tmp_path, **home)
    keys = {asset["asset_key"] for asset in json.loads(listed.stdout)["assets"]}
    assert {"sentinel2/raw_scene", "sentinel2/products", "inventory/rts"} <= keys
    outside = call("dg", "check", "defs", cwd=tmp_path, **home)
    assert outside.returncode != 0, "as the README states: a folder without dg's project needs --target-path"


def test_dg_launches_a_step_of_a_scene_from_any_folder(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = demo
    (scene,) = (path.name for path in (folder / "store" / "products" / "sentinel2").iterdir())
    done = call(
        "dg", "launch", "-m", "darts_assets", "--assets", "key:sentinel2/raw_scene", "--partition", scene,
        cwd=tmp_path, **variables(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with dg.DagsterInstance.from_config(variables(folder)["DAGSTER_HOME"]) as instance:
        event = instance.get_latest_materialization_event(SENTINEL2.key("raw_scene"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.partition == scene
        (newest,) = instance.get_runs(limit=1)
        assert (newest.run_id, newest.status) == (event.run_id, dg.DagsterRunStatus.SUCCESS)


def test_dg_dev_serves_the_definitions(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [BIN / "dg", "dev", "--port", port, "--target-path", CHECKOUT], cwd=tmp_path, stdout=output, stderr=output,
            env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        )  # fmt: skip
    query = {"query": "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"}
    names = []
    try:
        deadline = time.monotonic() + 300
        while not names and time.monotonic() < deadline:
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/graphql", json=query, timeout=10).json()
            except (requests.ConnectionError, requests.Timeout):
                continue
            names = [node["location"]["name"] for node in answer["data"]["repositoriesOrError"]["nodes"]]
    finally:
        server.terminate()
        server.wait(120)
    assert names == ["darts_assets"], log.read_text()


def test_dagster_and_dg_use_the_settings_file_and_run_config_wins(demo: tuple[Path, str], tmp_path: Path) -> None:
    """The file sets the store, which is relative to it, and a threshold; polygons of another threshold are others."""
    folder, _ = demo
    (scene,) = (path.name for path in (folder / "store" / "products" / "sentinel2").iterdir())
    (tmp_path / "sub").mkdir()
    (tmp_path / "demo").symlink_to(folder)
    (tmp_path / "darts.toml").write_text('store = "demo/store"\n[polygons]\nthreshold = 0.9\n')
    environment = {"DARTS_CONFIG": "", "DAGSTER_HOME": variables(folder)["DAGSTER_HOME"]}
    scene_of = ("-m", "darts_assets", "--partition", scene)

    def polygons() -> tuple[float, str]:
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            event = instance.get_latest_materialization_event(SENTINEL2.key("polygons"))
            assert event is not None
            assert event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            assert metadata["config"].value["threshold"] == metadata["provenance"].value["parameters"]["threshold"]
            return metadata["config"].value["threshold"], metadata["provenance"].value["data_version"]

    before = polygons()
    select = ("--select", 'key:"sentinel2/polygons"')
    done = call("dagster", "asset", "materialize", *scene_of, *select, cwd=tmp_path / "sub", **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    of_file = polygons()
    assert (before[0], of_file[0]) == (0.5, 0.9)
    assert of_file[1] != before[1], "another data version: the products of the scene are stale"
    config = json.dumps({"ops": {"sentinel2__polygons": {"config": {"threshold": 0.5}}}})
    done = call(
        "dg", "launch", *scene_of, "--assets", "key:sentinel2/polygons", "--config-json", config,
        cwd=tmp_path / "sub", **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert polygons() == before
    (tmp_path / "darts.toml").write_text("[polygons]\ntreshold = 0.9\n")
    done = call("dagster", "definitions", "validate", "-m", "darts_assets", cwd=tmp_path / "sub", **environment)
    assert done.returncode != 0
    assert "[polygons] treshold is not a parameter of polygons, did you mean threshold?" in done.stdout + done.stderr
