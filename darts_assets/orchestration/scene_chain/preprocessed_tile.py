"""`preprocessed_tile`: the features of a scene on its grid."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.bands import FEATURES, VISIBLE_NIR, auxiliary_layers
from darts_assets.features import PreprocessParameters
from darts_assets.features.plausibility import (
    BRIGHTEST_MEDIAN,
    DARKEST_MEDIAN,
    feature_faults,
    reflectance_faults,
)
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import PLACE, materialize_result, provenance
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
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
from darts_assets.settings_file import NO_FILE, SettingsFile
from darts_assets.tiles import TileStream, geobox_of

CODE_VERSION = "2"

_LAYER_BANDS = {"arcticdem": "dem", "tcvis": "tc_brightness"}


class PreprocessConfig(StepConfig, PreprocessParameters):
    """How features are computed."""

    terrain: Literal["auto", "darts-2025", "darts-2026", "physical"] = Field(  # type: ignore[assignment]
        "auto", description="Convention of the terrain features; `auto`: the one that the models were trained on."
    )
    quality: dict[str, int] = Field(
        {},
        description="Scene class -> quality (0 invalid, 1 low, 2 high); overrides entries of the default table. "
        '`{"10": 1}` counts thin cirrus as low.',
    )
    offset: Literal["auto", "0", "-0.1"] = Field(
        "auto",
        description="Reflectance of digital number 0; `auto`: by processing baseline, dates and item; scenes for which "
        "these do not decide need a value.",
    )


def build_preprocessed_tile(family: SceneFamily, file: SettingsFile = NO_FILE) -> dg.AssetsDefinition:
    """The asset `preprocessed_tile` of a family."""

    @dg.asset(
        **family.asset("preprocessed_tile"),
        kinds={"zarr", "xarray"},
        code_version=CODE_VERSION,
        io_manager_key="tiles",
        deps=[family.key("raw_scene"), family.key("auxiliary")],
        description="The 13 features, elevation and masks, as band-codec integers.",
    )
    @measured
    @StepDefaults(family.name, file).configure("preprocessed_tile")
    def preprocessed_tile(
        context: dg.AssetExecutionContext,
        config: PreprocessConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> dg.MaterializeResult[TileStream]:
        from darts_assets.features.preprocess import preprocess

        with domain_call(context.log):
            check_models(context, family, models)
            scene = scenes.scene(family, context.partition_key)
            terrain = models.terrain if config.terrain == "auto" else config.terrain
            chosen = config.model_dump(include=set(PreprocessParameters.model_fields) - {"terrain"})
            parameters = PreprocessParameters(**chosen, terrain=terrain)
            quality = {int(scl): grade for scl, grade in config.quality.items()}
            optical, version = raw.optical(family, scene, quality, config.offset)
            layers = cubes.windows(family, scene, geobox_of(optical), models.bands, parameters.tpi_outer_radius)
            stream = preprocess(optical, layers.get("arcticdem"), layers.get("tcvis"), parameters)
        context.log.info(f"{scene.id}: {terrain}, layers {', '.join(layers) or 'none'}")
        offsets = {name: scene.bands[name].offset if config.offset == "auto" else config.offset for name in VISIBLE_NIR}
        used = {layer: window.attrs["cube"] for layer, window in layers.items()}
        snapshots = {layer: window.attrs["snapshot"] for layer, window in layers.items()}
        facts = provenance(
            CODE_VERSION,
            {"terrain": terrain, **config.model_dump(exclude={"terrain"}), "offset": offsets, "layers": used},
            raw_scene=version,
        )
        about = {
            "Features": PLACE,
            "Scene": scene.label,
            "terrain": terrain,
            "offset": offsets,
            "cube_snapshots": snapshots,
        }
        return materialize_result(about, facts, stream)

    return preprocessed_tile


class TileChecksConfig(dg.Config):
    """Limits of the checks of preprocessed tiles."""

    darkest_median: float = Field(
        DARKEST_MEDIAN, description="Smallest plausible median reflectance of an optical band."
    )
    brightest_median: float = Field(
        BRIGHTEST_MEDIAN, description="Largest plausible median reflectance of an optical band."
    )
    block_implausible: bool = Field(
        True, description="Hold back segmentation if values are no reflectance (medians, NDVI); else only warn."
    )
    missing_features: float = Field(
        0.05, description="Largest fraction of pixels with data (terrain: with elevation) that a feature may lack."
    )
    missing_auxiliary: float = Field(0.0, description="Largest fraction of the scene that a layer may lack.")


def build_tile_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's preprocessed tiles."""
    specs = [
        check_spec(
            family, "preprocessed_tile", "auxiliary_coverage",
            "The auxiliary layers that the models need cover the whole scene; features are empty where they do not.",
        ),
        check_spec(
            family, "preprocessed_tile", "feature_ranges",
            "Features are physically plausible where the scene has data, and not constant; values that are no "
            "reflectance block.", blocking=True,
        ),
    ]  # fmt: skip

    @step_checks(family, specs)
    def preprocessed_tile_checks(
        context: dg.AssetCheckExecutionContext,
        config: TileChecksConfig,
        store: Store,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> Iterator[Any]:
        def outcomes(scene: str) -> Outcomes:
            from darts_assets.stores.tiles import read_statistics

            place = store.place("tiles", *family.key("preprocessed_tile").path, scene)
            manifest = place.require()
            coverage, statistics = manifest.metadata["coverage"], read_statistics(place, manifest)
            required = auxiliary_layers(models.bands)
            in_use = cubes.layers_for(models.bands)
            missing = {layer: round(1 - coverage[_LAYER_BANDS[layer]], 6) for layer in required if layer in in_use}
            holes = [
                f"{layer} lacks {100 * fraction:.3g} % of the scene"
                for layer, fraction in missing.items()
                if fraction > config.missing_auxiliary
            ]
            off = [
                f"{layer} is switched off, but the models were trained with it"
                for layer in required
                if layer not in in_use
            ]
            dark_or_bright = reflectance_faults(statistics, config.darkest_median, config.brightest_median)
            return {
                "auxiliary_coverage": Outcome(
                    [*holes, *off], "every auxiliary layer covers the whole scene", {"missing_fraction": missing}
                ),
                "feature_ranges": Outcome(
                    [*dark_or_bright, *feature_faults(statistics, config.missing_features)],
                    "every feature is plausible",
                    {"features": _table(coverage, statistics)},
                    blocks=bool(dark_or_bright) and config.block_implausible,
                ),
            }

        yield from evaluate(context, family, specs, outcomes)

    return preprocessed_tile_checks


def _table(coverage: Mapping[str, float], statistics: Mapping[str, Any]) -> dg.MetadataValue[Any]:
    """Statistics of the features, one row each."""
    columns = ("lowest", "p1", "median", "p99", "highest")
    rows = []
    for name in (*FEATURES, "dem"):
        values = (statistics[name].low, *statistics[name].percentiles, statistics[name].high)
        numbers = {column: round(value, 4) for column, value in zip(columns, values, strict=True)}
        rows.append(dg.TableRecord({"feature": name, "present": coverage[name], **numbers}))
    return dg.MetadataValue.table(rows)
