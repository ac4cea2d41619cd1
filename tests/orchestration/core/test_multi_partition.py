"""Several partitions in one step: each is recorded when it is done, and what may pass is tried again by itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill

from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.orchestration.core import error_handling
from darts_assets.orchestration.core.dagster_compat import planned_partitions
from darts_assets.orchestration.core.multi_partition import materialize_each, partitions_per_run

PARTITIONS = dg.DynamicPartitionsDefinition(name="things")
KEYS = ["a", "b", "c", "d"]

Make = Callable[[dg.AssetExecutionContext, str], None]


def run(
    instance: dg.DagsterInstance,
    make: Make,
    keys: list[str] = KEYS,
    between: Callable[[], None] = lambda: None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> dg.ExecuteInProcessResult:
    """A run of several partitions, and an asset downstream of it; `between` is called after the run's creation."""

    @dg.resource
    def waiting() -> None:
        between()

    upstream = dg.AssetSpec("source", partitions_def=PARTITIONS)

    @dg.asset(
        partitions_def=PARTITIONS, deps=[upstream], code_version="3", output_required=False,
        backfill_policy=partitions_per_run(len(KEYS)), required_resource_keys={"waiting"},
    )  # fmt: skip
    def thing(context: dg.AssetExecutionContext):
        def made(key: str) -> dg.MaterializeResult:
            make(context, key)
            return dg.MaterializeResult(metadata={"key": key}, data_version=dg.DataVersion(f"version of {key}"))

        yield from materialize_each(context, made)

    @dg.asset(partitions_def=PARTITIONS, deps=[thing])
    def after() -> None: ...

    instance.add_dynamic_partitions("things", KEYS)
    one = {"partition_key": keys[0]} if len(keys) == 1 else {}
    ends = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    return dg.materialize(
        [upstream, thing, after], selection=["thing", "after"], instance=instance, raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, resources={"waiting": waiting},
        tags={**tags, **({} if one else ends)}, **one,
    )  # fmt: skip


def recorded(result: dg.ExecuteInProcessResult) -> list[str]:
    return [e.partition for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey("thing")]


def why(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    return str(failure.step_failure_data.user_failure_data.description)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_each_is_recorded_before_the_next_begins(instance: dg.DagsterInstance) -> None:
    before: list[set[str]] = []
    result = run(instance, lambda context, key: before.append(instance.get_materialized_partitions(context.asset_key)))
    assert result.success
    assert before == [set(), {"a"}, {"a", "b"}, {"a", "b", "c"}]
    assert instance.get_materialized_partitions(dg.AssetKey("after")) == set()
    event = result.get_asset_materialization_events()[1].materialization
    assert event.metadata["key"].value == "b"
    assert event.tags["dagster/data_version"] == "version of b"
    assert event.tags["dagster/code_version"] == "3"
    assert event.tags["dagster/input_event_pointer/source"] == "NULL"


def test_whatever_goes_wrong_with_one_is_its_own_matter(instance: dg.DagsterInstance) -> None:
    def make(context: dg.AssetExecutionContext, key: str) -> None:
        if key == "b":
            raise RasterError("b.tif: it is no raster")
        if key == "d":
            raise ZeroDivisionError("division by zero")

    result = run(instance, make)
    assert recorded(result) == ["a", "c"]
    assert why(result) == "b: RasterError: b.tif: it is no raster; d: ZeroDivisionError: division by zero"
    log = [entry.message for entry in instance.all_logs(result.run_id) if entry.level == 40]
    assert any("d: unexpected error" in message and "Traceback" in message for message in log)


def test_what_may_pass_is_tried_again_and_nothing_else(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)
    made: list[str] = []

    def make(context: dg.AssetExecutionContext, key: str) -> None:
        made.append(key)
        if key == "b" and context.retry_number < 2:
            raise SourceUnavailableError("503")

    result = run(instance, make)
    assert result.success
    assert made == ["a", "b", "c", "d", "b", "b"]
    assert recorded(result) == ["a", "c", "d", "b"]


def test_what_does_not_pass_is_named_when_its_tries_are_over(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)

    def make(context: dg.AssetExecutionContext, key: str) -> None:
        if key == "b":
            raise SourceUnavailableError("503 Slow Down")

    result = run(instance, make)
    assert recorded(result) == ["a", "c", "d"]
    assert why(result) == "b: SourceUnavailableError: 503 Slow Down"


def test_a_second_run_takes_all_of_them_again(instance: dg.DagsterInstance) -> None:
    assert recorded(run(instance, lambda context, key: None)) == KEYS
    assert recorded(run(instance, lambda context, key: None)) == KEYS


def test_one_alone_has_an_output_and_what_is_downstream_goes_on(instance: dg.DagsterInstance) -> None:
    assert run(instance, lambda context, key: None, ["c"]).success
    assert instance.get_materialized_partitions(dg.AssetKey("after")) == {"c"}


@pytest.mark.parametrize(
    ("deleted", "registered_again", "taken"),
    [
        ("c", "c", ["b", "c", "d"]),  # was left out, and the run succeeded
        ("d", "d", ["b", "c", "d"]),  # `x` and `y` were processed too
        ("b", "b", ["b", "c", "d"]),  # nothing was processed, and the run succeeded
        ("b", "", ["c", "d"]),  # ended in a traceback
    ],
)
def test_a_run_takes_the_partitions_that_it_was_created_for(
    instance: dg.DagsterInstance, deleted: str, registered_again: str, taken: list[str]
) -> None:
    instance.add_dynamic_partitions("things", [*KEYS, "x", "y"])

    def between() -> None:
        for key in deleted:
            instance.delete_dynamic_partition("things", key)
        instance.add_dynamic_partitions("things", list(registered_again))

    result = run(instance, lambda context, key: None, ["b", "c", "d"], between)
    assert recorded(result) == taken
    assert result.success == (taken == ["b", "c", "d"])
    if not result.success:
        gone = "not processed: its partition was deleted after the run was launched"
        assert why(result) == "; ".join(f"{key}: {gone}" for key in sorted(set(deleted) - set(registered_again)))


def test_a_repeated_run_takes_the_partitions_of_the_first(instance: dg.DagsterInstance) -> None:
    first = run(instance, lambda context, key: None, ["b", "c", "d"])
    instance.delete_dynamic_partition("things", "c")
    instance.add_dynamic_partitions("things", ["c"])
    second = run(instance, lambda context, key: None, ["b", "c", "d"])
    assert recorded(second) == ["b", "d"]
    again = second.dagster_run._replace(parent_run_id=first.run_id, root_run_id=first.run_id)
    assert planned_partitions(instance, again, dg.AssetKey("thing")) == {"b", "c", "d"}


def test_a_run_takes_only_what_its_backfill_includes(instance: dg.DagsterInstance) -> None:
    """Partitions were deleted and registered again between the backfill's launch and the creation of its runs."""
    instance.add_dynamic_partitions("things", KEYS)
    asset = dg.AssetSpec("thing", partitions_def=PARTITIONS)
    backfill = PartitionBackfill.from_asset_partitions(
        "backfill", dg.Definitions(assets=[asset]).resolve_asset_graph(), ["a", "c"], [asset.key], 0.0, {}, instance,
        False, None, None, None,
    )  # fmt: skip
    instance.add_backfill(backfill)
    result = run(instance, lambda context, key: None, ["a", "b", "c"], tags={"dagster/backfill": "backfill"})
    assert recorded(result) == ["a", "c"]
