"""Dagster's private names and undocumented behaviour that this package relies on."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions import data_version
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData
from dagster._utils.error import SerializableErrorInfo

import darts_assets
from darts_assets.orchestration.core import dagster_compat, instance_database
from darts_assets.orchestration.core.partitions import SENTINEL2

PACKAGE = Path(darts_assets.__file__).parent
COMPAT = Path(dagster_compat.__file__)


def private_imports(path: Path) -> set[tuple[str, str]]:
    """(module, name) of every import of a private Dagster module."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {(n.module or "", a.name) for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    names |= {(alias.name, "") for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    return {(module, name) for module, name in names if module.startswith(("dagster._", "dagster_shared"))}


def test_only_dagster_compat_imports_private_names() -> None:
    offenders = {path.name for path in PACKAGE.rglob("*.py") if path != COMPAT and private_imports(path)}
    assert offenders == set()
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path != COMPAT)
    assert "import dagster._" not in sources
    assert "sqlalchemy" not in sources.replace(Path(instance_database.__file__).read_text(), "")


@pytest.mark.parametrize(("module", "name"), sorted(private_imports(COMPAT)))
def test_every_private_name_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_tags_of_materializations_are_dagsters() -> None:
    key = dg.AssetKey(["sentinel2", "segmentation"])
    assert dagster_compat.data_version_tags("abc", "1") == {
        "dagster/data_version": "abc",
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": "1",
    }
    assert dagster_compat.data_version_tags("abc", None).keys() == {
        "dagster/data_version",
        "dagster/data_version_is_user_provided",
    }
    assert data_version.get_input_data_version_tag(key) == "dagster/input_data_version/sentinel2/segmentation"
    assert data_version.get_input_event_pointer_tag(key) == "dagster/input_event_pointer/sentinel2/segmentation"
    assert data_version.DEFAULT_DATA_VERSION.value == "INITIAL"
    assert data_version.NULL_EVENT_POINTER == "NULL"
    assert dagster_compat.RESUME_RETRY_TAG == "dagster/is_resume_retry"


def test_failures_of_steps_have_the_fields_that_are_read() -> None:
    assert {"error", "user_failure_data", "error_source"} <= set(inspect.signature(StepFailureData).parameters)
    assert {"message", "cause"} <= set(inspect.signature(SerializableErrorInfo).parameters)
    assert ErrorSource.INTERRUPT.name == "INTERRUPT"
    lost = StepFailureData(SerializableErrorInfo("x: failed health check", [], "Error"), None)
    assert lost.error is not None
    assert lost.error.message == "x: failed health check"


def test_executors_have_the_methods_that_are_wrapped() -> None:
    assert list(inspect.signature(dg.Executor.execute).parameters) == ["self", "plan_context", "execution_plan"]
    assert isinstance(dg.Executor.step_dependency_config, property)
    assert {"executor_creation_fn", "get_requirements", "config_schema"} <= set(dir(dg.ExecutorDefinition))
    plan = {name for name, _ in inspect.getmembers(dagster_compat_type("ExecutionPlan"))}
    fields = {field.name for field in dataclasses.fields(dagster_compat_type("PlanOrchestrationContext"))} if (
        dataclasses.is_dataclass(dagster_compat_type("PlanOrchestrationContext"))
    ) else {name for name, _ in inspect.getmembers(dagster_compat_type("PlanOrchestrationContext"))}  # fmt: skip
    assert {"get_step_by_key", "step_keys_to_execute"} <= plan
    assert {"resume_from_failure", "instance"} <= fields


def dagster_compat_type(name: str) -> type:
    (module,) = (module for module, imported in private_imports(COMPAT) if imported == name)
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_instances_count_attempts_through_run_will_resume() -> None:
    assert list(inspect.signature(dg.DagsterInstance.run_will_resume).parameters) == ["self", "run_id"]
    with dg.DagsterInstance.ephemeral() as instance, dagster_compat._cancelled_runs_end(instance):
        run = dg.DagsterRun(job_name="job", status=dg.DagsterRunStatus.CANCELED)
        instance.add_run(run)
        assert instance.run_will_resume(run.run_id) is False


def test_membership_of_partitions_is_a_query() -> None:
    parameters = list(inspect.signature(dg.DagsterInstance.get_existing_dynamic_partitions).parameters)
    assert parameters[1:] == ["partitions_def_name", "partition_keys"]


def test_a_backfill_is_recorded_as_it_goes_on_and_can_be_cancelled() -> None:
    asset, scenes = dg.AssetKey(["sentinel2", "raw_scene"]), SENTINEL2.partitions

    @dg.asset(key=asset, partitions_def=scenes)
    def raw_scene() -> None: ...

    defs = dg.Definitions([raw_scene])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sentinel2_scene", ["a", "b", "c"])
        dagster_compat.add_backfill(
            instance, defs, "id", scenes, {asset: ["a", "b", "c"]}, title="three scenes", description="by map"
        )

        def record() -> tuple[str, bool, dict[str, set[str]]]:
            backfill = instance.get_backfill("id")
            assert backfill is not None
            data = backfill.get_asset_backfill_data(defs.resolve_asset_graph())
            subsets = {
                "requested": data.requested_subset,
                "materialized": data.materialized_subset,
                "failed": data.failed_and_downstream_subset,
            }
            keys = {
                name: {key.partition_key for key in subset.iterate_asset_partitions()}
                for name, subset in subsets.items()
            }
            return backfill.status.value, backfill.backfill_end_timestamp is not None, keys

        def update(status: Any) -> None:
            dagster_compat.update_backfill(
                instance, defs, "id", scenes, materialized={asset: ["a"]}, failed={asset: ["b"]}, status=status
            )

        everything = {"a", "b", "c"}
        assert record() == ("REQUESTED", False, {"requested": everything, "materialized": set(), "failed": set()})
        assert not dagster_compat.cancel_is_requested(instance, "id")
        update("REQUESTED")
        assert record() == ("REQUESTED", False, {"requested": everything, "materialized": {"a"}, "failed": {"b"}})
        update("CANCELED")
        assert record()[:2] == ("CANCELED", True)
        assert dagster_compat.cancel_is_requested(instance, "id")
