"""How checks are declared, evaluated scene by scene, and recorded."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.multi_partition import Failures
from darts_assets.orchestration.core.partitions import SceneFamily


@dataclass(frozen=True)
class Verdict:
    """What a check finds in one scene.

    Attributes:
        faults: in sentences; the check passes where there are none.
        otherwise: what is said then.
        facts: metadata.
    """

    faults: Sequence[str]
    otherwise: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The verdict in words."""
        return "; ".join(self.faults) or self.otherwise


Judge = Callable[[str], Mapping[str, Verdict]]
"""From a scene to the verdict of each check of an asset, by its name."""


def check_spec(
    family: SceneFamily, step: str, name: str, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """A check of each scene; one that blocks fails by an error, any other by a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # checks by partition: tried, and pinned with Dagster 1.13
        return dg.AssetCheckSpec(
            name, asset=family.key(step), partitions_def=family.partitions, description=description, blocking=blocking
        )


def evaluate(
    context: dg.AssetCheckExecutionContext, family: SceneFamily, specs: Sequence[dg.AssetCheckSpec], judge: Judge
) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate the selected checks for the scenes of the run.

    In a run of several scenes, a check that fails blocks nothing: Dagster would hold back all of them for the one. A
    run without a partition, as the button "Execute all" of the UI makes it, judges every scene that is materialized.
    """
    selected = [spec for spec in specs if spec.key in context.selected_asset_check_keys]
    if not context.has_partition_key:
        yield from _one_by_one(context, family, selected, judge)
        return
    with domain_call(context.log):
        verdicts = judge(context.partition_key)
    for spec in selected:
        yield dg.AssetCheckResult(**_said(spec, verdicts[spec.name]))


def _one_by_one(
    context: dg.AssetCheckExecutionContext, family: SceneFamily, specs: Sequence[dg.AssetCheckSpec], judge: Judge
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Judge several scenes; one that cannot be read does not pass, and fails the step at its end."""
    failures = Failures(context.op_execution_context)
    in_range = context.has_partition_key_range
    scenes = context.partition_keys if in_range else _materialized(context, family, specs[0].asset_key)
    failed: dict[str, list[str]] = {spec.name: [] for spec in specs}
    for scene in scenes:
        verdicts: Mapping[str, Verdict] = {}
        with failures.of(scene):
            verdicts = judge(scene)
        for spec in specs:
            if spec.name not in verdicts or verdicts[spec.name].faults:
                failed[spec.name].append(scene)
            if spec.name in verdicts:
                yield evaluation(spec, scene, verdicts[spec.name])
    for spec in specs:
        if not in_range:
            # Not an `AssetCheckResult`, which Dagster cannot record without a partition.
            yield _of_all(spec, len(scenes), failed[spec.name])
        yield dg.Output(None, output_name=spec.get_python_identifier())
    failures.end()


def evaluation(spec: dg.AssetCheckSpec, scene: str, found: Verdict) -> dg.AssetCheckEvaluation:
    """The record of a check of one scene among several of a run."""
    return dg.AssetCheckEvaluation(**_said(spec, found), blocking=False, partition=scene)


def _said(spec: dg.AssetCheckSpec, found: Verdict) -> dict[str, Any]:
    """What a result and a record of a check have in common."""
    return {
        "asset_key": spec.asset_key,
        "check_name": spec.name,
        "passed": not found.faults,
        "severity": _severity(spec),
        "description": found.said,
        "metadata": as_metadata(found.facts),
    }


def _materialized(context: dg.AssetCheckExecutionContext, family: SceneFamily, asset: dg.AssetKey) -> list[str]:
    """The scenes that are materialized, as they were registered."""
    there = context.instance.get_materialized_partitions(asset)
    return [scene for scene in context.instance.get_dynamic_partitions(str(family.partitions.name)) if scene in there]


def _of_all(spec: dg.AssetCheckSpec, scenes: int, failed: Sequence[str]) -> dg.AssetCheckEvaluation:
    """What a check says of all scenes together; it blocks nothing."""
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{scenes - len(failed)} of {scenes} scenes pass",
        metadata=as_metadata({"failed": list(failed)}),
        blocking=False,
    )


def _severity(spec: dg.AssetCheckSpec) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN
