"""The registry of work: which partitions there are, and what has become of them, asked for some of them.

Dagster's own functions give all partitions, of which there may be a hundred thousand; here the database looks for those
that somebody wants to know of.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

PARTITION_TAG = "dagster/partition"

_ASKED_AT_ONCE = 1000
_ADDED_AT_ONCE = 5000


def register(
    instance: dg.DagsterInstance,
    partitions: dg.DynamicPartitionsDefinition,
    keys: Iterable[str],
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Add partitions, many in a transaction, and tell `progress` how many; those that are there stay as they are."""
    done = 0
    for some in _groups(keys, _ADDED_AT_ONCE):
        instance.add_dynamic_partitions(_name(partitions), some)
        done += len(some)
        progress(done)


def registered(
    instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, keys: Iterable[str]
) -> set[str]:
    """Those of `keys` that are partitions."""
    from dagster._core.storage.event_log.schema import DynamicPartitionsTable as Table

    found = set[str]()
    for some in _groups(keys, _ASKED_AT_ONCE):
        found.update(_select(instance, partitions, Table.c.partition.in_(some)))
    return found


def registered_with(
    instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, texts: Iterable[str]
) -> list[str]:
    """The partitions whose keys contain one of `texts`, in the order of their registration."""
    from dagster._core.storage.event_log.schema import DynamicPartitionsTable as Table
    from sqlalchemy import or_

    wanted = [Table.c.partition.contains(text, autoescape=True) for text in texts]
    return _select(instance, partitions, or_(*wanted)) if wanted else []


def materialized(instance: dg.DagsterInstance, asset: dg.AssetKey, keys: Iterable[str]) -> set[str]:
    """Those of `keys` that were materialized."""
    storage, materialization = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    found = set[str]()
    for some in _groups(keys, _ASKED_AT_ONCE):
        found.update(storage.get_latest_storage_id_by_partition(asset, materialization, set(some)))
    return found


def with_runs(instance: dg.DagsterInstance, keys: Iterable[str]) -> set[str]:
    """Those of `keys` that have a run of their own, whatever it does."""
    found = set[str]()
    for some in _groups(keys, _ASKED_AT_ONCE):
        runs = instance.get_run_partition_data(dg.RunsFilter(tags={PARTITION_TAG: some}))
        found.update(run.partition for run in runs)
    return found


def _select(
    instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, where: "ColumnElement[bool]"
) -> list[str]:
    from dagster._core.storage.event_log.schema import DynamicPartitionsTable as Table
    from sqlalchemy import select

    storage: Any = instance.event_log_storage  # of whatever database: all of Dagster's are SQL
    connection: AbstractContextManager[Connection] = storage.index_connection()
    query = select(Table.c.partition).where(Table.c.partitions_def_name == _name(partitions), where)
    with connection as open_connection:
        return list(open_connection.scalars(query.order_by(Table.c.id)))


def _name(partitions: dg.DynamicPartitionsDefinition) -> str:
    return str(partitions.name)


def _groups(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(itertools.islice(rest, size)):
        yield some
