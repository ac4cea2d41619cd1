"""Errors between domain code, Dagster and users: step failures with one sentence, and the commands they recommend."""

import atexit
import json
import logging
import os
import re
import shlex
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from obstore.exceptions import BaseError

from darts_assets.errors import DartsError, SourceUnavailableError, StoreError
from darts_assets.orchestration.core.pod_resources import MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS
from darts_assets.redaction import shown
from darts_assets.stores.service_errors import known_problem

if TYPE_CHECKING:
    from darts_assets.orchestration.core.dagster_compat import SerializableErrorInfo, StepFailureData

UNREACHABLE = "unreachable"
"""Metadata of the failure of a step that had no connection to a service."""

_ON_A_CLUSTER = "KUBERNETES_SERVICE_HOST"
_MODULE = re.compile(r"^(?:\w+\.)+(?=\w+: )")


class StepConfig(dg.Config):
    """Config of a step; an invalid value fails the step with one sentence instead of a traceback."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except DartsError as error:
            raise _failure(error) from None


@contextmanager
def domain_call(log: logging.Logger) -> Iterator[None]:
    """Run domain code within a step: forward its log lines to Dagster's log, and turn its errors into failures.

    Only errors of unavailable services are retried. If there is no connection at all, the step fails at once, except on
    a cluster, where nobody waits for it.

    Args:
        log: the step's logger, `context.log`.

    Raises:
        dg.RetryRequested: if a service is unavailable.
        dg.Failure: for any other DartsError, with its type and message, and for full or read-only disks and buckets in
            another region.
    """
    forward = _Forward(log)
    domain = logging.getLogger("darts_assets")
    level = domain.level
    domain.setLevel(logging.INFO)
    domain.addHandler(forward)
    try:
        yield
    except DartsError as error:
        no_answer = isinstance(error, SourceUnavailableError) or getattr(error, "retryable", False)
        if no_answer and (not is_unreachable(error) or _ON_A_CLUSTER in os.environ):
            raise dg.RetryRequested(MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS) from error
        raise _failure(error) from None
    except (BaseError, OSError) as error:
        if problem := known_problem(error):
            raise _failure(StoreError(problem)) from None
        raise
    finally:
        domain.removeHandler(forward)
        domain.setLevel(level)


def is_unreachable(error: DartsError) -> bool:
    """Whether there was no connection at all to a service that an error is about."""
    return bool(getattr(error, "unreachable", False))


def failure_message(data: "StepFailureData") -> str:
    """Why a step failed: its own message, else that of the root error."""
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return root_message(data.error) if data.error else "the step failed without an error message"


def root_message(error: "SerializableErrorInfo") -> str:
    """The first line of the root error's message, without its module; Dagster wraps the errors of steps."""
    while error.cause is not None:
        error = error.cause
    first = error.message.strip().partition("\n")[0]
    return _MODULE.sub("", first).removeprefix("Failure: ")


def failed_partitions(data: "StepFailureData") -> dict[str, str]:
    """Partition -> error message, for the failed partitions of a step that processes several."""
    failed = data.user_failure_data.metadata.get("failed") if data.user_failure_data else None
    if not isinstance(failed, dg.JsonMetadataValue) or not isinstance(failed.data, dict):
        return {}
    return {str(partition): str(message) for partition, message in failed.data.items()}


def job_command(job: str, step: str, config: Mapping[str, Any]) -> str:
    """The shell command that runs a job; `config` is the config of its first step."""
    run_config = json.dumps({"ops": {step: {"config": dict(config)}}})
    return f"echo {shlex.quote(run_config)} | dagster job execute -m darts_assets -j {job} -c /dev/stdin"


def _failure(error: DartsError) -> dg.Failure:
    """The failure of a step, without the stack of its cause: its sentence is complete."""
    metadata = {UNREACHABLE: True} if is_unreachable(error) else None
    reason = f"{type(error).__name__}: {error}"
    if Path(sys.argv[0]).name in _COMMANDS:
        if not _last_words:
            atexit.register(_print_last_words)
        _last_words.append(reason)
    return dg.Failure(reason, metadata=metadata, allow_retries=False)


_COMMANDS = ("dagster", "dg")
_last_words: deque[str] = deque(maxlen=10)


def _print_last_words() -> None:
    """Repeat why steps failed as the last lines of Dagster's command, which otherwise ends with stacks."""
    for reason in _last_words:
        print(reason, file=sys.stderr, flush=True)


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, shown(record.getMessage()))
