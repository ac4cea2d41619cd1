"""Checks of `raw_scene`: all bands, on one grid, with data in them."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.orchestration.core.models import Models
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.raw_scene_store import RawScenes, quality_bands
from darts_assets.orchestration.core.scene_registry import SceneRegistry
from darts_assets.orchestration.scene_chain.checks.evaluation import Verdict, check_spec, evaluate


class RawSceneChecksConfig(dg.Config):
    """What a raw scene must be like.

    Attributes:
        least_coverage: fraction of the pixels that should hold data.
        coverage_spread: by how much the optical bands' fractions may differ.
    """

    least_coverage: float = 0.05
    coverage_spread: float = 0.01


def build_raw_scene_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's raw scenes."""
    specs = [
        check_spec(
            family, "raw_scene", "bands_complete",
            "Every band that the models need is there, on the scene's grid, and not the same number everywhere.",
            blocking=True,
        ),
        check_spec(
            family, "raw_scene", "scene_coverage", "Enough of the scene holds data, and all bands the same part of it."
        ),
    ]  # fmt: skip

    @dg.multi_asset_check(
        name=f"{family.name}__raw_scene_checks", specs=specs, can_subset=True, op_tags=op_tags("check")
    )
    def raw_scene_checks(
        context: dg.AssetCheckExecutionContext,
        config: RawSceneChecksConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        models: Models,
    ) -> Iterator[Any]:
        def judge(name: str) -> Mapping[str, Verdict]:
            from darts_assets.sources.rasters.integrity import band_faults, coverage_faults
            from darts_assets.stores.tiles import read_geobox, read_shapes, read_statistics

            scene = scenes.scene(family, name)
            if not raw.enabled:
                nothing = "the raw store is off: the files at the source were checked, nothing was kept"
                return {spec.name: Verdict((), nothing) for spec in specs}
            place = raw.place(scene)
            wanted = {*VISIBLE_NIR, *models.bands}
            needed = [*(band for band in OPTICAL if band in wanted), *quality_bands(scene)]
            shapes, statistics = read_shapes(place), read_statistics(place)
            rows, columns = read_geobox(place).shape
            coverage = place.require().metadata["coverage"]
            return {
                "bands_complete": Verdict(
                    band_faults(needed, shapes, (rows, columns), statistics),
                    f"{', '.join(shapes)}, {rows} x {columns} pixels each",
                    {"digital_numbers": {band: [found.low, found.high] for band, found in statistics.items()}},
                ),
                "scene_coverage": Verdict(
                    coverage_faults(coverage, config.least_coverage, config.coverage_spread),
                    f"{100 * coverage['red']:.1f} % of the scene holds data",
                    {"coverage": coverage},
                ),
            }

        yield from evaluate(context, family, specs, judge)

    return raw_scene_checks
