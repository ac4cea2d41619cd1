"""`raw_scene`: the digital numbers of a scene, fetched once, band by band as they are asked for."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, location_preview, provenance
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry, quality_bands
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain.check_evaluation import Verdict, check_spec, evaluate
from darts_assets.scene import Scene

CODE_VERSION = "1"


class RawSceneConfig(dg.Config):
    """Which bands to keep, and whether to fetch again what is kept already."""

    bands: Literal["needed", "all"] = "needed"
    force: bool = False

    def wanted(self, scene: Scene, needed: Collection[str]) -> list[str]:
        """Canonical names of the bands to keep: those that are needed, or all that the scene has; and its quality."""
        always = {*VISIBLE_NIR, *needed}
        optical = [n for n in OPTICAL if (n in always if self.bands == "needed" else n in scene.bands)]
        return [*optical, *quality_bands(scene)]


@dataclass(frozen=True)
class KeptScene:
    """A raw scene that is in the store.

    Attributes:
        fetched: bands that were fetched for that.
        metadata: of its materialization.
        data_version: the same.
    """

    fetched: list[str]
    metadata: dict[str, Any]
    data_version: str


def keep_raw_scene(
    family: SceneFamily,
    scene: Scene,
    config: RawSceneConfig,
    *,
    raw: RawScenes,
    needed: Collection[str],
    log: Callable[[str], None],
) -> KeptScene:
    """Fetch those bands of a scene that are wanted and not yet kept.

    Args:
        family: of the scene.
        scene: the scene.
        config: which bands.
        raw: where they are kept.
        needed: canonical names of what the models need.
        log: told what is done.

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: from the scene's source.
    """
    wanted = config.wanted(scene, needed)
    # Bands are not part of the version: more of them change nothing for those who use the others.
    facts = provenance(CODE_VERSION, {}, item=scene.fingerprint)
    metadata = {**scene.summary(), "bands": wanted, "provenance": facts}
    if not raw.enabled:
        grid = raw.grid_at_source(family, scene)
        log(f"{scene.id}: the raw store is off; checked its files and kept nothing")
        metadata |= location_preview(scene, grid)
        return KeptScene([], metadata | {"stored": False, "shape": str(tuple(grid.shape))}, facts["data_version"])
    kept = {} if config.force else raw.kept(scene)
    missing = [name for name in wanted if name not in kept]
    log(f"{scene.id}: {len(missing)} of {len(wanted)} bands to fetch: {', '.join(missing)}")
    metadata |= {"stored": True, "fetched": missing}
    if missing:
        metadata |= raw.fetch(family, scene, missing, {"provenance": facts}, log)
    metadata |= {"path": dg.MetadataValue.path(raw.place(scene).location.url)}
    metadata |= location_preview(scene, raw.geobox(family, scene))
    return KeptScene(missing, metadata, facts["data_version"])


def build_raw_scene(family: SceneFamily) -> dg.AssetsDefinition:
    """The raw scene of a family."""

    @dg.asset(
        **family.asset("raw_scene"),
        kinds={"zarr", "stac"},
        code_version=CODE_VERSION,
        pool=family.pool,
        description="Digital numbers of the scene on its own grid, as its provider gives them.",
    )
    @measured
    def raw_scene(
        context: dg.AssetExecutionContext,
        config: RawSceneConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        models: Models,
    ) -> dg.MaterializeResult[None]:
        with domain_call(context.log):
            needed = models.bands  # a checkpoint that cannot be used is refused before any scene is loaded
            scene = scenes.scene(family, context.partition_key)
            kept = keep_raw_scene(family, scene, config, raw=raw, needed=needed, log=context.log.info)
        return dg.MaterializeResult(metadata=as_metadata(kept.metadata), data_version=dg.DataVersion(kept.data_version))

    return raw_scene


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
            from darts_assets.sources.rasters.completeness import band_faults, coverage_faults
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
