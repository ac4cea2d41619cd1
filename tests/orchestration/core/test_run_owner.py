import os
import signal
import subprocess
import sys

import pytest

from darts_assets.orchestration.core import run_owner
from darts_assets.orchestration.core.run_owner import BOOT, HOST, PID, STARTED, owner_is_alive, owner_tags

NAMESPACE = "pid:[4026531836]"


def test_this_process_is_alive():
    tags = owner_tags()
    assert tags[PID] == str(os.getpid())
    assert all(tags.values())
    assert owner_is_alive(tags) is True


def test_a_killed_process_is_dead_also_as_a_zombie():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = run_owner.process_start(process.pid)
    assert started
    tags = owner_tags() | {PID: str(process.pid), STARTED: started}
    assert owner_is_alive(tags) is True
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
    assert owner_is_alive(tags) is False
    process.wait()
    assert owner_is_alive(tags) is False


def test_another_process_with_the_same_id_is_not_the_owner():
    assert owner_is_alive(owner_tags() | {STARTED: "1"}) is False


@pytest.mark.parametrize(
    "change", [{HOST: "node17 0a1b2c3d"}, {PID: ""}, {BOOT: "4b1d pid:[4026532201]"}], ids=("host", "pid", "container")
)
def test_other_hosts_and_containers_are_not_decided(change):
    assert owner_is_alive(owner_tags() | change) is None


def test_a_run_without_tags_is_not_decided():
    assert owner_is_alive({}) is None


def test_processes_of_an_earlier_boot_are_dead(monkeypatch):
    monkeypatch.setattr(run_owner, "_boot", lambda: f"this {NAMESPACE}")
    assert owner_is_alive(owner_tags()) is True
    assert owner_is_alive(owner_tags() | {BOOT: f"earlier {NAMESPACE}"}) is False


@pytest.mark.skipif(sys.platform != "linux", reason="compares two ways to ask Linux")
def test_other_systems_are_asked_by_ps(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(run_owner.platform, "system", lambda: "Darwin")
    try:
        started = run_owner.process_start(process.pid)
        assert started
        assert started == run_owner.process_start(process.pid)
    finally:
        process.kill()
        process.wait()
    assert run_owner.process_start(process.pid) is None
