"""Steps that take several partitions in one run: one that fails does not take its neighbours with it.

Each is recorded as soon as it is done, and as if it had had a run of its own; at the end the step fails if one has.
"""

import hashlib
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.storage.tags import RESUME_RETRY_TAG

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import MAX_SOURCE_RETRIES
from darts_assets.orchestration.core.step_metrics import Meter, versions

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Done = dg.MaterializeResult[None]

# Told when jobs are resolved, long after they were built. That jobs of chains take a scene per run is as it should be.
warnings.filterwarnings("ignore", "Asset job .* materializes assets with varying BackfillPolicies")


@contextmanager
def beta_policies() -> Iterator[None]:
    """Without Dagster's warning that policies are beta: they were tried, and are pinned with Dagster 1.13."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def partitions_per_run(most: int) -> dg.BackfillPolicy | None:
    """The policy of an asset whose backfills take up to so many partitions in a run, neighbours in their registration.

    For one, none: Dagster then tags a run with its partition (policies make it tag a range, which sensors would have to
    look up), and steps without a policy share a scene's run.
    """
    return dg.BackfillPolicy.multi_run(most) if most > 1 else None


class Failures:
    """What went wrong in a step that goes on with the rest.

    Attributes:
        said: what failed -> why.
    """

    def __init__(self, context: Context) -> None:
        self.said: dict[str, str] = {}
        self._context = context
        self._passing: list[dg.RetryRequested] = []

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Notes a failure by its sentence, and whether it may pass, instead of ending the step."""
        try:
            with domain_call(self._context.log):
                yield
        except dg.Failure as failure:
            self._note(what, str(failure.description))
        except dg.RetryRequested as request:
            self._passing.append(request)
            self._note(what, f"{type(request.__cause__).__name__}: {request.__cause__}")
        except Exception as error:
            self._context.log.error(f"{what}: an error that nobody foresaw\n{traceback.format_exc()}")
            self._note(what, f"{type(error).__name__}: {error}")

    def try_again(self) -> None:
        """End the step, to be repeated, if something failed that may pass and it was not repeated too often."""
        if self._passing and self._context.retry_number < MAX_SOURCE_RETRIES:
            raise self._passing[0]

    def end(self) -> None:
        """End the step, if something failed.

        Raises:
            dg.RetryRequested: if it may pass.
            dg.Failure: naming all that failed, and why.
        """
        self.try_again()
        if self.said:
            raise dg.Failure(
                "; ".join(f"{what}: {why}" for what, why in self.said.items()),
                metadata={"failed": dg.MetadataValue.json(self.said)},
                allow_retries=False,
            )

    def _note(self, what: str, sentence: str) -> None:
        self.said[what] = sentence
        self._context.log.error(f"{what}: {sentence}")


def one_by_one(
    context: dg.AssetExecutionContext, make: Callable[[str], Done]
) -> Iterator[Done | dg.AssetMaterialization]:
    """Make the partitions of the run, one after the other, and record each.

    A run of one partition ends with an output, and the steps downstream of it go on. A run of several does not: Dagster
    has one output for all of them. When such a step is repeated, or its run from where it failed, what was recorded
    is left alone.

    Args:
        context: of the step; its asset must not require an output.
        make: makes a partition; with its metadata and data version.

    Raises:
        dg.RetryRequested: if something failed that may pass.
        dg.Failure: naming all partitions that failed, and why.
    """
    partitions = context.partition_keys
    if len(partitions) == 1:
        with domain_call(context.log):
            result = _measured(make, partitions[0])
        yield result
        return
    failures, earlier = Failures(context), _attempts(context)
    for number, partition in enumerate(partitions, 1):
        if recorded_by(context.instance, context.asset_key, partition) in earlier:
            context.log.info(f"{partition}: {number} of {len(partitions)}, recorded by an earlier attempt")
            continue
        context.log.info(f"{partition}: {number} of {len(partitions)}")
        record = None
        with failures.of(partition):
            inputs = _input_tags(context, partition)
            record = _materialization(context, partition, _measured(make, partition), inputs)
        if record is not None:
            yield record
    failures.end()


def recorded_by(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> str | None:
    """The run that has materialized a partition last."""
    record = _latest(instance, asset, partition)
    return record.run_id if record else None


def version_tags(data_version: str, code_version: str | None) -> dict[str, str]:
    """Tags by which Dagster knows the version of a materialization; it gives them itself to outputs only."""
    code = {CODE_VERSION_TAG: code_version} if code_version else {}
    return {DATA_VERSION_TAG: data_version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true", **code}


def _measured(make: Callable[[str], Done], partition: str) -> Done:
    """What is made, with its costs in the metadata."""
    meter = Meter()
    result = make(partition)
    own = result.metadata or {}
    return result._replace(metadata={**own, **as_metadata({"versions": versions(), **meter.costs()}), **own})


def _attempts(context: dg.AssetExecutionContext) -> set[str]:
    """This run (an attempt at its step may have come before), and those that it repeats from where they failed."""
    runs = {context.run_id}
    if RESUME_RETRY_TAG in context.run.tags:
        group = context.instance.get_run_group(context.run_id)
        runs |= {run.run_id for run in group[1]} if group else set()
    return runs


def _materialization(
    context: dg.AssetExecutionContext, partition: str, result: Done, inputs: Mapping[str, str]
) -> dg.AssetMaterialization:
    """What Dagster would have recorded of an output."""
    if result.data_version is None:
        raise TypeError(f"{partition}: a data version was expected")
    code_version = context.assets_def.code_versions_by_key[context.asset_key]
    tags = version_tags(result.data_version.value, code_version)
    return dg.AssetMaterialization(
        context.asset_key, partition=partition, metadata=result.metadata, tags={**tags, **inputs, **(result.tags or {})}
    )


def _input_tags(context: dg.AssetExecutionContext, partition: str) -> dict[str, str]:
    """From which versions a partition is made: by these tags, Dagster finds out that it is stale.

    As Dagster itself writes them: a hash over the versions of all partitions of the input that are read (here one), and
    the number of the input's latest event.
    """
    tags = {}
    for parent in context.assets_def.asset_deps[context.asset_key]:
        newest, own = (_latest(context.instance, parent, key) for key in (None, partition))
        tags_of_input = (own and own.asset_materialization and own.asset_materialization.tags) or {}
        version = tags_of_input.get(DATA_VERSION_TAG, "")
        known = hashlib.sha256(version.encode()).hexdigest() if newest else DEFAULT_DATA_VERSION.value
        tags[get_input_data_version_tag(parent)] = known
        tags[get_input_event_pointer_tag(parent)] = str(newest.storage_id) if newest else NULL_EVENT_POINTER
    return tags


def _latest(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None) -> dg.EventLogRecord | None:
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=None if partition is None else [partition])
    return next(iter(instance.fetch_materializations(wanted, limit=1).records), None)
