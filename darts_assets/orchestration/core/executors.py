"""Executors: steps in the run's process, in processes beside it, or in pods of a cluster."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import (
    CheckStepHealthResult,
    PodsLostError,
    StepHandler,
    execute_step_here,
    fail_on_lost_pods,
    log_lost_step,
)
from darts_assets.orchestration.core.pod_resources import ANY_STEP, SHARES_POD, pod_config
from darts_assets.orchestration.core.run_owner import owner_tags

if TYPE_CHECKING:
    from darts_assets.orchestration.core.dagster_compat import (
        ExecutionPlan,
        PlanOrchestrationContext,
        RetryMode,
        StepDependencyConfig,
        StepHandlerContext,
    )

LOST = "the step was lost with the pod of its run"

ExecutorKind = Literal["in_process", "multiprocess", "k8s", "k8s_per_run"]


def executor(kind: ExecutorKind, k8s_config: Mapping[str, Any] | None = None) -> dg.ExecutorDefinition:
    """The executor for all runs.

    Args:
        kind: `in_process` starts fastest on one machine; `k8s` runs each step in its own pod; `k8s_per_run` runs light
            steps in the pod of their run, because starting a pod takes longer than they do, and others in their own.
        k8s_config: config of `k8s_job_executor`; the config of a run overrides it key by key.
    """
    if kind == "in_process":
        return _with_owner(dg.in_process_executor)
    if kind == "multiprocess":
        return _with_owner(dg.multiprocess_executor)
    from dagster_k8s import k8s_job_executor

    from darts_assets.orchestration.core.kubernetes_client import patient_steps

    pods = patient_steps(k8s_job_executor)
    pods = fail_on_lost_pods(pods) if kind == "k8s" else _per_run(fail_on_lost_pods(_with_steps_of_the_run(pods)))

    # Permissive: the executor's own schema would fill in defaults that override ours. The executor checks the result.
    @dg.configured(pods, config_schema=dg.Permissive())
    def k8s(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"step_k8s_config": pod_config(ANY_STEP), **(k8s_config or {}), **config}

    return k8s


def _with_owner(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """An executor whose runs have their process as tags, so that runs of killed processes can be ended."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert executor.executor_creation_fn is not None
        return _WithOwner(executor.executor_creation_fn(context))

    return dg.ExecutorDefinition(executor.name, executor.config_schema.as_field(), executor.get_requirements, create)


class _WithOwner(dg.Executor):
    def __init__(self, steps: dg.Executor) -> None:
        self._steps = steps

    @property
    def retries(self) -> "RetryMode":
        return self._steps.retries

    @property
    def step_dependency_config(self) -> "StepDependencyConfig":
        return self._steps.step_dependency_config

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        plan_context.instance.add_run_tags(plan_context.run_id, owner_tags())
        yield from self._steps.execute(plan_context, execution_plan)


def _per_run(pods: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert pods.executor_creation_fn is not None
        assert dg.in_process_executor.executor_creation_fn is not None
        return _PodOfTheRun(pods.executor_creation_fn(context), dg.in_process_executor.executor_creation_fn(context))

    return dg.ExecutorDefinition("k8s_per_run", pods.config_schema.as_field(), pods.get_requirements, create)


class _PodOfTheRun(dg.Executor):
    """Runs all steps in this process if every step may share a pod; otherwise the others have a pod each.

    A run whose pod was lost is resumed if steps of it have pods of their own; steps in the run's pod are lost with it.
    """

    def __init__(self, in_pods: dg.Executor, in_process: dg.Executor) -> None:
        self._in_pods = in_pods
        self._in_process = in_process

    @property
    def retries(self) -> "RetryMode":
        return self._in_pods.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        steps = [execution_plan.get_step_by_key(key) for key in execution_plan.step_keys_to_execute]
        shared = all(_shares_pod(step.tags) for step in steps)
        if shared and plan_context.resume_from_failure:
            raise PodsLostError(LOST)
        yield from (self._in_process if shared else self._in_pods).execute(plan_context, execution_plan)


def _shares_pod(tags: Mapping[str, str] | None) -> bool:
    return (tags or {}).get(SHARES_POD) == "true"


def _with_steps_of_the_run(pods: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert pods.executor_creation_fn is not None
        steps: Any = pods.executor_creation_fn(context)
        steps._step_handler = _StepsOfTheRun(steps._step_handler)
        return steps

    return dg.ExecutorDefinition(pods.name, pods.config_schema.as_field(), pods.get_requirements, create)


class _StepsOfTheRun(StepHandler):
    """Executes each step that may share a pod in this process, to its end, and gives the others a pod."""

    def __init__(self, pods: StepHandler) -> None:
        self._pods = pods
        self._executed: set[str] = set()
        self._lost: set[str] = set()

    @property
    def name(self) -> str:
        return f"{self._pods.name}, some steps in the pod of the run"

    def launch_step(self, step_handler_context: "StepHandlerContext") -> Iterator[dg.DagsterEvent]:
        key, shared = _step(step_handler_context)
        if not shared:
            yield from self._pods.launch_step(step_handler_context)
        elif key in self._lost:
            # The run is being resumed. Its pod may have been lost because of the step: Dagster resumes runs more often
            # than it retries them.
            log_lost_step(step_handler_context, key, LOST)
        else:
            self._executed.add(key)
            execute_step_here(step_handler_context)

    def check_step_health(self, step_handler_context: "StepHandlerContext") -> CheckStepHealthResult:
        key, shared = _step(step_handler_context)
        if not shared:
            return self._pods.check_step_health(step_handler_context)
        if key in self._executed:
            return CheckStepHealthResult.healthy()
        self._lost.add(key)
        return CheckStepHealthResult.unhealthy(LOST)

    def terminate_step(self, step_handler_context: "StepHandlerContext") -> Iterator[dg.DagsterEvent]:
        if not _step(step_handler_context)[1]:  # others have ended
            yield from self._pods.terminate_step(step_handler_context)


def _step(context: "StepHandlerContext") -> tuple[str, bool]:
    """Key of the step, and whether it may share a pod."""
    ((key, tags),) = context.step_tags.items()
    return key, _shares_pod(tags)
