"""Steps whose pods are lost: killed, evicted, drained with their node, or never started.

Dagster calls such a step failed, as if its code had raised an error, and runs whose steps failed are not retried: an
error of ours is not mended by doing the step again. So a run that has lost steps ends with an error of its own instead,
and is then retried as one that was lost, from where it was (`run_retries` in `dagster.yaml`). A `RetryPolicy` would not
do: a step that was not started for its first attempt is never started for its second.

Those of a run that is cancelled are lost on purpose: they end with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.events import DagsterEvent
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode
    from dagster._core.execution.step_dependency_config import StepDependencyConfig


class PodsLostError(Exception):
    """The pods of some steps were lost; the steps may do well in others."""


def noticing_lost_steps(pods: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """`pods`, but that a run that has lost steps fails by itself."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert pods.executor_creation_fn is not None
        return _NoticesLostSteps(pods.executor_creation_fn(context))

    return dg.ExecutorDefinition(pods.name, pods.config_schema.as_field(), pods.get_requirements, create)


class _NoticesLostSteps(dg.Executor):
    def __init__(self, pods: dg.Executor) -> None:
        self._pods = pods

    @property
    def retries(self) -> "RetryMode":
        return self._pods.retries

    @property
    def step_dependency_config(self) -> "StepDependencyConfig":
        return self._pods.step_dependency_config

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> "Iterator[DagsterEvent]":
        lost = []
        with _cancelled_with_its_steps(plan_context.instance):
            for event in self._pods.execute(plan_context, execution_plan):
                if event.is_step_failure and was_lost(event):
                    lost.append(str(event.step_key))
                yield event
        if lost:
            raise PodsLostError(f"the pods of steps were lost before they had ended: {', '.join(lost)}")


@contextmanager
def _cancelled_with_its_steps(instance: dg.DagsterInstance) -> Iterator[None]:
    """Let a run that is cancelled end its steps.

    An executor that is told to end leaves its steps alone if the run will be resumed, and as Dagster counts attempts,
    one that was cancelled will be: https://github.com/dagster-io/dagster/issues/33923
    """
    by_attempts = instance.run_will_resume

    def run_will_resume(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        cancelled = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
        return not (run and run.status in cancelled) and by_attempts(run_id)

    instance.run_will_resume = run_will_resume  # type: ignore[method-assign]
    try:
        yield
    finally:
        del instance.run_will_resume


def was_lost(failure: "DagsterEvent") -> bool:
    """Whether a step failed because its process was told to end (SIGTERM), or its Job has failed without a word."""
    data = failure.step_failure_data
    told_to_end = data.error_source is not None and data.error_source.name == "INTERRUPT"
    return told_to_end or (data.error is not None and "failed health check" in data.error.message)
