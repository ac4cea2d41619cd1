"""Checks of what the steps of a chain have made, each scene for itself.

They read manifests, which carry statistics of every band, and tables; never pixels. One step of Dagster evaluates all
checks of an asset. Where going on would be wrong a check blocks: the steps downstream in the same run do not start.
"""

import dagster as dg

from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.scene_chain.checks.polygon_checks import build_polygon_checks
from darts_assets.orchestration.scene_chain.checks.raw_scene_checks import build_raw_scene_checks
from darts_assets.orchestration.scene_chain.checks.segmentation_checks import build_segmentation_checks
from darts_assets.orchestration.scene_chain.checks.tile_checks import build_tile_checks


def build_checks(family: SceneFamily) -> list[dg.AssetChecksDefinition]:
    """The checks of a family's chain."""
    return [
        build_raw_scene_checks(family),
        build_tile_checks(family),
        build_segmentation_checks(family),
        build_polygon_checks(family),
    ]
