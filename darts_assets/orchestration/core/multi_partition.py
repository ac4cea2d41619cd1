"""Steps that process several partitions: each is recorded once done, and a failed one does not stop the others."""

import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import (
    RESUME_RETRY_TAG,
    data_version_tags,
    input_version_tags,
    latest_materialization,
    logged_events,
    planned_partitions,
)
from darts_assets.orchestration.core.dynamic_partitions import registered
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import without_pictures
from darts_assets.orchestration.core.pod_resources import MAX_SOURCE_RETRIES
from darts_assets.orchestration.core.step_metrics import Meter, with_costs
from darts_assets.redaction import shown

_SHOWN = 200  # characters of a partition key in messages

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Result = dg.MaterializeResult[None]

# Dagster warns when jobs are resolved. Jobs of a chain take one scene per run on purpose.
warnings.filterwarnings("ignore", "Asset job .* materializes assets with varying BackfillPolicies")


@contextmanager
def beta_policies() -> Iterator[None]:
    """Suppresses the warning that backfill policies are in beta; tests cover them and Dagster 1.13 is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def partitions_per_run(most: int) -> dg.BackfillPolicy | None:
    """The backfill policy of an asset whose runs take up to `most` partitions, adjacent in order of registration.

    None for one: with a policy, Dagster tags a run with a range of partitions, which sensors cannot look up by key; and
    assets without a policy share one run per scene.
    """
    return dg.BackfillPolicy.multi_run(most) if most > 1 else None


def has_one_partition(context: Context) -> bool:
    """Whether a run was created for one partition."""
    return context.partition_key_range.start == context.partition_key_range.end


def partitions_of_run(
    context: Context, asset: dg.AssetKey, partitions: dg.DynamicPartitionsDefinition
) -> tuple[list[str], list[str]]:
    """The partitions for which a run was created: those that exist, and those that were deleted since then."""
    planned = set() if has_one_partition(context) else planned_partitions(context.instance, context.run, asset)
    if not planned:
        return list(context.partition_keys), []
    existing = registered(context.instance, partitions, planned)
    return sorted(existing), sorted(planned - existing)


class Failures:
    """Failures of single items in a step that continues with the others.

    Attributes:
        messages: failed item -> error message.
    """

    def __init__(self, context: Context) -> None:
        self.messages: dict[str, str] = {}
        self._context = context
        self._transient: list[dg.RetryRequested] = []

    @contextmanager
    def of(self, item: str) -> Iterator[None]:
        """Records a failure of `item`, and whether it can be retried, so that the step continues."""
        try:
            with domain_call(self._context.log):
                yield
        except dg.Failure as failure:
            self._record(item, str(failure.description))
        except dg.RetryRequested as request:
            self._transient.append(request)
            self._record(item, f"{type(request.__cause__).__name__}: {request.__cause__}")
        except Exception as error:
            self._context.log.error(f"{item}: unexpected error (please report it)\n{shown(traceback.format_exc())}")
            self._record(item, shown(f"{type(error).__name__}: {error}"))

    def deleted(self, partitions: Iterable[str]) -> None:
        """Records partitions that were deleted after the run was created."""
        for partition in partitions:
            self._record(partition, "not processed: its partition was deleted after the run was launched")

    def retry_transient(self) -> None:
        """End the step for a retry if a failure was transient and retries are left."""
        if self._transient and self._context.retry_number < MAX_SOURCE_RETRIES:
            raise self._transient[0]

    def end(self) -> None:
        """End the step if an item failed.

        Raises:
            dg.RetryRequested: if a failure was transient and retries are left.
            dg.Failure: otherwise, with the message of every failed item.
        """
        self.retry_transient()
        if self.messages:
            raise dg.Failure(
                "; ".join(f"{item[:_SHOWN]}: {message}" for item, message in self.messages.items()),
                metadata={"failed": dg.MetadataValue.json(self.messages)},
                allow_retries=False,
            )

    def _record(self, item: str, message: str) -> None:
        self.messages[item] = message
        self._context.log.error(f"{item[:_SHOWN]}: {message}")


def materialize_each(
    context: dg.AssetExecutionContext, make: Callable[[str], Result]
) -> Iterator[Result | dg.AssetMaterialization | dg.DagsterEvent]:
    """Make and record the partitions of the run, one after the other.

    A run of one partition yields an output, so that downstream steps continue. A run of several yields none, because
    Dagster has one output for all of them. It takes exactly the partitions for which it was created. Partitions that an
    earlier attempt of the step or of the run has recorded are skipped.

    Args:
        context: the step's context; its asset must set `output_required=False`.
        make: makes a partition and returns its metadata and data version.

    Raises:
        dg.RetryRequested: if a failure was transient and retries are left.
        dg.Failure: otherwise, with the message of every failed or deleted partition.
    """
    if has_one_partition(context):
        with domain_call(context.log):
            result = _measured(make, context.partition_key_range.start)
        yield result._replace(metadata=without_pictures(context, result.metadata or {}))
        return
    failures, attempts = Failures(context), _attempts(context)
    definition = cast("dg.DynamicPartitionsDefinition", context.assets_def.partitions_def)
    partitions, deleted = partitions_of_run(context, context.asset_key, definition)
    failures.deleted(deleted)
    for number, partition in enumerate(partitions, 1):
        if recorded_by(context.instance, context.asset_key, partition) in attempts:
            context.log.info(f"{partition}: {number} of {len(partitions)}, recorded by an earlier attempt")
            continue
        context.log.info(f"{partition}: {number} of {len(partitions)}")
        record = None
        with failures.of(partition):
            parents = context.assets_def.asset_deps[context.asset_key]
            inputs = input_version_tags(context.instance, parents, partition)
            record = _materialization(context, partition, _measured(make, partition), inputs)
        yield from logged_events(context)
        if record is not None:
            yield record
    failures.end()


def recorded_by(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> str | None:
    """The id of the run that last materialized a partition."""
    record = latest_materialization(instance, asset, partition)
    return record.run_id if record else None


def _measured(make: Callable[[str], Result], partition: str) -> Result:
    """The result with its costs in the metadata."""
    meter = Meter()
    result = make(partition)
    return result._replace(metadata=with_costs(result.metadata or {}, meter))


def _attempts(context: dg.AssetExecutionContext) -> set[str]:
    """Ids of this run and of the failed runs that it resumes."""
    runs = {context.run_id}
    if RESUME_RETRY_TAG in context.run.tags:
        group = context.instance.get_run_group(context.run_id)
        runs |= {run.run_id for run in group[1]} if group else set()
    return runs


def _materialization(
    context: dg.AssetExecutionContext, partition: str, result: Result, inputs: dict[str, str]
) -> dg.AssetMaterialization:
    """The record that Dagster would write for an output."""
    if result.data_version is None:
        raise TypeError(f"{partition}: the result has no data version")
    code_version = context.assets_def.code_versions_by_key[context.asset_key]
    tags = {**data_version_tags(result.data_version.value, code_version), **inputs, **(result.tags or {})}
    return dg.AssetMaterialization(context.asset_key, partition=partition, metadata=result.metadata, tags=tags)
