"""The only module that uses Dagster's private names (`dagster._core...`) and undocumented behaviour.

`tests/orchestration/core/test_dagster_compat.py` fails if a new Dagster changes one of them.
"""

import hashlib
import json
import logging
import os
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    StepMaterializationData,
)
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster._core.instance.ref import InstanceRef
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import DynamicPartitionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager as LocalComputeLogManager
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.tags import BACKFILL_ID_TAG, RESUME_RETRY_TAG
from dagster._serdes import ConfigurableClassData
from dagster._utils.error import SerializableErrorInfo  # type: ignore[attr-defined]
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError

from darts_assets.remote.retry import TransientError

if TYPE_CHECKING:
    from dagster._core.definitions.sensor_definition import RawSensorEvaluationFunction
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode
    from dagster._core.execution.step_dependency_config import StepDependencyConfig

__all__ = [
    "BACKFILL_ID_TAG",
    "DATA_VERSION_TAG",
    "RESUME_RETRY_TAG",
    "CheckStepHealthResult",
    "ExecutionPlan",
    "Partitions",
    "PlanOrchestrationContext",
    "PodsLostError",
    "RawSensorEvaluationFunction",
    "RetryMode",
    "SerializableErrorInfo",
    "StepDependencyConfig",
    "StepFailureData",
    "StepHandler",
    "StepHandlerContext",
    "UnresolvedAssetJobDefinition",
    "add_backfill",
    "add_partitions",
    "add_to_materialization",
    "cancel_is_requested",
    "claims",
    "data_version_tags",
    "data_versions",
    "delete_run_logs",
    "execute_step_here",
    "fail_on_lost_pods",
    "finished_partitions",
    "free_slots",
    "input_tags",
    "input_version_tags",
    "is_on_this_host",
    "latest_materialization",
    "listen",
    "log_lost_step",
    "logged_events",
    "lost_its_pod",
    "planned_partitions",
    "postgres_url",
    "record_without_run",
    "selected_assets",
    "update_backfill",
]

Partitions = Mapping[dg.AssetKey, Iterable[str]]
"""Asset -> partition keys."""


def add_to_materialization(
    context: dg.AssetExecutionContext | dg.OutputContext, metadata: Mapping[str, dg.MetadataValue[Any]]
) -> None:
    """Add metadata to the materialization that the step will record, and to no other event.

    Metadata of an output are also in the event of the output, and those of an IO manager in that of its handling.
    """
    step = context.step_context if isinstance(context, dg.OutputContext) else context
    step.add_asset_metadata(metadata, asset_key=context.asset_key)


def is_on_this_host(instance: dg.DagsterInstance) -> bool:
    """Whether all runs of an instance are processes of one host: SQLite files and Dagster's default launcher."""
    return isinstance(instance.run_storage, SqliteRunStorage) and isinstance(
        instance.run_launcher, dg.DefaultRunLauncher
    )


def add_partitions(instance: dg.DagsterInstance, name: str, keys: list[str]) -> None:
    """Add dynamic partitions; existing ones stay as they are.

    Raises:
        TransientError: if another process comes between: on SQLite, Dagster looks for existing keys and then inserts
            the others. A repetition finds the keys of that process.
    """
    try:
        instance.add_dynamic_partitions(name, keys)
    except IntegrityError:
        raise TransientError("another process has added some of them meanwhile") from None


