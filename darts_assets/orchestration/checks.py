"""Checks that speak of the scene: how much of it was seen, what auxiliary data lacks, why nothing was found.

They read manifests and tables, never pixels.
"""

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import auxiliary_layers
from darts_assets.orchestration.auxiliary_cubes import AuxiliaryCubes
from darts_assets.orchestration.metadata import as_metadata, domain_call
from darts_assets.orchestration.partitions import SceneFamily
from darts_assets.orchestration.resources import Models, Store

if TYPE_CHECKING:
    from darts_assets.stores.publish import Manifest

_LAYER_BANDS = {"arcticdem": "dem", "tcvis": "tc_brightness"}


def build_checks(family: SceneFamily) -> list[dg.AssetChecksDefinition]:
    """The checks of a family's chain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # checks by partition: tried, and pinned with Dagster 1.13
        return [_auxiliary_coverage(family), _scene_was_seen(family)]


def _manifest(store: Store, kind: str, family: SceneFamily, step: str, name: str) -> "Manifest":
    return store.place(kind, family.name, step, name).require()


def _auxiliary_coverage(family: SceneFamily) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.key("preprocessed_tile"),
        partitions_def=family.partitions,
        description="Auxiliary layers that the models need cover the scene; holes leave features empty.",
    )
    def auxiliary_coverage(
        context: dg.AssetCheckExecutionContext, store: Store, cubes: AuxiliaryCubes, models: Models
    ) -> dg.AssetCheckResult:
        with domain_call(context.log):
            tile = _manifest(store, "tiles", family, "preprocessed_tile", f"{context.partition_key}.zarr")
            coverage = tile.metadata["coverage"]
            needed = [layer for layer in _LAYER_BANDS if layer in cubes.layers_for(models.bands)]
            absent = [layer for layer in auxiliary_layers(models.bands) if layer not in needed]
        holes = {layer: round(1 - coverage[_LAYER_BANDS[layer]], 6) for layer in needed}
        worst = max(holes.values(), default=0.0)
        said = [f"{layer} lacks {100 * hole:.2f} % of the scene" for layer, hole in holes.items() if hole > 0]
        said += [f"{layer} is switched off though the models were trained with it" for layer in absent]
        return dg.AssetCheckResult(
            passed=worst == 0 and not absent,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(said) or "every auxiliary layer covers the whole scene",
            metadata=as_metadata({"missing_fraction": holes}),
        )

    return auxiliary_coverage


def _scene_was_seen(family: SceneFamily) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=family.key("polygons"),
        partitions_def=family.partitions,
        description="The scene was seen; an empty result is explained by clouds or missing data.",
    )
    def scene_was_seen(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
        with domain_call(context.log):
            tile = _manifest(store, "tiles", family, "preprocessed_tile", f"{context.partition_key}.zarr")
            facts = _manifest(store, "vectors", family, "polygons", context.partition_key).metadata
        seen: dict[str, Any] = {
            "with_data": tile.metadata["coverage"]["red"],
            "usable": tile.metadata["coverage"]["quality_data_mask"],
            "extent": facts["summary"]["extent_fraction"],
            "objects": facts["summary"]["objects"],
        }
        return dg.AssetCheckResult(
            passed=seen["extent"] > 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=_explanation(seen),
            metadata=as_metadata(seen),
        )

    return scene_was_seen


def _explanation(seen: dict[str, Any]) -> str:
    if seen["with_data"] == 0:
        return "no pixel of the scene holds data: nothing could be found"
    if seen["extent"] == 0:
        return (
            f"no pixel is left to look at: {100 * seen['with_data']:.1f} % of the scene holds data, but clouds, shadow "
            "or snow cover it or it lies too near to the border: nothing could be found"
        )
    return f"{seen['objects']} objects in {100 * seen['extent']:.1f} % of the scene"
