"""A line per message, and why a run failed as its last line."""

import re

import dagster as dg
import pytest

from darts_assets.orchestration.run_monitoring.console_logger import console


def lines(capfd: pytest.CaptureFixture[str], op: dg.OpDefinition, level: str = "INFO") -> list[str]:
    @dg.job(logger_defs={"console": console})
    def work() -> None:
        op()

    work.execute_in_process(run_config={"loggers": {"console": {"config": {"log_level": level}}}}, raise_on_error=False)
    shown = capfd.readouterr().err.splitlines()
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in shown]


def test_a_failure_has_one_sentence_and_ends_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def fetch(context: dg.OpExecutionContext) -> None:
        context.log.info("row 1 of 2")
        context.log.warning("slow")
        raise dg.Failure("RasterError: a.tif: band 1 is truncated")

    assert lines(capfd, fetch) == [
        "fetch: row 1 of 2",
        "WARNING: fetch: slow",
        "ERROR: fetch: failed: RasterError: a.tif: band 1 is truncated",
        "ERROR: the run failed in fetch: RasterError: a.tif: band 1 is truncated",
    ]


def test_a_fault_of_the_program_has_its_stack(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def divide() -> None:
        raise ZeroDivisionError("by nothing")

    shown = lines(capfd, divide)
    assert any("in divide" in line for line in shown)
    assert shown[-1] == "ERROR: the run failed in divide: ZeroDivisionError: by nothing"


def test_a_retry_has_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def ask(context: dg.OpExecutionContext) -> None:
        if context.retry_number == 0:
            raise dg.RetryRequested(1, 0) from RuntimeError("HTTP 503")

    assert "ask: RuntimeError: HTTP 503; tried again in 0 s" in lines(capfd, ask, "DEBUG")


def test_debug_shows_the_events_of_dagster(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def nothing() -> None: ...

    shown = lines(capfd, nothing, "DEBUG")
    assert 'nothing: Started execution of step "nothing".' in shown
    assert lines(capfd, nothing) == []