def partitions_like(instance: dg.DagsterInstance, name: str, patterns: Sequence[str]) -> list[str]:
    """The dynamic partitions whose keys match one of the patterns of `LIKE`; all of them if no database has them."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return list(instance.get_dynamic_partitions(name))
    columns = DynamicPartitionsTable.c
    query = select(columns.partition).where(
        columns.partitions_def_name == name, or_(*(columns.partition.like(pattern) for pattern in patterns))
    )
    with storage.index_connection() as connection:
        return [str(row[0]) for row in connection.execute(query)]


def postgres_url() -> str | None:
    """URL of the database of the instance in `DAGSTER_HOME`, where no table is created; None without PostgreSQL."""
    configured = InstanceRef.from_dir(os.environ["DAGSTER_HOME"]).storage_data
    if configured is None or not configured.module_name.startswith("dagster_postgres"):
        return None
    config = {**configured.config_dict, "should_autocreate_tables": False}
    opened = ConfigurableClassData(configured.module_name, configured.class_name, json.dumps(config))
    storage: Any = opened.rehydrate(DagsterStorage)  # type: ignore[type-abstract]
    return str(storage.postgres_url)


def claims(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """Id of a run -> pools whose slots it claims or waits for."""
    storage, runs = instance.event_log_storage, defaultdict[str, set[str]](set)
    if storage.supports_global_concurrency_limits:
        for pool in storage.get_concurrency_keys():
            info = storage.get_concurrency_info(pool)
            for run_id in [
                *(slot.run_id for slot in info.claimed_slots),
                *(step.run_id for step in info.pending_steps),
            ]:
                runs[run_id].add(pool)
    return dict(runs)


def free_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Free the slots of pools that a run claims, and remove it from those that wait."""
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def selected_assets(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    """The assets that the run materializes, and those of the backfill that launched it."""
    backfill = context.run.tags.get(BACKFILL_ID_TAG)
    of_backfill = context.instance.get_backfill(backfill) if backfill else None
    selected = of_backfill.asset_selection if of_backfill else None
    return {*context.job_def.asset_layer.executable_asset_keys, *(selected or ())}


class PodsLostError(Exception):
    """The pods of some steps were lost (killed, evicted, never started); a new attempt may succeed."""


def fail_on_lost_pods(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """An executor whose run fails with PodsLostError if the pods of steps are lost.

    Dagster reports a lost pod as a failed step and does not retry runs with failed steps. A run that ends with an
    error of its own is retried from where it was (`run_retries` in `dagster.yaml`). A `RetryPolicy` does not help: a
    step whose first attempt never started gets no second one.
    """

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert executor.executor_creation_fn is not None
        return _FailOnLostPods(executor.executor_creation_fn(context))

    return dg.ExecutorDefinition(executor.name, executor.config_schema.as_field(), executor.get_requirements, create)


class _FailOnLostPods(dg.Executor):
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
    ) -> Iterator[dg.DagsterEvent]:
        lost = []
        with _cancelled_runs_end(plan_context.instance):
            for event in self._pods.execute(plan_context, execution_plan):
                if event.is_step_failure and lost_its_pod(event):
                    lost.append(str(event.step_key))
                yield event
        if lost:
            raise PodsLostError(f"the pods of these steps were lost before the steps ended: {', '.join(lost)}")


@contextmanager
def _cancelled_runs_end(instance: dg.DagsterInstance) -> Iterator[None]:
    """Make `instance.run_will_resume` false for cancelled runs, so that the executor ends their steps.

    Dagster counts attempts only, and leaves the steps of a cancelled run running if attempts are left:
    https://github.com/dagster-io/dagster/issues/33923
    """
    has_attempts_left = instance.run_will_resume

    def run_will_resume(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        cancelled = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
        return not (run and run.status in cancelled) and has_attempts_left(run_id)

    instance.run_will_resume = run_will_resume  # type: ignore[method-assign]
    try:
        yield
    finally:
        del instance.run_will_resume


def lost_its_pod(failure: dg.DagsterEvent) -> bool:
    """Whether a step failed because its process got SIGTERM, or its Kubernetes Job failed without an error of ours."""
    data = failure.step_failure_data
    interrupted = data.error_source is not None and data.error_source.name == "INTERRUPT"
    return interrupted or (data.error is not None and "failed health check" in data.error.message)


def execute_step_here(context: StepHandlerContext) -> None:
    """Execute a step to its end in this process, as `dagster api execute_step` does in a pod.

    SIGTERM interrupts the step and then the executor, which ends the steps in pods if the run was canceled.
    """
    run, args = context.dagster_run, context.execute_step_args
    job: Any = context._plan_context.reconstructable_job
    plan = create_execution_plan(
        job, run_config=run.run_config, step_keys_to_execute=args.step_keys_to_execute, known_state=args.known_state
    )
    try:
        for _ in execute_plan_iterator(
            plan, job, run, context.instance, retry_mode=args.retry_mode, run_config=run.run_config
        ):
            pass  # events are in the log, which the executor reads
    except DagsterExecutionInterruptedError:
        signal.raise_signal(signal.SIGTERM)


def log_lost_step(context: StepHandlerContext, key: str, reason: str) -> None:
    """Record a step as failed, as the executor does for a lost pod."""
    error = SerializableErrorInfo(f"Step {key} failed health check: {reason}", [], None)
    dg.DagsterEvent.step_failure_event(context.get_step_context(key), StepFailureData(error, None))


def latest_materialization(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None
) -> dg.EventLogRecord | None:
    """The latest materialization of a partition, or of any partition (None)."""
    records = dg.AssetRecordsFilter(asset, asset_partitions=None if partition is None else [partition])
    return next(iter(instance.fetch_materializations(records, limit=1).records), None)


def logged_events(context: dg.AssetExecutionContext) -> Iterator[dg.DagsterEvent]:
    """The events that a step has logged since its last one, which Dagster would drop if the step failed next."""
    return context.op_execution_context.consume_events()


def planned_partitions(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: dg.AssetKey) -> set[str]:
    """The partitions of an asset for which a run was created; empty if Dagster has no record of them.

    A run has the first and last of its partitions as tags. What lies between them changes when partitions are deleted
    and registered; the events of the run's creation and the backfill do not. A repeated run takes the partitions of the
    first one.
    """
    planned: set[str] = set()
    for run_id in filter(None, (run.root_run_id, run.run_id)):
        if not planned:
            records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
            events = (record.event_log_entry.dagster_event for record in records.records)
            planned = {key for event in events if event and event.asset_key == asset for key in _partitions(event)}
    backfill = instance.get_backfill(run.tags[BACKFILL_ID_TAG]) if BACKFILL_ID_TAG in run.tags else None
    if backfill is not None and backfill.asset_backfill_data is not None:
        requested = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key.get(asset)
        if requested is not None:
            planned &= set(requested.get_partition_keys())
    return planned


def _partitions(planned: dg.DagsterEvent) -> Iterable[str]:
    subset = planned.partitions_subset
    return subset.get_partition_keys() if subset else filter(None, [planned.partition])


def data_version_tags(data_version: str, code_version: str | None) -> dict[str, str]:
    """The version tags of a materialization; Dagster writes them only for outputs."""
    code = {CODE_VERSION_TAG: code_version} if code_version else {}
    return {DATA_VERSION_TAG: data_version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true", **code}


def input_version_tags(instance: dg.DagsterInstance, parents: Iterable[dg.AssetKey], partition: str) -> dict[str, str]:
    """The tags from which Dagster derives staleness, for a partition made from the same partition of its parents."""
    tags: dict[str, str] = {}
    for parent in parents:
        newest, own = (latest_materialization(instance, parent, key) for key in (None, partition))
        tags_of_input = (own and own.asset_materialization and own.asset_materialization.tags) or {}
        version = tags_of_input.get(DATA_VERSION_TAG, "")
        tags |= input_tags(parent, [version], newest.storage_id if newest else None)
    return tags


def input_tags(parent: dg.AssetKey, versions: Iterable[str], newest: int | None) -> dict[str, str]:
    """The tags of one input, as Dagster writes them for outputs.

    Args:
        parent: the asset that was read.
        versions: data versions of the partitions that were read, in the order of their keys.
        newest: number of the latest event of the parent; None if it was never materialized. If a later event gives a
            partition that was read another data version than it had, the output is stale.
    """
    hashed = hashlib.sha256("".join(versions).encode()).hexdigest() if newest else DEFAULT_DATA_VERSION.value
    return {
        get_input_data_version_tag(parent): hashed,
        get_input_event_pointer_tag(parent): str(newest) if newest else NULL_EVENT_POINTER,
    }


def data_versions(instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: Sequence[str]) -> dict[str, str]:
    """Partition -> data version of its latest materialization; partitions without one are left out."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG], asset_partitions=list(partitions)
    )
    return {partition: versions[DATA_VERSION_TAG] for partition, versions in tags.items()}


def record_without_run(instance: dg.DagsterInstance, materializations: Sequence[dg.AssetMaterialization]) -> None:
    """Record materializations that no run has made; with SQLite in one transaction, forty times as fast."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        for materialization in materializations:
            instance.report_runless_asset_event(materialization)
        return
    entries = [
        dg.EventLogEntry(
            error_info=None, user_message="", level=logging.INFO, run_id=RUNLESS_RUN_ID, timestamp=time.time(),
            job_name=RUNLESS_JOB_NAME,
            dagster_event=dg.DagsterEvent(
                dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name=RUNLESS_JOB_NAME,
                event_specific_data=StepMaterializationData(materialization),
            ),
        )
        for materialization in materializations
    ]  # fmt: skip
    with storage.index_transaction() as connection:
        inserted = [connection.execute(storage.prepare_insert_event(entry)).inserted_primary_key for entry in entries]
        numbers = [key[0] for key in inserted if key is not None]
        storage._store_asset_event_tags(connection, entries, numbers)
        keys = [materialization.asset_key for materialization in materializations]
        latest = dict(zip(keys, zip(entries, numbers, strict=True), strict=True))  # of each asset
        for entry, number in latest.values():
            storage._store_asset_event(connection, entry, number)


_EMPTY, _LOCK_SECONDS = 16384, 20.0
_KEPT_EVENTS = ASSET_EVENTS | ASSET_CHECK_EVENTS | EVENT_TYPE_TO_PIPELINE_RUN_STATUS.keys()


def delete_run_logs(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> int:
    """Delete the logs of finished runs, and keep what describes assets, checks and the status of the runs.

    `DagsterInstance.delete_run` deletes the materializations of a run as well, and with them the status of partitions.
    Captured output of the runs is deleted too.

    Returns:
        The number of freed bytes (SQLite) or deleted events (other databases).

    Raises:
        TypeError: if the event log is not in a database.
    """
    storage = instance.event_log_storage
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id, "compute_logs"])
        with suppress(OSError):  # not empty, or not local
            Path(instance.storage_directory(), run_id).rmdir()
    if isinstance(storage, SqliteEventLogStorage):
        # Each run has a database of its own; the index has a copy of the events that are kept.
        return sum(_empty_database(Path(storage.path_for_shard(run_id))) for run_id in run_ids)
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__} is not a database")
    columns = SqlEventLogStorageTable.c
    kept = [kind.value for kind in _KEPT_EVENTS]
    deleted = SqlEventLogStorageTable.delete().where(
        columns.run_id.in_(run_ids),
        or_(columns.dagster_event_type.is_(None), columns.dagster_event_type.not_in(kept)),
    )
    with storage.index_connection() as connection:
        return int(connection.execute(deleted).rowcount)


def _empty_database(path: Path) -> int:
    """Empty the database of a run; returns the number of bytes by which it shrinks.

    The table of events remains for processes that have opened the database before. Dagster completes the tables of a
    database without a revision when it opens it.
    """
    if not path.exists() or (size := path.stat().st_size) <= _EMPTY:
        return 0
    with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        entries = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type"
        ).fetchall()
        for kind, name in entries:
            if name not in (SqlEventLogStorageTable.name, "sqlite_sequence"):
                connection.execute(f'DROP {kind} IF EXISTS "{name}"')
        connection.execute(f"DELETE FROM {SqlEventLogStorageTable.name}")
        connection.execute("COMMIT")
        connection.execute("VACUUM")
    return size - path.stat().st_size


