"""Backfills by the code of Dagster's daemon, but in this process: iteration after iteration, run after run."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration

from darts_assets.settings import Settings

LOCATION = """
from darts_assets.definitions import build_defs
from darts_assets.settings import Settings

defs = build_defs(Settings.model_validate_json({settings!r}))
"""

YAML = """
telemetry: {enabled: false}
run_launcher: {module: dagster._core.launcher.sync_in_memory_run_launcher, class: SyncInMemoryRunLauncher}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""
"""Of an instance whose runs are done when they are launched."""


def request_backfill(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph[Any],
    assets: Sequence[dg.AssetKey],
    partitions: Sequence[str],
    run_config: Mapping[str, Any] | None = None,
) -> PartitionBackfill:
    """Ask for a backfill as the UI does; a daemon, or `Backfills.iterate`, then launches its runs."""
    backfill = PartitionBackfill.from_asset_partitions(
        make_new_backfill_id(), graph, list(partitions), list(assets), time.time(), {}, instance,
        all_partitions=False, title=None, description=None, run_config=run_config,
    )  # fmt: skip
    instance.add_backfill(backfill)
    return backfill


@dataclass(frozen=True)
class Backfills:
    """Launches backfills of a site."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    @classmethod
    @contextmanager
    def at(cls, folder: Path, settings: Settings, instance: dg.DagsterInstance) -> "Iterator[Backfills]":
        """Of a code location that is made in a folder, by settings."""
        location = folder / "location.py"
        location.write_text(LOCATION.format(settings=settings.model_dump_json()))
        origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(location)))
        with create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget([origin]), instance) as workspace:
            yield cls(instance, workspace)

    def launch(
        self, assets: Sequence[dg.AssetKey], partitions: Sequence[str], run_config: dict | None = None
    ) -> PartitionBackfill:
        """Ask for a backfill; nothing of it is done yet."""
        graph = self.workspace.create_request_context().asset_graph
        return request_backfill(self.instance, graph, assets, partitions, run_config)

    def repeat(self, backfill: PartitionBackfill) -> PartitionBackfill:
        """What "re-execute from failure" in the UI asks for: all that a backfill has not materialized."""
        graph = self.workspace.create_request_context().asset_graph
        data = backfill.get_asset_backfill_data(graph)
        again = PartitionBackfill.from_asset_graph_subset(
            make_new_backfill_id(), time.time(), {}, self.instance, data.target_subset - data.materialized_subset,
            title=None, description=None, run_config=backfill.run_config,
        )  # fmt: skip
        self.instance.add_backfill(again)
        return again

    def resume(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """A failed run again, from where it failed."""
        context = self.workspace.create_request_context()
        (location,) = context.code_locations
        (repository,) = location.get_repositories().values()
        job = location.get_job(
            JobSubsetSelector(
                location_name=location.name, repository_name=repository.name, job_name=run.job_name, op_selection=None,
                asset_selection=list(run.asset_selection),
            )
        )  # fmt: skip
        made = self.instance.create_reexecuted_run(
            parent_run=run, request_context=context, code_location=location, remote_job=job,
            strategy=ReexecutionStrategy.FROM_FAILURE, use_parent_run_tags=True,
        )  # fmt: skip
        self.instance.submit_run(made.run_id, context)
        return self.instance.get_run_by_id(made.run_id)

    def iterate(self) -> None:
        """What the daemon does every some seconds."""
        for error in execute_backfill_iteration(self.workspace, logging.getLogger("backfills")):
            assert error is None, error

    def finished(self, backfill: PartitionBackfill) -> PartitionBackfill:
        """The backfill when it is over."""
        for _ in range(20):
            self.iterate()
            now = self.instance.get_backfill(backfill.backfill_id)
            if now.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING):
                return now
        raise AssertionError("the backfill does not come to an end")

    def materialized(self, backfill: PartitionBackfill, asset: dg.AssetKey) -> set[str]:
        """Partitions that the backfill shows as materialized."""
        return self._partitions(backfill, "materialized_subset", asset)

    def failed(self, backfill: PartitionBackfill, asset: dg.AssetKey) -> set[str]:
        """Partitions that the backfill shows as failed, or downstream of such."""
        return self._partitions(backfill, "failed_and_downstream_subset", asset)

    def runs(self, backfill: PartitionBackfill) -> list[dg.DagsterRun]:
        """Runs of the backfill, in the order in which they were launched."""
        runs = self.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}))
        return list(reversed(runs))

    def _partitions(self, backfill: PartitionBackfill, subset: str, asset: dg.AssetKey) -> set[str]:
        graph = self.workspace.create_request_context().asset_graph
        data = self.instance.get_backfill(backfill.backfill_id).get_asset_backfill_data(graph)
        return {
            each.partition_key for each in getattr(data, subset).iterate_asset_partitions() if each.asset_key == asset
        }
