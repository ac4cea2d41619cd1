"""How the steps of a run execute: in its process, in processes beside it, or in pods."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import PodsLostError, noticing_lost_steps
from darts_assets.orchestration.core.pod_resources import ANY_STEP, SHARES_POD, pod_config

if TYPE_CHECKING:
    from dagster._core.events import DagsterEvent
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode

ExecutorKind = Literal["in_process", "multiprocess", "k8s", "k8s_per_run"]


def executor(kind: ExecutorKind, k8s_config: Mapping[str, Any] | None = None) -> dg.ExecutorDefinition:
    """The executor for all runs.

    In process starts fastest on one machine. On a cluster each step gets a pod (`k8s`), or only those of runs that do
    more than their own pod is good for (`k8s_per_run`): a pod takes longer to start than some steps take.

    Args:
        kind: how the steps of a run execute.
        k8s_config: config of `k8s_job_executor`; what a run's own config says goes before it, key by key.
    """
    if kind == "in_process":
        return dg.in_process_executor
    if kind == "multiprocess":
        return dg.multiprocess_executor
    from dagster_k8s import k8s_job_executor

    pods = noticing_lost_steps(k8s_job_executor)

    # Permissive, since the executor's own schema would fill in defaults that go before ours; it checks the result.
    @dg.configured(pods if kind == "k8s" else _per_run(pods), config_schema=dg.Permissive())
    def k8s(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"step_k8s_config": pod_config(ANY_STEP), **(k8s_config or {}), **config}

    return k8s


def _per_run(pods: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert pods.executor_creation_fn is not None
        assert dg.in_process_executor.executor_creation_fn is not None
        return _PodOfTheRun(pods.executor_creation_fn(context), dg.in_process_executor.executor_creation_fn(context))

    return dg.ExecutorDefinition("k8s_per_run", pods.config_schema.as_field(), pods.get_requirements, create)


class _PodOfTheRun(dg.Executor):
    """Runs all steps in this process if every one of them may share a pod, and each in a pod of its own otherwise.

    A run whose own pod was lost is resumed if its steps have pods; with one that had them inside, they are lost too.
    """

    def __init__(self, in_pods: dg.Executor, here: dg.Executor) -> None:
        self._in_pods = in_pods
        self._here = here

    @property
    def retries(self) -> "RetryMode":
        return self._in_pods.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> "Iterator[DagsterEvent]":
        steps = [execution_plan.get_step_by_key(key) for key in execution_plan.step_keys_to_execute]
        shared = all((step.tags or {}).get(SHARES_POD) == "true" for step in steps)
        if shared and plan_context.resume_from_failure:
            raise PodsLostError("the pod of the run was lost, and its steps with it")
        yield from (self._here if shared else self._in_pods).execute(plan_context, execution_plan)
