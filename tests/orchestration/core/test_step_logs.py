"""Captured output of steps in a store, read by another process, as by the webserver after the pod is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.compute_log_manager import ComputeIOType

from darts_assets.settings import settings
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

LOGS = {"module": "darts_assets.orchestration.core.step_logs", "class": "StoreLogManager"}
KEY = ["a-run", "compute_logs", "a_step"]

STEP = """
import sys, time
import dagster as dg
from darts_assets.orchestration.core import step_logs
step_logs.UPLOAD_SECONDS = 1
with dg.DagsterInstance.get() as instance, instance.compute_log_manager.capture_logs({key}):
    print("first line", flush=True)
    print("a warning", file=sys.stderr, flush=True)
    time.sleep({seconds})
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"compute_logs": LOGS, "telemetry": {"enabled": False}}))
    (tmp_path / "pod").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def pod(home: Path, seconds: float, key: list[str] = KEY) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(home / "pod")}
    return subprocess.Popen([sys.executable, "-c", STEP.format(key=key, seconds=seconds)], env=environment)


def seen_in_the_ui(key: list[str] = KEY) -> tuple[str, str]:
    with dg.DagsterInstance.get() as instance:
        data = instance.compute_log_manager.get_log_data(key)
    return (data.stdout or b"").decode(), (data.stderr or b"").decode()


@pytest.mark.slow
def test_output_is_kept_in_the_object_store(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(home)
    try:
        server.client.create_bucket(Bucket="darts")
        monkeypatch.setenv("DARTS_STORE", "s3://darts/store")
        monkeypatch.setenv("DARTS_STORE_ENDPOINT", server.endpoint)
        assert pod(home, 0).wait() == 0
        keys = {each["Key"] for each in server.client.list_objects_v2(Bucket="darts")["Contents"]}
        assert {key for key in keys if not key.endswith(".partial")} == {
            f"store/logs/storage/a-run/compute_logs/a_step.{kind}" for kind in ("out", "err")
        }
        assert seen_in_the_ui() == ("first line\n", "a warning\n")
        with dg.DagsterInstance.get() as instance:
            url = instance.compute_log_manager.get_log_metadata(KEY).stdout_download_url
            assert url
            assert "secret" not in url
            assert instance.compute_log_manager.is_capture_complete(KEY)
            instance.compute_log_manager.delete_logs(prefix=["a-run"])
        assert "Contents" not in server.client.list_objects_v2(Bucket="darts")
        of_killed = ["another-run", "compute_logs", "a_step"]
        killed = pod(home, 600, of_killed)
        deadline = time.monotonic() + 60
        while "Contents" not in server.client.list_objects_v2(Bucket="darts"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(0.5)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert seen_in_the_ui(of_killed) == ("first line\n", "a warning\n")
    finally:
        server.stop()


def test_output_is_kept_on_a_volume(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", str(home / "store"))
    with dg.DagsterInstance.get() as instance:
        path = Path(instance.compute_log_manager.get_captured_local_path(KEY, "out"))  # type: ignore[attr-defined]
        assert path == home / "store/logs/a-run/compute_logs/a_step.out"
        with instance.compute_log_manager.open_log_stream(KEY, ComputeIOType.STDOUT) as stream:
            assert stream
            stream.write("first line\n")
    assert seen_in_the_ui()[0] == "first line\n"
