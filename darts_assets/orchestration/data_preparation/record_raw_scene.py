"""What Dagster knows of raw scenes that a job has fetched for many partitions: the same as if each had had its run."""

from collections.abc import Collection

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import data_version_tags
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_metrics import Meter, versions
from darts_assets.orchestration.scene_chain.raw_scene import CODE_VERSION, RawSceneConfig, keep_raw_scene


def fetch_and_record(
    context: dg.OpExecutionContext,
    family: SceneFamily,
    scene_id: str,
    config: RawSceneConfig,
    *,
    scenes: SceneRegistry,
    raw: RawScenes,
    needed: Collection[str],
    recorded: Collection[str],
) -> list[str]:
    """Fetch the bands of a scene that are missing, and record the scene as materialized.

    Args:
        context: of the step.
        family: of the scene.
        scene_id: of a registered scene.
        config: as of the asset `raw_scene`.
        scenes: where its item is.
        raw: where raw scenes are kept.
        needed: canonical names of the bands that the models need.
        recorded: scenes that Dagster knows to be materialized; they are recorded again if something was fetched.

    Returns:
        The bands that were fetched.

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: from the scene's source.
    """
    meter = Meter()
    scene = scenes.scene(family, scene_id)
    kept = keep_raw_scene(family, scene, config, raw=raw, needed=needed, log=context.log.info)
    if kept.fetched or (raw.enabled and scene_id not in recorded):
        tags = data_version_tags(kept.data_version, CODE_VERSION)
        said = as_metadata({**kept.metadata, "config": config.model_dump(), "versions": versions(), **meter.costs()})
        context.log_event(
            dg.AssetMaterialization(family.key("raw_scene"), partition=scene_id, metadata=said, tags=tags)
        )
    return kept.fetched