def finished_partitions(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: dg.DynamicPartitionsDefinition
) -> set[str]:
    """The partitions of an asset whose status is neither missing nor failed, as Dagster's UI shows it."""
    status = get_and_update_asset_status_cache_value(instance, asset, partitions)
    if status is None:
        return set()
    materialized = status.deserialize_materialized_partition_subsets(partitions)
    failed = status.deserialize_failed_partition_subsets(partitions)
    return set(materialized.get_partition_keys()) - set(failed.get_partition_keys())


def listen(instance: dg.DagsterInstance, run_id: str, callback: Callable[[dg.EventLogEntry], None]) -> None:
    """Call `callback` with each event of a run that this process executes."""
    instance.add_event_listener(run_id, callback)


def add_backfill(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    backfill: str,
    partitions: dg.DynamicPartitionsDefinition,
    target: Partitions,
    *,
    title: str,
    description: str,
) -> None:
    """Record a backfill whose runs the caller executes: Dagster's daemon requests none for it.

    Args:
        instance: the instance.
        defs: the code location.
        backfill: id; the runs have it in their tag BACKFILL_ID_TAG.
        partitions: the partitions of the assets.
        target: what the backfill materializes.
        title: for people, up to 100 characters.
        description: for people.
    """
    now = time.time()
    nothing = _subset(partitions, {})
    # All runs count as requested, so that a daemon only observes.
    data = AssetBackfillData.empty(_subset(partitions, target), now, instance)._replace(
        requested_runs_for_target_roots=True, requested_subset=_subset(partitions, target),
        materialized_subset=nothing, failed_and_downstream_subset=nothing,
    )  # fmt: skip
    record = PartitionBackfill(
        backfill, BulkActionStatus.REQUESTED, from_failure=False, tags={}, backfill_timestamp=now,
        asset_selection=list(target), title=title, description=description,
    )  # fmt: skip
    instance.add_backfill(record.with_asset_backfill_data(data, instance, defs.resolve_asset_graph()))


