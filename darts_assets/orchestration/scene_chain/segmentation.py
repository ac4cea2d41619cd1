"""`segmentation`: probabilities of thaw slumps from an ensemble of models in a sliding window.

A scene's own run evaluates the checks in a step of their own. A run of several scenes has no downstream steps: there,
`segmentation` evaluates them for each scene, and does not record a scene whose probabilities are invalid.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.bands import SPREAD
from darts_assets.errors import DartsError
from darts_assets.features.plausibility import reflectance_faults
from darts_assets.model.segmentation_parameters import SegmentParameters
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.io_managers import TileIOManager, publish_tile
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.multi_partition import (
    beta_policies,
    has_one_partition,
    materialize_each,
    partitions_per_run,
)
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import GPU_POOL
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.scene_chain.check_evaluation import (
    Outcome,
    Outcomes,
    check_spec,
    evaluate,
    limits_of_run,
    require_passed,
    step_checks,
)
from darts_assets.settings_file import NO_FILE, SettingsFile

if TYPE_CHECKING:
    from darts_assets.stores.statistics import BandStatistics

CODE_VERSION = "2"

VALID, PLAUSIBLE = "probabilities_valid", "probabilities_plausible"


class SegmentationConfig(StepConfig, SegmentParameters):
    """How the ensemble is applied."""

    accept_implausible: bool = Field(
        default=False, description="Segment tiles whose values are no reflectance (see the check `feature_ranges`)."
    )


@beta_policies()
def build_segmentation(
    family: SceneFamily, scenes_per_run: int = 1, file: SettingsFile = NO_FILE
) -> dg.AssetsDefinition:
    """The asset `segmentation` of a family; a run of a backfill takes up to `scenes_per_run` and loads models once."""

    @dg.asset(
        **family.asset("segmentation"),
        kinds={"zarr", "torch"},
        code_version=CODE_VERSION,
        io_manager_key="tiles",
        pool=GPU_POOL,
        backfill_policy=partitions_per_run(scenes_per_run),
        output_required=False,
        deps=[family.key("preprocessed_tile")],  # an input of Dagster cannot be loaded if a scene was deleted meanwhile
        description="Probability of a thaw slump for each pixel: the mean over the models.",
    )
    @StepDefaults(family.name, file).configure("segmentation")
    def segmentation(
        context: dg.AssetExecutionContext, config: SegmentationConfig, models: Models, store: Store
    ) -> Iterator[Any]:
        with domain_call(context.log):  # an error of models or device affects all scenes: fail at once
            from darts_assets.model.segment import precision_of, segment, temperatures

            models.check_suitable()
            headers = models.headers
            precision = precision_of(headers, config)
        tiles = TileIOManager(store=store)
        context.log.info(f"models: {', '.join(header.name for header in headers)}")
        # Device, batch size and compilation do not affect the meaning of the numbers; their precision does.
        parameters: dict[str, Any] = {
            **config.model_dump(exclude={"device", "batch_size", "compile", "accept_implausible"}),
            "precision": precision,
            "models": {header.name: header.sha256 for header in headers},
            "model_files": {header.name: header.path.name for header in headers},
        }
        if calibrated := temperatures(headers):
            parameters["temperatures"] = calibrated

        def segment_scene(scene: str) -> dg.MaterializeResult[None]:
            if not config.accept_implausible:
                _require_reflectance(family, store, scene)
            tile = tiles.read(tuple(family.key("preprocessed_tile").path), scene)
            facts = provenance(CODE_VERSION, parameters, preprocessed_tile=tile.attrs["provenance"]["data_version"])
            stream = segment(tile, headers, config)
            published = publish_tile(store, context.asset_key, scene, stream, {"provenance": facts}, context.log)
            if not has_one_partition(context):
                require_valid(context, family, store, scene)
            metadata = {"models": parameters["models"], "config": config.model_dump(), **published}
            if calibrated:
                metadata["temperatures"] = calibrated
            return materialize_result(metadata, facts)

        yield from materialize_each(context, segment_scene)

    return segmentation


class SegmentationChecksConfig(dg.Config):
    """Limits of the checks of probabilities."""

    certain: float = Field(
        default=0.5, description="Largest plausible fraction of valid pixels with a probability of at least 0.99."
    )
    slumps: float = Field(
        default=0.3, description="Largest plausible fraction of valid pixels with a probability of more than 0.5."
    )


def build_segmentation_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's segmentations."""
    specs = _specs(family)

    @step_checks(family, specs)
    def segmentation_checks(
        context: dg.AssetCheckExecutionContext, config: SegmentationChecksConfig, store: Store
    ) -> Iterator[Any]:
        yield from evaluate(context, family, specs, lambda scene: _outcomes(family, store, scene, config))

    return segmentation_checks


def _require_reflectance(family: SceneFamily, store: Store, scene: str) -> None:
    """Raise DartsError if a tile's values are no reflectance: in runs of several scenes no check holds them back."""
    from darts_assets.stores.tiles import read_statistics

    tile = store.place("tiles", *family.key("preprocessed_tile").path, scene)
    if faults := reflectance_faults(read_statistics(tile)):
        raise DartsError(
            f"{scene}: {'; '.join(faults)}. Check the offset of its digital numbers (config `offset` of "
            "preprocessed_tile), or set `accept_implausible` of segmentation"
        )


def require_valid(context: dg.AssetExecutionContext, family: SceneFamily, store: Store, scene: str) -> None:
    """Evaluate and record the checks of a scene in the step that has written it.

    Raises:
        DartsError: if the probabilities are invalid.
    """
    specs = _specs(family)
    limits = limits_of_run(context, specs, SegmentationChecksConfig)
    require_passed(context, specs, scene, _outcomes(family, store, scene, limits))


def _specs(family: SceneFamily) -> list[dg.AssetCheckSpec]:
    return [
        check_spec(
            family, "segmentation", VALID,
            "Probabilities are between 0 and 1, and exist where the scene has data.", blocking=True,
        ),
        check_spec(
            family, "segmentation", PLAUSIBLE,
            "Every pixel with data has a probability, and the probabilities are neither constant nor saturated.",
        ),
    ]  # fmt: skip


def _outcomes(family: SceneFamily, store: Store, scene: str, config: SegmentationChecksConfig) -> Outcomes:
    from darts_assets.model.sanity import probability_errors, probability_warnings
    from darts_assets.stores.tiles import read_statistics

    def statistics(step: str) -> "dict[str, BandStatistics]":
        return read_statistics(store.place("tiles", *family.key(step).path, scene))

    with_data = statistics("preprocessed_tile")["red"].pixels
    bands = {name: band for name, band in statistics("segmentation").items() if name != SPREAD}
    errors = [problem for name, band in bands.items() for problem in probability_errors(name, band, with_data)]
    suspicious = [
        problem
        for name, band in bands.items()
        for problem in probability_warnings(name, band, with_data, config.certain, config.slumps)
    ]
    ranges = {name: [band.low, band.high] for name, band in bands.items()}
    summary = "; ".join(f"{name} from {low:.3f} to {high:.3f}" for name, (low, high) in ranges.items())
    return {VALID: Outcome(errors, summary, {"range": ranges}), PLAUSIBLE: Outcome(suspicious, summary)}
