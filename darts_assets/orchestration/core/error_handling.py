"""Errors of domain code as Dagster failures, and its log lines in the log of the step."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

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
