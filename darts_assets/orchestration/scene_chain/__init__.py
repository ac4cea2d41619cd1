"""The scene chain: one module per step, with the asset and its checks.

Checks read manifests (with statistics of every band) and tables, never pixels. A blocking check stops the downstream
steps of the same run.
"""

from collections.abc import Mapping
from types import MappingProxyType

import dagster as dg

from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.scene_chain.auxiliary import AuxiliaryConfig, build_auxiliary
from darts_assets.orchestration.scene_chain.polygons import PolygonsConfig, build_polygon_checks, build_polygons
from darts_assets.orchestration.scene_chain.preprocessed_tile import (
    PreprocessConfig,
    build_preprocessed_tile,
    build_tile_checks,
)
from darts_assets.orchestration.scene_chain.products import ProductsConfig, build_products
from darts_assets.orchestration.scene_chain.raw_scene import RawSceneConfig, build_raw_scene, build_raw_scene_checks
from darts_assets.orchestration.scene_chain.segmentation import (
    SegmentationConfig,
    build_segmentation,
    build_segmentation_checks,
)
from darts_assets.settings_file import NO_FILE, SettingsFile

CONFIGS: Mapping[str, type[dg.Config]] = MappingProxyType(
    {
        "raw_scene": RawSceneConfig,
        "auxiliary": AuxiliaryConfig,
        "preprocessed_tile": PreprocessConfig,
        "segmentation": SegmentationConfig,
        "polygons": PolygonsConfig,
        "products": ProductsConfig,
    }
)
"""The config of each step, with the defaults of the package."""


SCENES_PER_RUN: Mapping[str, int] = MappingProxyType({"segmentation": 1, "polygons": 2, "products": 4})
"""Step -> scenes of a run of a backfill, in multiples of the setting `scenes_per_run`."""


def build_chain(
    family: SceneFamily, scenes_per_run: int = 1, file: SettingsFile = NO_FILE
) -> list[dg.AssetsDefinition]:
    """raw_scene -> auxiliary -> preprocessed_tile -> segmentation -> polygons -> products, one partition per scene.

    A run of a backfill takes one scene up to `preprocessed_tile`. A run of `segmentation` takes up to `scenes_per_run`,
    one of `polygons`, whose scenes take seconds, twice and one of `products` four times as many. With one, a run takes
    all steps of a scene. The parameters in `file` are the defaults of the steps' config.

    Raises:
        SettingsError: for unknown parameters and invalid values in the file.
    """
    # Steps with equal policies would share runs, in which a failed scene stops the next step of all scenes.
    most = {step: factor * scenes_per_run if scenes_per_run > 1 else 1 for step, factor in SCENES_PER_RUN.items()}
    return [
        build_raw_scene(family, file),
        build_auxiliary(family, file),
        build_preprocessed_tile(family, file),
        build_segmentation(family, most["segmentation"], file),
        build_polygons(family, most["polygons"], file),
        build_products(family, most["products"], file),
    ]


def build_checks(family: SceneFamily) -> list[dg.AssetChecksDefinition]:
    """The checks of a family's chain; one Dagster step evaluates all checks of an asset."""
    return [
        build_raw_scene_checks(family),
        build_tile_checks(family),
        build_segmentation_checks(family),
        build_polygon_checks(family),
    ]
