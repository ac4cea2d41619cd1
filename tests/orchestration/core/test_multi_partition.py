"""Several partitions in one step: each is recorded when it is done, and what may pass is tried again by itself."""

from collections.abc import Callable

import dagster as dg
import pytest

from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.orchestration.core import error_handling
from darts_assets.orchestration.core.multi_partition import materialize_each, partitions_per_run

PARTITIONS = dg.DynamicPartitionsDefinition(name="things")
KEYS = ["a", "b", "c", "d"]

Make = Callable[[dg.AssetExecutionContext, str], None]


def run(instance: dg.DagsterInstance, make: Make, keys: list[str] = KEYS) -> dg.ExecuteInProcessResult:
    """A run of several partitions, and an asset downstream of it."""
    upstream = dg.AssetSpec("source", partitions_def=PARTITIONS)

    @dg.asset(
        partitions_def=PARTITIONS, deps=[upstream], code_version="3", output_required=False,
        backfill_policy=partitions_per_run(len(KEYS)),
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
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, tags={} if one else ends, **one,
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
