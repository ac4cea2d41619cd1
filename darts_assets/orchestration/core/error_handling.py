"""Errors of domain code as Dagster failures, and its log lines in the log of the step."""

import json
import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData
from dagster_shared.error import SerializableErrorInfo

from darts_assets.errors import ChunksFailedError, DartsError, SourceUnavailableError
from darts_assets.orchestration.core.pod_resources import MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS


@contextmanager
def domain_call(log: logging.Logger) -> Iterator[None]:
    """Domain code within a step: its log lines go to Dagster's log, its errors become failures that show a sentence.

    Only an unavailable service is worth a retry.

    Args:
        log: the step's logger, `context.log`.
    """
    forward = _Forward(log)
    domain = logging.getLogger("darts_assets")
    level = domain.level
    domain.setLevel(logging.INFO)
    domain.addHandler(forward)
    try:
        yield
    except DartsError as error:
        if isinstance(error, SourceUnavailableError) or (isinstance(error, ChunksFailedError) and error.may_pass):
            raise dg.RetryRequested(MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS) from error
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
    finally:
        domain.removeHandler(forward)
        domain.setLevel(level)


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage())


_MODULE = re.compile(r"^(?:\w+\.)+(?=\w+: )")


def sentence_of_step(data: StepFailureData) -> str:
    """Why a step failed: what it says itself, else the error at the root of the others."""
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return sentence_of_error(data.error) if data.error else "it failed without saying why"


def sentence_of_error(error: SerializableErrorInfo) -> str:
    """The first line of the error at the root of others, without its module: Dagster wraps what steps raise."""
    while error.cause is not None:
        error = error.cause
    first = error.message.strip().partition("\n")[0]
    return _MODULE.sub("", first).removeprefix("Failure: ")


def failed_partitions(data: StepFailureData) -> dict[str, str]:
    """Of a step that makes several partitions: those that failed, and why."""
    told = data.user_failure_data.metadata.get("failed") if data.user_failure_data else None
    if not isinstance(told, dg.JsonMetadataValue) or not isinstance(told.data, dict):
        return {}
    return {str(partition): str(why) for partition, why in told.data.items()}


def job_command(job: str, step: str, config: Mapping[str, Any]) -> str:
    """The command that runs a job; `config` is that of its first step."""
    run_config = json.dumps({"ops": {step: {"config": dict(config)}}})
    return f"echo {shlex.quote(run_config)} | dagster job execute -m darts_assets -j {job} -c /dev/stdin"
