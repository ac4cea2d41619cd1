"""`raw_scene`: the digital numbers of a scene, fetched once for each band."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, location_preview, provenance
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry, quality_bands
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain.check_evaluation import (
    Outcome,
    Outcomes,
    check_spec,
    evaluate,
    step_checks,
)
from darts_assets.orchestration.scene_chain.model_guard import check_models
from darts_assets.scene import Scene
from darts_assets.settings_file import NO_FILE, SettingsFile

CODE_VERSION = "1"


class RawSceneConfig(dg.Config):
    """The bands to store."""

    bands: Literal["needed", "all"] = Field(
        default="needed", description="`needed`: the bands that the models take; `all`: every band of the scene."
    )
    force: bool = Field(default=False, description="Fetch stored bands again.")

    def select_bands(self, scene: Scene, needed: Collection[str]) -> list[str]:
        """Canonical names of the bands to store: `needed` ones or all optical ones, and the quality bands."""
        always = {*VISIBLE_NIR, *needed}
        optical = [n for n in OPTICAL if (n in always if self.bands == "needed" else n in scene.bands)]
        return [*optical, *quality_bands(scene)]


@dataclass(frozen=True)
class KeptScene:
    """A stored raw scene.

    Attributes:
        fetched: bands that were fetched.
        metadata: metadata of its materialization.
        data_version: data version of its materialization.
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
    """Fetch the selected bands of a scene that are not stored yet.

    Args:
        family: family of the scene.
        scene: the scene.
        config: selects bands.
        raw: the store of raw scenes.
        needed: canonical names of the bands that the models take.
        log: called with progress messages.

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: from the scene's source.
    """
    selected = config.select_bands(scene, needed)
    # Bands are not part of the version: further bands do not affect those that use the others.
    facts = provenance(CODE_VERSION, {}, item=scene.fingerprint)
    metadata = {"Scene": scene.label, **scene.summary(), "bands": selected, "provenance": facts}
    if not raw.enabled:
        grid = raw.grid_at_source(family, scene)
        log(f"{scene.id}: the raw store is off; files checked, nothing stored")
        metadata |= location_preview(scene, grid)
        return KeptScene([], metadata | {"stored": False, "shape": str(tuple(grid.shape))}, facts["data_version"])
    kept = {} if config.force else raw.kept(scene)
    missing = [name for name in selected if name not in kept]
    log(f"{scene.id}: offset {scene.offset_evidence}")
    log(f"{scene.id}: {len(missing)} of {len(selected)} bands to fetch: {', '.join(missing)}")
    metadata |= {"stored": True, "fetched": missing}
    if missing:
        metadata |= raw.fetch(family, scene, missing, {"provenance": facts}, log)
    metadata |= {"path": dg.MetadataValue.path(raw.place(scene).current_url())}
    metadata |= location_preview(scene, raw.geobox(family, scene))
    return KeptScene(missing, metadata, facts["data_version"])


def build_raw_scene(family: SceneFamily, file: SettingsFile = NO_FILE) -> dg.AssetsDefinition:
    """The asset `raw_scene` of a family."""

    @dg.asset(
        **family.asset("raw_scene"),
        kinds={"zarr", "stac"},
        code_version=CODE_VERSION,
        pool=family.pool,
        description="Digital numbers of the scene on its own grid, as delivered by the provider.",
    )
    @measured
    @StepDefaults(family.name, file).configure("raw_scene")
    def raw_scene(
        context: dg.AssetExecutionContext,
        config: RawSceneConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        models: Models,
    ) -> dg.MaterializeResult[None]:
        with domain_call(context.log):
            check_models(context, family, models)
            needed = models.bands  # an invalid checkpoint fails here, before data are fetched
            scene = scenes.scene(family, context.partition_key)
            kept = keep_raw_scene(family, scene, config, raw=raw, needed=needed, log=context.log.info)
        return dg.MaterializeResult(metadata=as_metadata(kept.metadata), data_version=dg.DataVersion(kept.data_version))

    return raw_scene


class RawSceneChecksConfig(dg.Config):
    """Limits of the checks of raw scenes."""

    least_coverage: float = Field(default=0.05, description="Smallest fraction of pixels with data.")
    coverage_spread: float = Field(
        default=0.01, description="Largest difference between the optical bands' fractions of pixels with data."
    )


def build_raw_scene_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's raw scenes."""
    specs = [
        check_spec(
            family, "raw_scene", "bands_complete",
            "All bands that the models need exist on the scene's grid and are not constant.",
            blocking=True,
        ),
        check_spec(
            family, "raw_scene", "scene_coverage",
            "Enough of the scene has data, and all bands cover the same part of it.",
        ),
    ]  # fmt: skip

    @step_checks(family, specs)
    def raw_scene_checks(
        context: dg.AssetCheckExecutionContext,
        config: RawSceneChecksConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        models: Models,
    ) -> Iterator[Any]:
        def outcomes(scene_id: str) -> Outcomes:
            from darts_assets.sources.rasters.integrity import band_faults, coverage_faults
            from darts_assets.stores.tiles import read_geobox, read_shapes, read_statistics

            scene = scenes.scene(family, scene_id)
            unmasked = [] if quality_bands(scene) else ["it has no scene classification: its clouds count as clear"]
            if not raw.enabled:
                text = "the raw store is off: the files at the source were checked, nothing is stored"
                return {"bands_complete": Outcome((), text), "scene_coverage": Outcome(unmasked, text)}
            place = raw.place(scene)
            if released := place.require().released:
                text = (
                    f"the scene was examined when it was fetched; its values were released on {released['since'][:10]}"
                )
                return {"bands_complete": Outcome((), text), "scene_coverage": Outcome(unmasked, text)}
            needed = RawSceneConfig().select_bands(scene, models.bands)
            manifest = place.require()
            shapes, statistics = read_shapes(place, manifest), read_statistics(place, manifest)
            rows, columns = read_geobox(place, manifest).shape
            coverage = manifest.metadata["coverage"]
            return {
                "bands_complete": Outcome(
                    band_faults(needed, shapes, (rows, columns), statistics),
                    f"{', '.join(shapes)}: {rows} x {columns} pixels each",
                    {"digital_numbers": {band: [values.low, values.high] for band, values in statistics.items()}},
                ),
                "scene_coverage": Outcome(
                    [*unmasked, *coverage_faults(coverage, config.least_coverage, config.coverage_spread)],
                    f"{100 * coverage['red']:.1f} % of the scene has data",
                    {"coverage": coverage},
                ),
            }

        yield from evaluate(context, family, specs, outcomes)

    return raw_scene_checks