def update_backfill(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    backfill: str,
    partitions: dg.DynamicPartitionsDefinition,
    *,
    materialized: Partitions,
    failed: Partitions,
    status: Literal["REQUESTED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "CANCELED"],
) -> None:
    """Record how far a backfill of `add_backfill` is; a status other than REQUESTED ends it."""
    record, graph = instance.get_backfill(backfill), defs.resolve_asset_graph()
    if record is None:  # deleted meanwhile
        return
    data = record.get_asset_backfill_data(graph)._replace(
        materialized_subset=_subset(partitions, materialized), failed_and_downstream_subset=_subset(partitions, failed)
    )
    record = record.with_asset_backfill_data(data, instance, graph).with_status(BulkActionStatus(status))
    ended = record if status == "REQUESTED" else record.with_end_timestamp(time.time())
    instance.update_backfill(ended)


def cancel_is_requested(instance: dg.DagsterInstance, backfill: str) -> bool:
    """Whether somebody cancelled a backfill, as the button of Dagster's UI does."""
    record = instance.get_backfill(backfill)
    return record is not None and record.status in (BulkActionStatus.CANCELING, BulkActionStatus.CANCELED)


def _subset(partitions: dg.DynamicPartitionsDefinition, chosen: Partitions) -> AssetGraphSubset:
    subsets = {asset: partitions.subset_with_partition_keys(list(keys)) for asset, keys in chosen.items()}
    return AssetGraphSubset(partitions_subsets_by_asset_key=subsets)  # type: ignore[call-arg]
