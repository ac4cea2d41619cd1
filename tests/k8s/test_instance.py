"""`dagster.yaml` as Dagster takes it: its own validation, the pools of the code, and a real PostgreSQL."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.instance.ref import InstanceRef

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.instance_database import LOCK
from darts_assets.settings import Settings
from tests.servers.postgres.cluster import postgres

pytestmark = pytest.mark.slow

POOLS = {"gpu": 100, "cdse": 4, "planet": 16, "arcticdem": 16, "earth_engine": 8, "catalog": 1, "inventory": 1}

K8S = Path(__file__).parents[2] / "k8s"

INSTANCES = ["overlays/local", "overlays/gpu"]


def write_home(cluster: Any, folder: Path, environment: pytest.MonkeyPatch, **more: str) -> Path:
    """A `DAGSTER_HOME` with the rendered file, in the environment that the pods have."""
    folder.mkdir()
    instance = cluster.instance
    # Pods have a token; a test has a file instead.
    instance["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(cluster.kubeconfig)}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(instance))
    for name, value in {**cluster.settings, "DAGSTER_PG_PASSWORD": "secret", **more}.items():
        environment.setenv(name, value)
    return folder


@pytest.mark.parametrize("folder", INSTANCES)
def test_dagster_accepts_the_instance(
    folder: str, cluster: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write_home(cluster(folder), tmp_path / "home", monkeypatch)
    ref = InstanceRef.from_dir(str(home))
    assert ref.run_launcher_data is not None
    assert ref.run_launcher_data.class_name == "PatientRunLauncher"
    assert ref.run_storage_data.config_dict["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert ref.run_coordinator_data is not None
    assert ref.run_coordinator_data.class_name == "QueuedRunCoordinator"
    assert ref.compute_logs_data.class_name == "StoreLogManager"
    assert ref.settings["run_monitoring"]["enabled"] is True
    assert ref.settings["run_retries"]["enabled"] is True
    assert ref.settings["concurrency"]["runs"]["tag_concurrency_limits"]


def test_the_local_instance_differs_in_what_one_machine_needs_only(cluster: Callable[[str], Any]) -> None:
    base, local = cluster("base").instance, cluster("overlays/local").instance
    assert local["concurrency"]["runs"]["max_concurrent_runs"] == 2
    assert local["run_monitoring"]["max_resume_run_attempts"] == 0
    differing = {key for key in base.keys() | local.keys() if base.get(key) != local.get(key)}
    assert differing == {"concurrency", "run_monitoring"}


SETTINGS = {
    "DAGSTER_MAX_RUNS": ("concurrency", "runs", "max_concurrent_runs"),
    "DAGSTER_MAX_RUNS_OF_A_BACKFILL": ("concurrency", "runs", "tag_concurrency_limits", 0, "limit"),
    "DAGSTER_START_TIMEOUT_SECONDS": ("run_monitoring", "start_timeout_seconds"),
    "DAGSTER_CANCEL_TIMEOUT_SECONDS": ("run_monitoring", "cancel_timeout_seconds"),
    "DAGSTER_MAX_RESUMES": ("run_monitoring", "max_resume_run_attempts"),
    "DAGSTER_MONITORING_SECONDS": ("run_monitoring", "poll_interval_seconds"),
    "DAGSTER_FREE_SLOTS_SECONDS": ("run_monitoring", "free_slots_after_run_end_seconds"),
    "DAGSTER_MAX_RETRIES": ("run_retries", "max_retries"),
}


def value_at(instance: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        instance = instance[part]
    return instance


@pytest.mark.parametrize("folder", ["base", *INSTANCES])
def test_limits_are_those_of_the_settings(folder: str, cluster: Callable[[str], Any]) -> None:
    here = cluster(folder)
    for name, path in SETTINGS.items():
        assert value_at(here.instance, path) == int(here.settings[name]), name
    shipped = {name for name in here.settings if name.startswith("DAGSTER_") and here.settings[name].isdigit()}
    assert shipped - {"DAGSTER_PG_PORT"} == SETTINGS.keys() | {f"DAGSTER_POOL_{pool}" for pool in pools_of(here)}


def test_an_overlay_sets_each_limit_in_its_settings(cluster: Callable[[str], Any], tmp_path: Path) -> None:
    own = {name: str(number) for number, name in enumerate([*SETTINGS, "DAGSTER_POOL_cdse", "DAGSTER_POOL_own"], 11)}
    folder = os.path.relpath(K8S, tmp_path)
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "darts-settings"}, "data": own}
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({
            "resources": [f"{folder}/overlays/gpu"], "patches": [{"patch": yaml.safe_dump(settings)}],
            "transformers": [f"{folder}/transformers"],
        })
    )  # fmt: skip
    changed, shipped = cluster(str(tmp_path)), cluster("overlays/gpu")
    assert {name: str(value_at(changed.instance, path)) for name, path in SETTINGS.items()}.items() <= own.items()
    assert {key for key in changed.instance if changed.instance[key] != shipped.instance[key]} == {
        "concurrency", "run_monitoring", "run_retries",
    }  # fmt: skip
    assert pools_of(changed) == {**pools_of(shipped), "cdse": 19, "own": 20}


def test_runs_are_started_where_the_accounts_are(cluster: Callable[[str], Any]) -> None:
    for folder in INSTANCES:
        manifests = cluster(folder)
        of_cluster = {"Namespace", "PriorityClass"}
        namespaces = {m["metadata"].get("namespace") for m in manifests.manifests if m["kind"] not in of_cluster}
        assert namespaces == {manifests.settings["DAGSTER_NAMESPACE"]}
        assert manifests.find("Namespace", manifests.settings["DAGSTER_NAMESPACE"])


def pools_of_the_code() -> set[str]:
    defs = build_defs(Settings())
    graph = defs.resolve_asset_graph()
    of_assets = {pool for key in graph.get_all_asset_keys() for pool in graph.get(key).pools}
    jobs = [job for job in defs.jobs or [] if isinstance(job, dg.JobDefinition)]
    return of_assets | {node.definition.pool for job in jobs for node in job.graph.nodes if node.definition.pool}


def first_command(cluster: Any, deployment: str) -> list[str]:
    (first,) = cluster.find("Deployment", deployment)["spec"]["template"]["spec"]["initContainers"]
    return list(first["args"])


def pools_of(cluster: Any) -> dict[str, int]:
    prefix = "DAGSTER_POOL_"
    return {name.removeprefix(prefix): int(limit) for name, limit in cluster.settings.items() if prefix in name}


def test_the_daemon_limits_the_pools_of_the_code(cluster: Callable[[str], Any]) -> None:
    limits = pools_of(cluster("base"))
    assert limits.keys() == pools_of_the_code()
    assert limits["cdse"] == 4, "connections that CDSE grants a user"
    assert cluster("base").instance["concurrency"]["pools"]["default_limit"] <= 4


def test_servers_of_a_new_installation_start_at_once(
    cluster: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One creates the tables, the others wait for it; here all of them wait first, for the test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gpu = cluster("overlays/gpu")
    home = write_home(gpu, tmp_path / "home", monkeypatch, DAGSTER_PG_HOST="127.0.0.1", DAGSTER_PG_PORT=str(port))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    commands = [first_command(gpu, name) for name in ("dagster-daemon", "dagster-webserver", "dagster-webserver")]
    with postgres(tmp_path, port, user="dagster", database="dagster"):
        engine = sa.create_engine(f"postgresql+psycopg2://dagster:any@127.0.0.1:{port}/dagster")
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(LOCK)))
            servers = [
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for command in commands
            ]
            for server in servers:
                assert server.stdout
                assert server.stdout.readline() == "another process prepares the database; waiting for it\n", (
                    server.communicate()
                )
            assert sa.inspect(engine).get_table_names() == []
        engine.dispose()
        for server in servers:
            output, errors = server.communicate(timeout=120)
            assert server.returncode == 0, errors
            assert output.endswith("the database of the Dagster instance is ready\n")
        check_the_instance(home)


def check_the_instance(home: Path) -> None:
    """What every pod then finds."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert [path.name for path in home.iterdir()] == ["dagster.yaml"], "pods have it read-only"
        instance.add_dynamic_partitions("sentinel2_scene", ["S2A_SOME_SCENE"])
        assert instance.get_dynamic_partitions("sentinel2_scene") == ["S2A_SOME_SCENE"]
        storage: Any = instance.event_log_storage
        with storage.index_connection() as connection:
            assert connection.execute(sa.text("SHOW random_page_cost")).scalar() == "1.1"
        assert {info.name: info.limit for info in instance.event_log_storage.get_pool_limits()} == POOLS
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        limits = instance.get_concurrency_config().run_queue_config
        assert limits is not None
        assert limits.max_concurrent_runs == 100
