"""`segmentation`: probabilities of thaw slumps, by an ensemble of models over a sliding window."""

from typing import Any

import dagster as dg
import xarray as xr

from darts_assets.model.parameters import PrecisionSetting
from darts_assets.orchestration.compute import GPU_TAGS
from darts_assets.orchestration.metadata import as_metadata, domain_call, provenance
from darts_assets.orchestration.partitions import SceneFamily
from darts_assets.orchestration.resources import Models
from darts_assets.tiles import TileStream

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


def build_segmentation(family: SceneFamily) -> dg.AssetsDefinition:
    """The segmentation of a family."""

    @dg.asset(
        **family.asset("segmentation"),
        kinds={"zarr", "torch"},
        code_version=CODE_VERSION,
        io_manager_key="tiles",
        op_tags=GPU_TAGS,
        ins={"tile": dg.AssetIn(family.key("preprocessed_tile"), input_manager_key="tiles")},
        description="Probability of a thaw slump for every pixel; the mean of the models' probabilities.",
    )
    def segmentation(
        context: dg.AssetExecutionContext, config: SegmentationConfig, models: Models, tile: xr.Dataset
    ) -> dg.MaterializeResult[TileStream]:
        with domain_call(context.log):
            from darts_assets.model import SegmentParameters
            from darts_assets.model.segment import precision_of, segment

            headers = models.headers
            context.log.info(f"{context.partition_key}: {', '.join(header.name for header in headers)}")
            chosen = SegmentParameters(**config.model_dump())
            stream = segment(tile, headers, chosen)
            precision = precision_of(headers, chosen)
        # Where and how fast numbers are computed does not change what they mean; their precision does.
        parameters: dict[str, Any] = {
            **config.model_dump(exclude={"device", "batch_size", "compile"}),
            "precision": precision,
            "models": {header.name: header.sha256 for header in headers},
            "model_files": {header.name: header.path.name for header in headers},
        }
        facts = provenance(CODE_VERSION, parameters, preprocessed_tile=tile.attrs["provenance"]["data_version"])
        return dg.MaterializeResult(
            value=stream,
            metadata=as_metadata({"models": parameters["models"], "provenance": facts}),
            data_version=dg.DataVersion(facts["data_version"]),
        )

    return segmentation
