"""The jobs: scene chains, discovery, registration, data preparation, catalog, inventory, and what has been replaced."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from darts_assets.orchestration.auxiliary.expire_job import expire_cube_history
from darts_assets.orchestration.collect_replaced import collect_replaced_versions
from darts_assets.orchestration.core.partitions import STEPS, SceneFamily
from darts_assets.orchestration.data_preparation.prepare_data import build_prepare_jobs
from darts_assets.orchestration.inventory import assets
from darts_assets.orchestration.inventory.chips_asset import CHIPS
from darts_assets.orchestration.inventory.review_report import REVIEW_REPORT
from darts_assets.orchestration.run_monitoring.prune_run_logs import prune_run_logs
from darts_assets.orchestration.scene_chain.release_tiles import release_tiles
from darts_assets.orchestration.scene_discovery.discover_scenes import discover_planet_images, discover_scenes
from darts_assets.orchestration.scene_discovery.registration import register_scenes
from darts_assets.settings_file import NO_FILE, SettingsFile

if TYPE_CHECKING:
    from darts_assets.orchestration.core.dagster_compat import UnresolvedAssetJobDefinition


def build_jobs(
    families: Iterable[SceneFamily], file: SettingsFile = NO_FILE
) -> "list[dg.JobDefinition | UnresolvedAssetJobDefinition]":
    """All jobs, with one chain per family; parameters in `file` are defaults of the jobs that prepare data."""
    return [
        *(_chain(family) for family in families),
        register_scenes,
        discover_scenes,
        discover_planet_images,
        *build_prepare_jobs(file),
        expire_cube_history,
        collect_replaced_versions,
        prune_run_logs,
        release_tiles,
        _publish_catalog(),
        _update_inventory(),
    ]


def _publish_catalog() -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        "publish_catalog",
        selection=dg.AssetSelection.assets(["catalog", "stac"], ["catalog", "detections"], ["catalog", "map"]),
        description="Updates the published catalog from the products of all scenes, and the map of the inventory.",
    )


def _update_inventory() -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        "update_inventory",
        selection=dg.AssetSelection.assets(assets.RTS, assets.SLUMPS, CHIPS, REVIEW_REPORT),
        partitions_def=assets.YEARS,
        description="Updates the inventory of a year from the polygons of all scenes, slumps, chips and report.",
    )


def _chain(family: SceneFamily) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        f"{family.name}_chain",
        selection=dg.AssetSelection.assets(*(family.key(step) for step in STEPS)),
        partitions_def=family.partitions,
        description="Processes one scene, from its item to its products.",
    )
