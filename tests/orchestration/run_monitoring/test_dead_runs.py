import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from darts_assets.cli import cli
from darts_assets.doctor.configuration import check_dagster
from darts_assets.orchestration.core import run_owner
from darts_assets.orchestration.core.run_owner import HOST, owner_tags, process_start
from darts_assets.orchestration.run_monitoring import dead_runs as module
from darts_assets.orchestration.run_monitoring.dead_runs import dead_runs, end_dead_runs
from tests.orchestration.run_monitoring import killed_run

LOG = logging.getLogger("test")
STATUS = dg.DagsterRunStatus


@pytest.fixture
def home(empty_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty_home, tmp_path / "dagster"))


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.set_concurrency_slots("cdse", 1)
        yield instance


def start(instance: dg.DagsterInstance, home: Path, job: str) -> tuple[subprocess.Popen[bytes], dg.DagsterRun]:
    """A process whose run of a job has the only slot of the pool."""
    environment = os.environ | {"DAGSTER_HOME": str(home), "FETCHES_WITHOUT_END": "1"}
    command = [sys.executable, "-m", killed_run.__name__, job]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for run in instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED])):
            if instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START):
                return process, instance.get_run_by_id(run.run_id)
        time.sleep(0.05)
    raise TimeoutError("the run has not started")


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def slots(instance: dg.DagsterInstance) -> int:
    """Claims of the pool, granted or waiting."""
    info = instance.event_log_storage.get_concurrency_info("cdse")
    return len(info.claimed_slots) + len(info.pending_steps)


def recorded(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
    """A run without a process that claims a slot."""
    run = instance.create_run_for_job(killed_run.ours, status=status, tags=tags)
    instance.event_log_storage.claim_concurrency_slot("cdse", run.run_id, "fetch")
    return run


@pytest.mark.slow  # starts a process of Dagster
def test_a_killed_run_is_ended_and_the_next_run_of_its_pool_proceeds(home, instance, monkeypatch):
    process, run = start(instance, home, "ours")
    assert run.tags["darts/pid"] == str(process.pid)
    assert end_dead_runs(instance, LOG) == module.EndedRuns()  # it is alive
    assert instance.get_run_by_id(run.run_id).status == STATUS.STARTED
    kill(process)
    assert slots(instance) == 2  # the slot, and the step's place in the queue

    monkeypatch.setenv("DAGSTER_HOME", str(home))
    shown = {finding.name: finding for finding in check_dagster()}
    assert f"run {run.run_id} is recorded as running" in shown["runs"].message
    assert "darts-assets end-dead-runs" in shown["runs"].advice

    result = CliRunner().invoke(cli, ["end-dead-runs"])
    assert result.exit_code == 0
    assert f"run {run.run_id} failed: the process of this run ({process.pid}) was killed" in result.output
    assert f"freed slots of the pools cdse, claimed by run {run.run_id}" in result.output
    assert instance.get_run_by_id(run.run_id).status == STATUS.FAILURE
    assert slots(instance) == 0
    assert killed_run.ours.execute_in_process(instance=instance).success
    assert "no dead runs" in CliRunner().invoke(cli, ["end-dead-runs"]).output
    assert {finding.name for finding in check_dagster()} == {"Dagster"}


@pytest.mark.slow  # starts processes of Dagster
@pytest.mark.parametrize("job", ["without_owner", "of_processes"])
def test_runs_of_other_executors_are_ended(home, instance, job):
    process, run = start(instance, home, job)
    assert dead_runs(instance) == module.EndedRuns()
    kill(process)
    if job == "of_processes":  # the process of its step goes on: its slot is in use
        assert dead_runs(instance) == module.EndedRuns()
        step = next(e.dagster_event.pid for e in instance.all_logs(run.run_id) if e.dagster_event.is_step_start)
        os.kill(step, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while process_start(step) is not None and time.monotonic() < deadline:  # a signal takes a moment to arrive
            time.sleep(0.01)
    done = end_dead_runs(instance, LOG)
    assert list(done.ended) == [run.run_id]
    assert done.freed == {run.run_id: ["cdse"]}
    assert killed_run.ours.execute_in_process(instance=instance).success


def test_a_run_that_was_being_canceled_is_canceled(instance):
    run = recorded(instance, STATUS.CANCELING, **owner_tags() | {"darts/process_start": "1"})
    end_dead_runs(instance, LOG)
    assert instance.get_run_by_id(run.run_id).status == STATUS.CANCELED
    assert slots(instance) == 0


def test_slots_of_deleted_and_ended_runs_are_freed(instance):
    ended, deleted = (recorded(instance, STATUS.SUCCESS) for _ in range(2))
    instance.run_storage.delete_run(deleted.run_id)  # unlike `delete_run` of the instance, which frees its slots
    assert end_dead_runs(instance, LOG).freed == {ended.run_id: ["cdse"], deleted.run_id: ["cdse"]}
    assert slots(instance) == 0


def test_runs_of_other_hosts_are_left_alone_unless_named(instance, home, monkeypatch):
    run = recorded(instance, STATUS.STARTED, **owner_tags() | {HOST: "node17 0a1b2c3d"})
    done = end_dead_runs(instance, LOG)
    assert not done.ended
    assert not done.freed
    assert "run `darts-assets end-dead-runs` on node17" in done.undecided[run.run_id]
    assert f"darts-assets end-dead-runs --run {run.run_id}" in done.undecided[run.run_id]
    assert instance.get_run_by_id(run.run_id).status == STATUS.STARTED

    monkeypatch.setenv("DAGSTER_HOME", str(home))
    assert CliRunner().invoke(cli, ["end-dead-runs", "--run", "absent"]).exit_code == 1
    assert CliRunner().invoke(cli, ["end-dead-runs", "--run", run.run_id]).exit_code == 0
    assert instance.get_run_by_id(run.run_id).status == STATUS.FAILURE
    assert slots(instance) == 0


@pytest.mark.parametrize(
    ("place", "reason"), [("container", "perhaps in another container"), ("database", "without a record of its host")]
)
def test_runs_without_an_owner_are_left_alone_where_processes_of_others_may_run_them(
    instance, monkeypatch, place, reason
):
    run = recorded(instance, STATUS.STARTED)
    if place == "container":
        monkeypatch.setattr(run_owner, "_boot", lambda: "boot pid:[4026532201]")
    else:
        monkeypatch.setattr(module, "is_on_this_host", lambda _: False)
    assert reason in module.dead_runs(instance).undecided[run.run_id]


def test_a_run_that_no_process_has_started_is_ended_after_dagsters_time_limit(instance, monkeypatch):
    run = recorded(instance, STATUS.STARTING)
    assert dead_runs(instance) == module.EndedRuns()
    monkeypatch.setattr(type(instance), "run_monitoring_start_timeout_seconds", -1)
    assert "no process has executed this run" in dead_runs(instance).ended[run.run_id]


def test_a_process_with_the_same_id_that_started_later_is_another_one():
    age = run_owner.process_age(os.getpid())
    assert module._exists(os.getpid(), time.time())
    assert not module._exists(os.getpid(), time.time() - age - 10)
