"""A job array maps an area offline, on a real SLURM cluster of one node; its results are merged by `sync`."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

import darts_assets
from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.scene_shards import Shard
from tests.e2e.harness import DEMO_MODEL
from tests.servers.slurm.cluster import missing_programs, slurm_cluster

SCRIPT = Path(darts_assets.__file__).parent / "area_mapping" / "slurm" / "map_shard.sbatch"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    bool(missing_programs()),
    reason=f"{', '.join(missing_programs())} not installed (Debian: slurmctld slurmd slurm-client munge)",
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    with slurm_cluster() as environment:
        yield environment


@pytest.fixture
def login(slurm: dict[str, str], world: World, tmp_path: Path) -> dict[str, str]:
    """The environment of a login node: sources that nodes must not need, and a Dagster instance."""
    kept = {name: value for name, value in slurm.items() if not name.startswith(("DARTS_", "DAGSTER_"))}
    return kept | {
        "PATH": f"{BIN}:{slurm['PATH']}",
        "DAGSTER_HOME": str(tmp_path / "login"),
        "DARTS_STORE": str(tmp_path / "store"),
        "DARTS_MODELS": DEMO_MODEL,
        "DARTS_ARCTICDEM": str(world.arcticdem),
        "DARTS_TCVIS": world.tcvis,
    }


def call(*command: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500)
    logs = "".join(f"\n{log.name}:\n{log.read_text()}" for log in sorted(cwd.glob("darts-map-*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + logs


def test_a_job_array_maps_what_the_login_node_has_fetched(login, world, tmp_path):
    (tmp_path / "login").mkdir()
    scenes = [item.stem for item in world.items]
    items = [option for item in world.items for option in ("--scene", str(item))]
    call("darts-assets", "map", *items, "--through", "auxiliary", cwd=tmp_path, env=login)

    script = shutil.copy(SCRIPT, tmp_path)
    resources = ["--cpus-per-task=1", "--mem=0", "--time=10"]  # of the test's machine
    node = {name: value for name, value in login.items() if name != "DAGSTER_HOME"}
    node |= {"DARTS_ARCTICDEM": "/nowhere", "DARTS_TCVIS": "/nowhere/{vintage}.tif"}
    submit = ["sbatch", "--wait", *resources, "--array=1-2", str(script)]
    logs = call(*submit, *(option for scene in scenes for option in ("--scene", scene)), cwd=tmp_path, env=node)
    for index in (1, 2):
        (log,) = tmp_path.glob(f"darts-map-*-{index}.log")
        days = {f"{scene[11:15]}-{scene[15:17]}-{scene[17:19]}" for scene in scenes if Shard(index, 2).has(scene)}
        assert f"{len(days)} scene matches in part {index}/2" in log.read_text(), logs
        assert all(day in log.read_text() for day in days), logs
        assert list((tmp_path / log.stem).rglob("*.log")), "logs of scenes"
    assert not list(Path(tempfile.gettempdir()).glob("darts-map-*")), "databases of jobs"

    output = call("darts-assets", "sync", cwd=tmp_path, env=login)
    assert "2 materializations of sentinel2/products" in output
    with dg.DagsterInstance.from_config(login["DAGSTER_HOME"]) as instance:
        assert instance.get_materialized_partitions(SENTINEL2.key("products")) == set(scenes)


def test_a_job_near_its_time_limit_ends_its_work_and_is_queued_again(slurm, tmp_path):
    """The command is replaced by one that notes its arguments and works until it is terminated."""
    calls = tmp_path / "calls"
    command = tmp_path / "bin" / "darts-assets"
    command.parent.mkdir()
    command.write_text(
        f"""#!/bin/bash
echo "$*" >> {calls}
[[ $1 == sync ]] && exit 0
trap 'echo terminated >> {calls}; exit 130' TERM
sleep 300 & wait
"""
    )
    command.chmod(0o755)
    env = slurm | {"PATH": f"{command.parent}:{slurm['PATH']}", "DARTS_STORE": "anywhere", "SHARDS": "16"}
    env.pop("DAGSTER_HOME", None)
    resources = ["--cpus-per-task=1", "--mem=0", "--time=10"]
    submitted = call(
        "sbatch", "--parsable", *resources, "--array=3", str(SCRIPT), "--tiles", "08WMB", cwd=tmp_path, env=env
    )
    job = f"{submitted.strip()}_3"
    wait_for(lambda: calls.exists() and "map" in calls.read_text())
    call("scancel", "--batch", "--signal=USR1", job, cwd=tmp_path, env=env)
    wait_for(lambda: "Restarts=1" in call("scontrol", "show", "job", job, cwd=tmp_path, env=env))
    call("scancel", job, cwd=tmp_path, env=env)
    assert calls.read_text().splitlines() == ["sync", "map --offline --shard 3/16 --tiles 08WMB", "terminated"]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.3)
