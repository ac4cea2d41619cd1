"""The scene chain: one module per step, with the asset and its checks.

Checks read manifests (with statistics of every band) and tables, never pixels. A blocking check stops the downstream
steps of the same run.
"""

import dagster as dg

from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.scene_chain.auxiliary import build_auxiliary
from darts_assets.orchestration.scene_chain.polygons import build_polygon_checks, build_polygons
from darts_assets.orchestration.scene_chain.preprocessed_tile import build_preprocessed_tile, build_tile_checks
from darts_assets.orchestration.scene_chain.products import build_products
from darts_assets.orchestration.scene_chain.raw_scene import build_raw_scene, build_raw_scene_checks
from darts_assets.orchestration.scene_chain.segmentation import build_segmentation, build_segmentation_checks


def build_chain(family: SceneFamily, scenes_per_run: int = 1) -> list[dg.AssetsDefinition]:
    """raw_scene -> auxiliary -> preprocessed_tile -> segmentation -> polygons -> products, one partition per scene.

    A run of a backfill takes one scene; a run of `segmentation` takes up to `scenes_per_run`.
    """
    return [
        build_raw_scene(family),
        build_auxiliary(family),
        build_preprocessed_tile(family),
        build_segmentation(family, scenes_per_run),
        build_polygons(family),
        build_products(family),
    ]


def build_checks(family: SceneFamily) -> list[dg.AssetChecksDefinition]:
    """The checks of a family's chain; one Dagster step evaluates all checks of an asset."""
    return [
        build_raw_scene_checks(family),
        build_tile_checks(family),
        build_segmentation_checks(family),
        build_polygon_checks(family),
    ]
