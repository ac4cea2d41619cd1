"""A user's site and its runs, as the tests of the chain use them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from darts_assets.bands import AuxiliaryLayer
from darts_assets.definitions import build_defs
from darts_assets.demo import DEMO_CHECKPOINT, World
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SENTINEL2, STEPS, SceneFamily
from darts_assets.orchestration.scene_discovery.registration import register_items
from darts_assets.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

DEMO_MODEL = f"demo={DEMO_CHECKPOINT}"
"""What `DARTS_MODELS` is set to where the demo model segments scenes outside of a demo."""

SMALL_PATCHES = {"patch_size": 256, "overlap": 64}


@dataclass
class Site:
    """A user's site: settings, code location and instance; and the family of the scenes that it works on."""

    folder: Path
    settings: Settings
    instance: dg.DagsterInstance
    family: SceneFamily = SENTINEL2

    @property
    def defs(self) -> dg.Definitions:
        return build_defs(self.settings)

    def resource(self, name: str) -> Any:
        return (self.defs.resources or {})[name]

    def place(self, *parts: str) -> Any:
        return self.resource("store").place(*parts)

    def using(self, **settings: Any) -> "Site":
        """The same site with other settings."""
        return replace(self, settings=self.settings.model_copy(update=settings))

    def register(self, *items: Path | str) -> list[str]:
        return register_items(self.instance, self.resource("scenes"), self.family, [str(item) for item in items])

    def run(self, scene: str, *steps: str, **config: Mapping[str, Any]) -> dg.ExecuteInProcessResult:
        """Materialize steps (all of the chain by default) of one scene; `config` by step.

        Patches are small by default: the model then sees 300 px, not a reflection of them up to 1024.
        """
        chosen = set(steps or STEPS)
        config = {"segmentation": SMALL_PATCHES, **config}
        selection = dg.AssetSelection.assets(*(self.family.key(step) for step in steps or STEPS))
        job = dg.define_asset_job("some_steps", selection, partitions_def=self.family.partitions)
        defs = self.defs
        resolved = dg.Definitions(
            defs.assets, jobs=[job], resources=defs.resources, executor=defs.executor, asset_checks=defs.asset_checks
        ).resolve_job_def("some_steps")
        ops = {
            f"{self.family.name}__{step}": {"config": dict(values)} for step, values in config.items() if step in chosen
        }
        return resolved.execute_in_process(
            instance=self.instance, partition_key=scene, run_config={**QUIET, "ops": ops}, raise_on_error=False
        )

    def run_job(self, name: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Run a job; `config` is that of its first op."""
        return self.defs.resolve_job_def(name).execute_in_process(
            instance=self.instance, run_config={**QUIET, "ops": {op: {"config": config}}}, raise_on_error=False
        )

    def prepare(self, **config: Any) -> dg.ExecuteInProcessResult:
        """Run `prepare_auxiliary`."""
        return self.run_job("prepare_auxiliary", "choose_chunks", **config)

    def materialize_chunks(
        self, layer: AuxiliaryLayer, first: str, last: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize a chunk, or the chunks registered from the first to the last of a range in one run."""
        (asset,) = [a for a in self.defs.assets or [] if CHUNK_KEYS[layer] in a.keys]
        ends = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return dg.materialize(
            [asset], instance=self.instance, resources=self.defs.resources, run_config=QUIET, raise_on_error=False,
            **({"tags": ends} if last else {"partition_key": first}),
        )  # fmt: skip

    def materialized(self, step: str) -> set[str]:
        return self.instance.get_materialized_partitions(self.family.key(step))

    def chunks(self, layer: AuxiliaryLayer) -> set[str]:
        """The chunks that Dagster calls materialized."""
        return self.instance.get_materialized_partitions(CHUNK_KEYS[layer])

    def recorded(self, result: dg.ExecuteInProcessResult, layer: AuxiliaryLayer) -> dict[str, dict[str, Any]]:
        """Metadata of the chunks that a run has recorded, by their keys; also of a run that failed then."""
        logs = self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        events = [log.dagster_event for log in logs if log.dagster_event.asset_key == CHUNK_KEYS[layer]]
        return {e.partition: {name: v.value for name, v in e.materialization.metadata.items()} for e in events}

    def load(self, step: str, scene: str) -> Any:
        return self.defs.load_asset_value(self.family.key(step), partition_key=scene, instance=self.instance)


def prepare_auxiliary() -> dg.JobDefinition:
    """The job at the site that the environment names, as Dagster loads it for re-execution."""
    return build_defs(Settings()).resolve_job_def("prepare_auxiliary")


def reason(result: dg.ExecuteInProcessResult) -> str:
    """Why the (one) step failed, as a user reads it."""
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data
    return data.user_failure_data.description if data.user_failure_data else str(data.error)


def said(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the step of a job that finds scenes tells, also where it fails at its end."""
    if result.success:
        (event,) = [event for event in result.all_events if event.is_successful_output]
        metadata = event.step_output_data.metadata
    else:
        (event,) = [event for event in result.all_events if event.is_step_failure]
        metadata = event.step_failure_data.user_failure_data.metadata
    tables = {name: value for name, value in metadata.items() if isinstance(value, dg.TableMetadataValue)}
    rows = {name: [dict(record.data) for record in table.records] for name, table in tables.items()}
    return {"scenes": []} | {name: value.value for name, value in metadata.items() if name not in tables} | rows


def metadata_of(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    """Metadata of the materialization of a step of one chain."""
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == step]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def summary(result: dg.ExecuteInProcessResult, op: str = "sum_up") -> dict[str, dict[str, Any]]:
    """The rows of the table that a step of `prepare_auxiliary` ends with, by cube."""
    (table,) = [
        event.step_output_data.metadata["chunks"]
        for event in result.all_events
        if event.is_successful_output and event.step_key == op and "chunks" in event.step_output_data.metadata
    ]
    return {record.data["cube"]: dict(record.data) for record in table.records}


def repeated_items(world: World, folder: Path, number: int) -> list[Path]:
    """The two scenes of a world, again and again under other names."""
    folder.mkdir()
    made = []
    for index in range(number):
        source = world.items[index % 2]
        item = json.loads(source.read_text())
        item["id"] = f"{item['id'][:-6]}{index:06d}"
        for asset in item["assets"].values():
            asset["href"] = str(source.parent / asset["href"])
        made.append(folder / f"{item['id']}.json")
        made[-1].write_text(json.dumps(item))
    return made
