"""`preprocessed_tile`: the features of a scene on its grid."""

from typing import Literal

import dagster as dg

from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.models import Models
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.raw_scene_store import RawScenes
from darts_assets.orchestration.core.scene_registry import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
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
