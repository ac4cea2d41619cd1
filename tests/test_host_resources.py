"""Limits of containers, batch jobs and shells, and the GPUs of a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darts_assets import host_resources
from darts_assets.host_resources import GIB, available_memory, gpus, memory_limit, processors


def test_memory_is_that_of_the_machine_or_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_resources, "_CGROUPS", tmp_path)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit() == machine
    assert 0 < available_memory() <= machine
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit() == machine
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    assert memory_limit() == available_memory() == GIB
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{GIB // 2}\n")
    assert memory_limit() == GIB // 2


def test_the_limit_of_a_shell_counts() -> None:
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, -1)); " \
        "from darts_assets.host_resources import memory_limit; print(memory_limit())"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == GIB


def test_processors() -> None:
    assert processors() == len(os.sched_getaffinity(0))


def test_gpus_are_those_of_the_environment_or_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5a")
    assert gpus() == ["2", "GPU-5a"]
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho the driver is broken\nexit 9\n")
    assert gpus() == []
