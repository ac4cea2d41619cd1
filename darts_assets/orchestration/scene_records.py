"""What Dagster knows of raw scenes that a job has fetched for many partitions: the same as if each had had its run."""

from collections.abc import Collection

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
)

from darts_assets.orchestration.assets.raw_scene import CODE_VERSION, RawSceneConfig, keep_raw_scene
from darts_assets.orchestration.metadata import as_metadata
from darts_assets.orchestration.partitions import SceneFamily
from darts_assets.orchestration.resources import RawScenes, SceneRegistry


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
    scene = scenes.scene(family, scene_id)
    kept = keep_raw_scene(family, scene, config, raw=raw, needed=needed, log=context.log.info)
    if kept.fetched or (raw.enabled and scene_id not in recorded):
        versions = {
            DATA_VERSION_TAG: kept.data_version,
            DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
            CODE_VERSION_TAG: CODE_VERSION,
        }
        context.log_event(
            dg.AssetMaterialization(
                family.key("raw_scene"), partition=scene_id, metadata=as_metadata(kept.metadata), tags=versions
            )
        )
    return kept.fetched
