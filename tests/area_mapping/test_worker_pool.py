"""How many workers a machine takes, and that none outlives its pool."""

import os
import time
from pathlib import Path

import pytest

from darts_assets.area_mapping import worker_pool
from darts_assets.area_mapping.scene_worker import Message
from darts_assets.area_mapping.worker_pool import WorkerPool, capacity
from darts_assets.host_resources import GIB


@pytest.mark.parametrize(
    ("memory", "cores", "devices", "scenes", "workers", "reason"),
    [
        (7.2, 8, [], 100, 1, "7.2 GiB of free memory, 4 GiB per scene"),
        (3.0, 8, [], 100, 1, "3.0 GiB of free memory, 4 GiB per scene"),
        (64.0, 8, [], 100, 4, "8 processors, 2 per scene"),
        (64.0, 32, [], 100, 15, "64.0 GiB of free memory, 4 GiB per scene"),
        (64.0, 32, ["0", "1"], 100, 10, "64.0 GiB of free memory, 6 GiB per scene"),
        (64.0, 32, [], 3, 3, "3 scenes"),
    ],
)  # fmt: skip
def test_capacity(
    monkeypatch: pytest.MonkeyPatch,
    memory: float, cores: int, devices: list[str], scenes: int, workers: int, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(worker_pool, "available_memory", lambda: memory * GIB)
    monkeypatch.setattr(worker_pool, "processors", lambda: cores)
    monkeypatch.setattr(worker_pool, "gpus", lambda: devices)
    machine = capacity(scenes, None, segments=True)
    assert (machine.workers, machine.gpus, machine.reason) == (workers, tuple(devices), reason)
    assert capacity(scenes, 2, segments=True).workers == 2
    assert capacity(scenes, None, segments=False).gpus == ()


def test_workers_share_devices_and_end_with_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\ntrap '' TERM\n"  # a worker in the middle of a long computation
        'printf \'{"kind": "ready", "text": "%s %s %s"}\\n\' "$CUDA_VISIBLE_DEVICES" "$OMP_NUM_THREADS" "$TMPDIR"\n'
        "sleep 60 & while :; do wait; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(worker_pool.sys, "executable", str(program))
    monkeypatch.setattr(worker_pool, "_GRACE", 0.2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(worker_pool.tempfile, "tempdir", None)
    (abandoned := tmp_path / "darts-map-999999999-x").mkdir()
    pool = WorkerPool(os.environ, ("4", "7"), 3)
    assert not abandoned.exists()
    for worker in range(3):
        pool.start(worker, tmp_path / "log")
    reports = [pool.reports.get(timeout=20) for _ in range(3)]
    texts = {report.worker: report.message.text.split() for report in reports if report.message}
    assert {worker: words[:2] for worker, words in texts.items()} == {0: ["4", "3"], 1: ["7", "3"], 2: ["4", "3"]}
    temporary = Path(texts[0][2])
    assert temporary.is_dir()
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    assert [pool.reports.get(timeout=5).status for _ in range(3)] == [-9, -9, -9]
    assert not temporary.exists()


def test_messages_are_lines() -> None:
    message = Message("done", "it\nfailed", unreachable=True, figures={"objects": 3}, notes=("a",))
    assert message.line().count("\n") == 1
    assert Message.of(message.line()) == message
