"""Declaration, evaluation and recording of checks, scene by scene."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dagster as dg

from darts_assets.errors import DartsError
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.multi_partition import Failures, partitions_of_run
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags


@dataclass(frozen=True)
class Outcome:
    """The result of a check for one scene.

    Attributes:
        problems: sentences; the check passes if there are none.
        if_passed: the description of a passed check.
        metadata: metadata of the check.
        blocks: whether the problems hold back the downstream steps if the check is blocking.
    """

    problems: Sequence[str]
    if_passed: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocks: bool = True

    @property
    def description(self) -> str:
        """The problems, or the description of a passed check."""
        return "; ".join(self.problems) or self.if_passed


Outcomes = Mapping[str, Outcome]
"""Name of a check -> its outcome for one scene."""

Limits = TypeVar("Limits", bound=dg.Config)


def check_spec(
    family: SceneFamily, step: str, name: str, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """A check of each scene; blocking checks fail with severity ERROR if the outcome blocks, others with WARN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitioned checks; tests cover them, Dagster is pinned
        return dg.AssetCheckSpec(
            name, asset=family.key(step), partitions_def=family.partitions, description=description, blocking=blocking
        )


def step_checks(
    family: SceneFamily, specs: Sequence[dg.AssetCheckSpec]
) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """Decorator of the function that evaluates all checks of one step."""
    return dg.multi_asset_check(
        name=_op_name(specs),
        specs=specs,
        can_subset=True,
        op_tags=op_tags("check"),
    )


def evaluate(
    context: dg.AssetCheckExecutionContext,
    family: SceneFamily,
    specs: Sequence[dg.AssetCheckSpec],
    outcomes_of: Callable[[str], Outcomes],
) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate the selected checks for the scenes of the run.

    In a run of several scenes a failed check does not block, because Dagster would hold back all scenes. A run without
    a partition (the button "Execute all" in the UI) evaluates every materialized scene.
    """
    selected = [spec for spec in specs if spec.key in context.selected_asset_check_keys]
    if not context.has_partition_key:
        yield from _evaluate_each(context, family, selected, outcomes_of)
        return
    with domain_call(context.log):
        outcomes = outcomes_of(context.partition_key)
    for spec in selected:
        yield dg.AssetCheckResult(**_fields(spec, outcomes[spec.name]))


def _evaluate_each(
    context: dg.AssetCheckExecutionContext,
    family: SceneFamily,
    specs: Sequence[dg.AssetCheckSpec],
    outcomes_of: Callable[[str], Outcomes],
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate several scenes; the checks of an unreadable scene fail, and so does the step at its end."""
    failures, asset = Failures(context.op_execution_context), specs[0].asset_key
    in_range = context.has_partition_key_range
    if in_range:
        scenes, _ = partitions_of_run(context.op_execution_context, asset, family.partitions)
    else:
        scenes = _materialized_scenes(context, family, asset)
    failed: dict[str, list[str]] = {spec.name: [] for spec in specs}
    for scene in scenes:
        outcomes: Outcomes = {}
        with failures.of(scene):
            outcomes = outcomes_of(scene)
        for spec in specs:
            if spec.name not in outcomes or outcomes[spec.name].problems:
                failed[spec.name].append(scene)
            if spec.name in outcomes:
                yield evaluation(spec, scene, outcomes[spec.name])
    for spec in specs:
        if not in_range:
            # Dagster cannot record an `AssetCheckResult` without a partition.
            yield _evaluation_of_all(spec, len(scenes), failed[spec.name])
        yield dg.Output(None, output_name=spec.get_python_identifier())
    failures.end()


def require_passed(
    context: dg.AssetExecutionContext, specs: Sequence[dg.AssetCheckSpec], scene: str, outcomes: Outcomes
) -> None:
    """Record the checks of one of several scenes in the step that has written it.

    Such a run has no step for the checks, because Dagster skips it if one scene failed.

    Raises:
        DartsError: if a blocking check fails.
    """
    for spec in specs:
        context.log_event(evaluation(spec, scene, outcomes[spec.name]))
    failed = [outcomes[spec.name] for spec in specs if spec.blocking]
    if problems := [outcome.description for outcome in failed if outcome.problems and outcome.blocks]:
        raise DartsError(f"{scene}: {'; '.join(problems)}")


def limits_of_run(
    context: dg.AssetExecutionContext, specs: Sequence[dg.AssetCheckSpec], limits: type[Limits]
) -> Limits:
    """The config of the checks of an asset in the config of a run, from another step of it."""
    ops: Any = context.run.run_config.get("ops", {})
    return limits(**ops.get(_op_name(specs), {}).get("config", {}))


def _op_name(specs: Sequence[dg.AssetCheckSpec]) -> str:
    return f"{specs[0].asset_key.to_python_identifier()}_checks"


def evaluation(spec: dg.AssetCheckSpec, scene: str, outcome: Outcome) -> dg.AssetCheckEvaluation:
    """The record of a check for one of several scenes of a run."""
    return dg.AssetCheckEvaluation(**_fields(spec, outcome), blocking=False, partition=scene)


def _fields(spec: dg.AssetCheckSpec, outcome: Outcome) -> dict[str, Any]:
    """The arguments that `AssetCheckResult` and `AssetCheckEvaluation` share."""
    return {
        "asset_key": spec.asset_key,
        "check_name": spec.name,
        "passed": not outcome.problems,
        "severity": dg.AssetCheckSeverity.ERROR if spec.blocking and outcome.blocks else dg.AssetCheckSeverity.WARN,
        "description": outcome.description,
        "metadata": as_metadata(outcome.metadata),
    }


def _materialized_scenes(context: dg.AssetCheckExecutionContext, family: SceneFamily, asset: dg.AssetKey) -> list[str]:
    """The materialized scenes, in order of registration."""
    materialized = context.instance.get_materialized_partitions(asset)
    registered = context.instance.get_dynamic_partitions(str(family.partitions.name))
    return [scene for scene in registered if scene in materialized]


def _evaluation_of_all(spec: dg.AssetCheckSpec, scenes: int, failed: Sequence[str]) -> dg.AssetCheckEvaluation:
    """The record of a check for all scenes together; never blocking."""
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{scenes - len(failed)} of {scenes} scenes pass",
        metadata=as_metadata({"failed": list(failed)}),
        blocking=False,
    )
