"""What runs of `darts-assets map` log: a line per message, and the reason of a failure without the stack of libraries.

Dagster's default logger prints every event, and each failure with a stack. It cannot be replaced by a code location: a
run has another logger only if its config has it.
"""

import logging
import sys
from typing import Any

import dagster as dg

from darts_assets.orchestration.core.error_handling import failure_message, root_message

_LEVEL = dg.Field(str, is_required=False, default_value="INFO", description="The lowest level of messages.")


@dg.logger({"log_level": _LEVEL}, description="Prints a line per message, and why a run failed as its last line.")
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of runs whose config has `loggers: {console: {}}`; level DEBUG shows Dagster's events as well."""
    level = str(context.logger_config["log_level"]).upper()
    logger = logging.Logger("darts_assets", level)  # noqa: LOG001 - one for each run
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(BriefFormatter())
    logger.addHandler(handler)
    return logger


class BriefFormatter(logging.Formatter):
    """Formats messages of runs."""

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a message: time, level if it is a problem, step, text."""
        metadata: dict[str, Any] = getattr(record, "dagster_meta", {})
        parts = [record.asctime]
        parts += [f"{record.levelname}:"] if record.levelno >= logging.WARNING else []
        parts += [f"{step}:"] if (step := metadata.get("step_key")) else []
        return " ".join([*parts, self._text(record, metadata)])

    def format(self, record: logging.LogRecord) -> str:
        """The message without a traceback, unless it is a fault of the program."""
        record.asctime = self.formatTime(record, self.datefmt)
        record.message = record.getMessage()
        return self.formatMessage(record)

    def _text(self, record: logging.LogRecord, metadata: dict[str, Any]) -> str:
        event = metadata.get("dagster_event")
        if not isinstance(event, dg.DagsterEvent):
            return str(metadata.get("orig_message", record.message))
        if event.is_step_failure:
            data = event.step_failure_data
            # A Failure has a sentence for users; anything else needs its stack.
            return f"failed: {failure_message(data)}" if data.user_failure_data else record.message
        if event.is_step_up_for_retry:
            retry = event.step_retry_data
            reason = root_message(retry.error) if retry.error else "a service did not answer"
            return f"{reason}; tried again in {retry.seconds_to_wait or 0:g} s"
        if event.is_run_failure and (first := event.job_failure_data.first_step_failure_event):
            return f"the run failed in {first.step_key}: {failure_message(first.step_failure_data)}"
        return str(metadata.get("orig_message", record.message))
