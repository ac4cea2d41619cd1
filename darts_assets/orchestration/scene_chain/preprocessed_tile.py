"""`preprocessed_tile`: the features of a scene on its grid."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import dagster as dg

from darts_assets.bands import FEATURES, auxiliary_layers
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_chain.check_evaluation import Verdict, check_spec, evaluate
from darts_assets.tiles import TileStream, geobox_of

CODE_VERSION = "1"


class PreprocessConfig(dg.Config):
    """How features are computed.

    Attributes:
        terrain: convention of the terrain features; `auto` takes the one that the models were trained on.
        tpi_outer_radius: metres.
        tpi_inner_radius: metres; above 0 the relative elevation is taken over a ring.
        quality: changes to the table of scene classes and their quality (0 invalid, 1 low, 2 high), such as
            `{"10": 1}` to count thin cirrus as low.
    """

    terrain: Literal["auto", "darts-2025", "darts-2026", "physical"] = "auto"
    tpi_outer_radius: float = 100.0
    tpi_inner_radius: float = 0.0
    quality: dict[str, int] = {}  # noqa: RUF012 - pydantic copies defaults


def build_preprocessed_tile(family: SceneFamily) -> dg.AssetsDefinition:
    """The preprocessed tile of a family."""

    @dg.asset(
        **family.asset("preprocessed_tile"),
        kinds={"zarr", "xarray"},
        code_version=CODE_VERSION,
        io_manager_key="tiles",
        deps=[family.key("raw_scene"), family.key("auxiliary")],
        description="The 13 features, elevation and masks, as band-codec integers.",
    )
    @measured
    def preprocessed_tile(
        context: dg.AssetExecutionContext,
        config: PreprocessConfig,
        scenes: SceneRegistry,
        raw: RawScenes,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> dg.MaterializeResult[TileStream]:
        from darts_assets.features import PreprocessParameters, preprocess

        with domain_call(context.log):
            scene = scenes.scene(family, context.partition_key)
            parameters = PreprocessParameters(
                terrain=models.terrain if config.terrain == "auto" else config.terrain,  # type: ignore[arg-type]
                tpi_outer_radius=config.tpi_outer_radius,
                tpi_inner_radius=config.tpi_inner_radius,
            )
            optical = raw.optical(family, scene, {int(scl): value for scl, value in config.quality.items()})
            layers = cubes.windows(family, scene, geobox_of(optical), models.bands, parameters.tpi_outer_radius)
            stream = preprocess(optical, layers.get("arcticdem"), layers.get("tcvis"), parameters)
        context.log.info(f"{scene.id}: {parameters.terrain}, layers {', '.join(layers) or 'none'}")
        used = {layer: window.attrs["cube"] for layer, window in layers.items()}
        snapshots = {layer: window.attrs["snapshot"] for layer, window in layers.items()}
        facts = provenance(
            CODE_VERSION, {"terrain": parameters.terrain, **config.model_dump(exclude={"terrain"}), "layers": used},
            raw_scene=raw.version(scene),
        )  # fmt: skip
        return dg.MaterializeResult(
            value=stream,
            metadata=as_metadata({"terrain": parameters.terrain, "cube_snapshots": snapshots, "provenance": facts}),
            data_version=dg.DataVersion(facts["data_version"]),
        )

    return preprocessed_tile


_LAYER_BANDS = {"arcticdem": "dem", "tcvis": "tc_brightness"}


class TileChecksConfig(dg.Config):
    """What the features of a scene must be like.

    Attributes:
        darkest_median: reflectance that the median of no optical band should be below.
        brightest_median: or above.
        missing_features: fraction of the pixels with data (terrain: with elevation) that a feature may lack.
        missing_auxiliary: fraction of the scene that an auxiliary layer may lack.
    """

    darkest_median: float = 0.0
    brightest_median: float = 1.2
    missing_features: float = 0.05
    missing_auxiliary: float = 0.0


def build_tile_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's preprocessed tiles."""
    specs = [
        check_spec(
            family, "preprocessed_tile", "auxiliary_coverage",
            "Auxiliary layers that the models need cover the scene; holes leave features empty.",
        ),
        check_spec(
            family, "preprocessed_tile", "feature_ranges",
            "Features are within what is physically possible, there where the scene has data, and not constant.",
        ),
    ]  # fmt: skip

    @dg.multi_asset_check(
        name=f"{family.name}__preprocessed_tile_checks", specs=specs, can_subset=True, op_tags=op_tags("check")
    )
    def preprocessed_tile_checks(
        context: dg.AssetCheckExecutionContext,
        config: TileChecksConfig,
        store: Store,
        cubes: AuxiliaryCubes,
        models: Models,
    ) -> Iterator[Any]:
        def judge(scene: str) -> Mapping[str, Verdict]:
            from darts_assets.features.plausibility import feature_faults
            from darts_assets.stores.tiles import read_statistics

            place = store.place("tiles", *family.key("preprocessed_tile").path, f"{scene}.zarr")
            coverage, statistics = place.require().metadata["coverage"], read_statistics(place)
            wanted = auxiliary_layers(models.bands)
            in_use = cubes.layers_for(models.bands)
            missing = {layer: round(1 - coverage[_LAYER_BANDS[layer]], 6) for layer in wanted if layer in in_use}
            return {
                "auxiliary_coverage": Verdict(
                    [
                        *(
                            f"{layer} lacks {100 * hole:.2f} % of the scene"
                            for layer, hole in missing.items()
                            if hole > config.missing_auxiliary
                        ),
                        *(
                            f"{layer} is switched off though the models were trained with it"
                            for layer in wanted
                            if layer not in in_use
                        ),
                    ],
                    "every auxiliary layer covers the whole scene",
                    {"missing_fraction": missing},
                ),
                "feature_ranges": Verdict(
                    feature_faults(statistics, config.darkest_median, config.brightest_median, config.missing_features),
                    "every feature is possible",
                    {"features": _table(coverage, statistics)},
                ),
            }

        yield from evaluate(context, family, specs, judge)

    return preprocessed_tile_checks


def _table(coverage: Mapping[str, float], statistics: Mapping[str, Any]) -> dg.MetadataValue[Any]:
    """The features' statistics, a row for each."""
    rows = []
    for name in (*FEATURES, "dem"):
        found = statistics[name]
        figures = zip(
            ("lowest", "p1", "median", "p99", "highest"), (found.low, *found.percentiles, found.high), strict=True
        )
        rows.append(
            {"feature": name, "present": coverage[name], **{title: round(value, 4) for title, value in figures}}
        )
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])
