"""Why something failed, in a sentence that its user understands, from what Dagster has noted."""

import re

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData
from dagster_shared.error import SerializableErrorInfo

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
