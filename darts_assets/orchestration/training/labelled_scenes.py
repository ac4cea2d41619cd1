"""Asset `training/scenes`: registers a scientist's own Sentinel-2 scenes, STAC items or GeoTIFFs, as partitions."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_discovery.registration import register_stac_items
from darts_assets.orchestration.training.common import MAX_ROWS, SCENES, training_asset

CODE_VERSION = "1"


class ScenesConfig(StepConfig):
    """The scenes that are labelled."""

    images: list[str] = Field(
        min_length=1,
        description="STAC items, SAFE products or GeoTIFFs (uint16, reflectance x 10,000, with the date in the name): "
        "paths, URLs, or folders of them.",
    )
    bands: list[str] = Field(
        [],
        description='Names of the bands of GeoTIFFs in their order, such as blue, green, red, nir; "" for unused '
        "ones. Empty: from the descriptions in the file, or those four of a file with four bands.",
    )
    offset: float = Field(
        0.0, description="Reflectance of digital number 0 of GeoTIFFs; -0.1 for values with ESA's offset of 1000."
    )


def build_training_scenes() -> list[dg.AssetsDefinition]:
    """The asset that registers labelled scenes."""
    return [_scenes]


@dg.asset(
    **training_asset(SCENES, "matches"),
    kinds={"json"},
    code_version=CODE_VERSION,
    description="Registers Sentinel-2 scenes that you have labelled: STAC items, or GeoTIFFs.",
)
@measured
def _scenes(
    context: dg.AssetExecutionContext, config: ScenesConfig, scenes: SceneRegistry
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.errors import SceneError
        from darts_assets.sources.stac.raster_item import items_at

        def items() -> Iterator[dict[str, Any]]:
            for location in config.images:
                yield from items_at(location, config.bands, scenes.access.options, offset=config.offset)

        registered = register_stac_items(context.instance, scenes, SENTINEL2, items(), log=context.log.info)
        if registered.unusable:
            raise SceneError("; ".join(list(registered.unusable.values())[:MAX_ROWS]))
    facts = provenance(CODE_VERSION, config.model_dump(), scenes=" ".join(registered.scene_ids))
    metadata = {"scenes": registered.scene_ids[:MAX_ROWS], "new": len(registered.new)}
    return materialize_result(metadata, facts)
