"""Checks of `segmentation`: whether the probabilities can be true.

They run as a step after a scene's own run. A run of several scenes has no steps downstream: there `segmentation` itself
calls `require_valid` for each scene, and one that fails is not recorded, so that nothing is made of it.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import DartsError
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.scene_chain.checks.evaluation import Verdict, check_spec, evaluate, evaluation

if TYPE_CHECKING:
    from darts_assets.stores.statistics import BandStatistics

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
