"""Parameters of segmentation."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darts_assets.parameters import Parameters

Precision = Literal["fp32", "bf16", "fp16"]
"""Number formats of the computation: 24, 8 or 11 significant bits."""

PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]


class SegmentParameters(Parameters):
    """How a tile is cut into patches and run."""

    patch_size: int = Field(
        default=1024,
        ge=1,
        description="Side of a patch, pixels; a multiple of the model's stride (32 for most models).",
    )
    overlap: int = Field(
        default=256, ge=0, description="Pixels that neighbouring patches share and blend; at most half of `patch_size`."
    )
    batch_size: Any = Field(
        # Dagster's config has no type for `int | Literal["auto"]`
        default="auto",
        description="Patches per batch, or `auto`: as many as fit into the free memory of a GPU; on a CPU, as many as "
        "have the pixels of one patch of 1024.",
    )
    reflection: int = Field(
        default=0, ge=0, description="Pixels by which the tile is extended on each side, filled by reflection."
    )
    edge_padding: bool = Field(
        default=True,
        description="Extend by one more pixel, as DARTS does. Without it, a tile that the patches fit exactly needs "
        "fewer patches; results differ slightly from DARTS.",
    )
    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:1` or the index of a GPU.")
    keep_models: bool = Field(default=False, description="Also store each model's own probabilities.")
    keep_spread: bool = Field(
        default=False,
        description="Also store `model_spread`: the standard deviation of a pixel's probabilities between the models "
        "of an ensemble.",
    )
    precision: PrecisionSetting = Field(
        default="auto",
        description="Number format; `auto`: the fastest one on the GPU that keeps probabilities within 0.01.",
    )
    compile: bool = Field(
        default=False, description="Compile the models with `torch.compile`; takes minutes, once per process."
    )

    @field_validator("batch_size")
    @classmethod
    def _check_batch_size(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError(f"batch_size is {value!r}, expected `auto` or a number of at least 1")
        return value

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if 2 * self.overlap > self.patch_size:
            raise ValueError(f"overlap ({self.overlap}) exceeds half of patch_size ({self.patch_size})")
        return self

    @property
    def padding(self) -> int:
        """Pixels by which the tile is extended on each side."""
        return self.reflection + int(self.edge_padding)
