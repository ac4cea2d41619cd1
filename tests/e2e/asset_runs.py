"""One asset of ours in a run of its own, in this process, with the resources that settings give."""

import logging
from collections.abc import Sequence
from typing import Any

import dagster as dg

from darts_assets.definitions import build_defs
from darts_assets.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(
    settings: Settings, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None, **config: Any
) -> dg.ExecuteInProcessResult:
    return _run(settings, instance, [key], partition, {"__".join(key.path): {"config": config}})


def run_steps(
    settings: Settings, instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], partition: str
) -> dg.ExecuteInProcessResult:
    """Several assets of a partition in one run, with the config that they have by default."""
    return _run(settings, instance, keys, partition, {})


def _run(
    settings: Settings, instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], partition: str | None, ops: Any
) -> dg.ExecuteInProcessResult:
    defs = build_defs(settings)
    return dg.materialize(
        [asset for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition)],
        selection=list(keys), partition_key=partition, instance=instance, resources=defs.resources,
        run_config={**QUIET, "ops": ops}, raise_on_error=False,
    )  # fmt: skip


def said(
    settings: Settings, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None, **config: Any
) -> dict[str, Any]:
    """The metadata of the materialization; an asset that fails fails the test."""
    result = run(settings, instance, key, partition, **config)
    assert result.success, failure(result)
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The sentence that the step failed with."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    return str(data.user_failure_data.description if data.user_failure_data else data.error)


def warnings(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    return [log.user_message for log in instance.all_logs(result.run_id) if log.level == logging.WARNING]
