import logging
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from darts_assets.orchestration.core.local_instance import create_local_instance, own_home


@dg.job
def nothing() -> None: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_local_instance(tmp_path / "dagster")
    return tmp_path / "dagster"


def test_daemons_end_runs_free_slots_and_limit_runs(home, monkeypatch):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert {"MONITORING", QueuedRunCoordinatorDaemon.daemon_type()} <= set(instance.get_required_daemon_types())
        assert 1 <= instance.get_concurrency_config().run_queue_config.max_concurrent_runs < 1000

        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS)
        instance.event_log_storage.set_concurrency_slots("cdse", 1)
        instance.event_log_storage.claim_concurrency_slot("cdse", run.run_id, "fetch")
        seconds = instance.run_monitoring_settings["free_slots_after_run_end_seconds"]
        monkeypatch.setattr(
            type(instance), "get_run_records", lambda *_, **__: [SimpleNamespace(dagster_run=run, end_time=-seconds)]
        )
        list(execute_concurrency_slots_iteration(SimpleNamespace(instance=instance), logging.getLogger("test")))
        assert not instance.event_log_storage.get_concurrency_info("cdse").claimed_slots


def test_a_configuration_is_kept(home):
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    create_local_instance(home)
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_a_missing_or_empty_home_becomes_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert own_home() is None
    for name, exists in (("missing", False), ("empty", True)):
        folder = tmp_path / name
        if exists:
            folder.mkdir()
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
        assert own_home() == folder
        assert "max_concurrent_runs" in (folder / "dagster.yaml").read_text()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "storage").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "own"))
    own_home()
    assert not (tmp_path / "own" / "dagster.yaml").exists()
