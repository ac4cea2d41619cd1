"""`segmentation`: probabilities of thaw slumps, by an ensemble of models over a sliding window."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import DartsError
from darts_assets.model.segmentation_parameters import PrecisionSetting
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.io_managers import TilesOfRun, keep_tile
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.multi_partition import beta_policies, materialize_each, partitions_per_run
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.scene_chain.check_evaluation import Verdict, check_spec, evaluate, evaluation

if TYPE_CHECKING:
    from darts_assets.stores.statistics import BandStatistics

CODE_VERSION = "1"


class SegmentationConfig(dg.Config):
    """How the ensemble is applied.

    Attributes:
        patch_size: pixels of a patch's side.
        overlap: pixels that neighbouring patches share.
        batch_size: patches that run at once: a number, or `auto` for what fits and pays.
        reflection: pixels of reflected padding around the tile.
        edge_padding: one more reflected pixel, as in DARTS; off saves patches where the tile fits exactly.
        device: `auto`, `cpu`, `cuda` or an index.
        keep_models: also keep each model's own probabilities.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: the fastest on the GPU that keeps probabilities within 0.01.
        compile: compile the models by `torch.compile`; takes minutes once per process.
    """

    patch_size: int = 1024
    overlap: int = 256
    batch_size: Any = "auto"  # Dagster has no type for a number or a word; `SegmentParameters` checks it
    reflection: int = 0
    edge_padding: bool = True
    device: str = "auto"
    keep_models: bool = False
    precision: PrecisionSetting = "auto"
    compile: bool = False


@beta_policies()
def build_segmentation(family: SceneFamily, scenes_per_run: int = 1) -> dg.AssetsDefinition:
    """The segmentation of a family; a run of a backfill takes up to `scenes_per_run`, and loads the models once."""

    @dg.asset(
        **family.asset("segmentation"),
        kinds={"zarr", "torch"},
        code_version=CODE_VERSION,
        io_manager_key="tiles",
        backfill_policy=partitions_per_run(scenes_per_run),
        output_required=False,
        ins={"tiles": dg.AssetIn(family.key("preprocessed_tile"), input_manager_key="tiles")},
        description="Probability of a thaw slump for every pixel; the mean of the models' probabilities.",
    )
    def segmentation(
        context: dg.AssetExecutionContext, config: SegmentationConfig, models: Models, store: Store, tiles: TilesOfRun
    ) -> Iterator[Any]:
        with domain_call(context.log):  # what is wrong with models or device is so for every scene: it fails at once
            from darts_assets.model import SegmentParameters
            from darts_assets.model.segment import precision_of, segment

            headers = models.headers
            chosen = SegmentParameters(**config.model_dump())
            precision = precision_of(headers, chosen)
        context.log.info(f"models: {', '.join(header.name for header in headers)}")
        # Where and how fast numbers are computed does not change what they mean; their precision does.
        parameters: dict[str, Any] = {
            **config.model_dump(exclude={"device", "batch_size", "compile"}),
            "precision": precision,
            "models": {header.name: header.sha256 for header in headers},
            "model_files": {header.name: header.path.name for header in headers},
        }

        def segmented(scene: str) -> dg.MaterializeResult[None]:
            tile = tiles[scene]
            facts = provenance(CODE_VERSION, parameters, preprocessed_tile=tile.attrs["provenance"]["data_version"])
            stream = segment(tile, headers, chosen)
            kept = keep_tile(store, context.asset_key, scene, stream, {"provenance": facts}, context.log)
            if len(tiles) > 1:  # else a step of its own evaluates the checks
                require_valid(context, family, store, scene)
            said = as_metadata({"models": parameters["models"], "config": config.model_dump(), "provenance": facts})
            return dg.MaterializeResult(metadata={**said, **kept}, data_version=dg.DataVersion(facts["data_version"]))

        yield from materialize_each(context, segmented)

    return segmentation


VALID, PLAUSIBLE = "probabilities_valid", "probabilities_plausible"


class SegmentationChecksConfig(dg.Config):
    """What probabilities must be like.

    Attributes:
        certain: fraction of the pixels with data of which at most 99 % or more should be said.
        slumps: fraction of them of which at most more than 50 % should be said.
    """

    certain: float = 0.5
    slumps: float = 0.3


def build_segmentation_checks(family: SceneFamily) -> dg.AssetChecksDefinition:
    """The checks of a family's segmentations."""
    specs = _specs(family)

    @dg.multi_asset_check(
        name=f"{family.name}__segmentation_checks", specs=specs, can_subset=True, op_tags=op_tags("check")
    )
    def segmentation_checks(
        context: dg.AssetCheckExecutionContext, config: SegmentationChecksConfig, store: Store
    ) -> Iterator[Any]:
        yield from evaluate(context, family, specs, lambda scene: _verdicts(family, store, scene, config))

    return segmentation_checks


def require_valid(context: dg.AssetExecutionContext, family: SceneFamily, store: Store, scene: str) -> None:
    """Evaluate and record the checks of a scene, with their default config, within the step that has written it.

    Raises:
        DartsError: if the probabilities cannot be used.
    """
    verdicts = _verdicts(family, store, scene, SegmentationChecksConfig())
    for spec in _specs(family):
        context.log_event(evaluation(spec, scene, verdicts[spec.name]))
    if verdicts[VALID].faults:
        raise DartsError(f"{scene}: {verdicts[VALID].said}")


def _specs(family: SceneFamily) -> list[dg.AssetCheckSpec]:
    return [
        check_spec(
            family, "segmentation", VALID,
            "Probabilities are between 0 and 1, and there are some where the scene has data.", blocking=True,
        ),
        check_spec(
            family, "segmentation", PLAUSIBLE,
            "Every pixel with data has a probability, and the model is neither saturated nor blind.",
        ),
    ]  # fmt: skip


def _verdicts(family: SceneFamily, store: Store, scene: str, config: SegmentationChecksConfig) -> Mapping[str, Verdict]:
    from darts_assets.model.sanity import probability_errors, probability_warnings
    from darts_assets.stores.tiles import read_statistics

    def statistics(step: str) -> "dict[str, BandStatistics]":
        return read_statistics(store.place("tiles", *family.key(step).path, f"{scene}.zarr"))

    with_data = statistics("preprocessed_tile")["red"].pixels
    bands = statistics("segmentation")
    errors = [fault for name, found in bands.items() for fault in probability_errors(name, found, with_data)]
    warned = [
        fault
        for name, found in bands.items()
        for fault in probability_warnings(name, found, with_data, config.certain, config.slumps)
    ]
    spread = {name: [found.low, found.high] for name, found in bands.items()}
    said = "; ".join(f"{name} from {low:.3f} to {high:.3f}" for name, (low, high) in spread.items())
    return {VALID: Verdict(errors, said, {"range": spread}), PLAUSIBLE: Verdict(warned, said)}
