"""What `darts-assets prepare-instance` does; tests/k8s/test_instance.py has several at once on a real PostgreSQL."""

import socket
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from darts_assets.cli import cli
from darts_assets.orchestration.core import instance_database
from darts_assets.remote.retry import RetryPolicy

POSTGRES = """\
storage:
  postgres:
    postgres_db: {{hostname: 127.0.0.1, port: {port}, db_name: dagster, username: dagster, password: mellon}}
"""


def test_an_instance_on_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_POOL_catalog", "1")
    monkeypatch.setenv("DAGSTER_POOL_cdse", "5")
    result = CliRunner().invoke(cli, ["prepare-instance", "cdse=4"])
    assert result.exit_code == 0, result.output
    assert "pool cdse: 4 at once" in result.output
    with dg.DagsterInstance.get() as instance:
        assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {
            "cdse": 4,
            "catalog": 1,
        }


def test_a_database_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "dagster.yaml").write_text(POSTGRES.format(port=port))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(instance_database, "DATABASE", RetryPolicy(attempts=1))
    result = CliRunner().invoke(cli, ["prepare-instance"])
    assert result.exit_code == 1
    assert f"PostgreSQL at 127.0.0.1:{port}/dagster does not accept connections: " in result.output
    assert "Connection refused" in result.output
    assert result.output.rstrip().endswith("given up after 1 attempt")
    assert "mellon" not in result.output


@pytest.mark.parametrize("text", ["cdse", "cdse=", "=4", "cdse=-1", "cdse=many"])
def test_limits_that_are_none(text: str) -> None:
    result = CliRunner().invoke(cli, ["prepare-instance", text])
    assert result.exit_code == 2
    assert f"{text}: expected POOL=LIMIT, such as cdse=4" in result.output
