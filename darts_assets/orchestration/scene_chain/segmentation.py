"""`segmentation`: probabilities of thaw slumps, by an ensemble of models over a sliding window."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from darts_assets.model.segmentation_parameters import PrecisionSetting
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.io_managers import TilesOfRun, keep_tile
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.models import Models
from darts_assets.orchestration.core.multi_partition import beta_policies, one_by_one, partitions_per_run
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.scene_chain.checks.segmentation_checks import require_valid

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

        yield from one_by_one(context, segmented)

    return segmentation
