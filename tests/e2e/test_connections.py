"""Six runs at a time fetch scenes of CDSE: four steps at most, with one connection each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from darts_assets.orchestration.core.partitions import SENTINEL2
from tests.servers.network.tcp_proxy import tcp_proxy_of
from tests.servers.s3.eodata import Eodata, raster, scene_item

SCENES = [f"S2A_MSIL2A_2023061{day}T210021_N0509_R100_T08WNB_2023061{day}T231122" for day in range(6)]
BANDS = {"B02_10m": 1, "B03_10m": 1, "B04_10m": 1, "B08_10m": 1, "SCL_20m": 2}
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
SECONDS = 240


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
def test_six_runs_open_four_connections_at_most(service: str, tmp_path: Path) -> None:
    bucket = Eodata(boto3.client("s3", endpoint_url=service))
    rng = np.random.default_rng(1)
    assets = {}
    for name, factor in BANDS.items():
        side, highest = 240 // factor, 12 if name.startswith("SCL") else 5000
        values = rng.integers(1, highest, (side, side)).astype("uint8" if highest == 12 else "uint16")
        assets[name] = bucket.asset(name, raster(values, 10 * factor, "JP2OpenJPEG"))
    items = [tmp_path / f"{scene}.json" for scene in SCENES]
    for scene, item in zip(SCENES, items, strict=True):
        item.write_text(json.dumps({**scene_item(assets), "id": scene}))
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with tcp_proxy_of(service) as counter:
        environment = {
            **os.environ, "DAGSTER_HOME": str(home), "DARTS_STORE": str(tmp_path / "store"),
            "DARTS_SOURCE_ENDPOINT": counter.url, "DARTS_SOURCE_REGION": "us-east-1",
        }  # fmt: skip

        def start(*command: str) -> "subprocess.Popen[str]":
            program, *words = command
            path = str(Path(sys.executable).with_name(program))
            return subprocess.Popen(
                [path, *words],
                env=environment,
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )

        def finish(process: "subprocess.Popen[str]") -> None:
            said = process.communicate(timeout=SECONDS)[0]
            assert process.returncode == 0, said[-3000:]

        finish(start("dagster", "instance", "concurrency", "set", "cdse", "4"))
        finish(start("darts-assets", "register", *map(str, items)))
        select = ("--select", 'key:"sentinel2/raw_scene"')
        runs = [
            start("dagster", "asset", "materialize", "-m", "darts_assets", *select, "--partition", scene)
            for scene in SCENES
        ]
        for run in runs:
            finish(run)
        assert 1 <= counter.peak <= 4
        assert counter.total >= 2 * len(SCENES) * len(BANDS)
        assert counter.open == 0
    instance = dg.DagsterInstance.from_config(str(home))
    assert instance.get_materialized_partitions(SENTINEL2.key("raw_scene")) == set(SCENES)
    assert 2 <= most_steps_at_once(instance) <= 4
    instance.dispose()


def most_steps_at_once(instance: dg.DagsterInstance) -> int:
    """Steps that fetch, of all runs, by the times at which they began and ended."""
    fetching = ["sentinel2__raw_scene"]  # the checks after them are in no pool
    steps = [step for run in instance.get_runs() for step in instance.get_run_step_stats(run.run_id, fetching)]
    changes = sorted(change for step in steps for change in ((step.start_time or 0, 1), (step.end_time or 0, -1)))
    return max(int(n) for n in np.cumsum([change for _, change in changes]))
