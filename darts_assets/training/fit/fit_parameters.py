"""Parameters of training: how a model is fitted."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darts_assets.model.architectures import keyword_problem
from darts_assets.training.split_parameters import SplitParameters

Monitor = Literal["loss", "iou", "f1", "auroc"]
FitPrecision = Literal["fp32", "bf16", "fp16"]

_FROM_THE_SET = {"in_channels", "classes", "activation", "aux_params"}


class FitParameters(SplitParameters):
    """How a model is trained; the defaults suit a few thousand patches and one GPU."""

    arch: str = Field("unet", description="Architecture of `segmentation_models_pytorch`.")
    encoder_name: str = Field("resnet34", description="Encoder of `segmentation_models_pytorch`.")
    encoder_weights: str | None = Field(
        None, description="Pretrained weights of the encoder, such as `imagenet`; they are downloaded."
    )
    architecture: dict[str, Any] = Field(
        {}, description="Further arguments of `segmentation_models_pytorch.create_model`."
    )
    losses: dict[str, float] = Field(
        {"bce": 1.0, "dice": 1.0},
        description="Name of a loss (`bce dice focal jaccard lovasz tversky`) -> its weight in the sum.",
    )
    augmentations: list[str] = Field(
        ["turn", "mirror", "brightness", "noise", "holes"],
        description="Random changes of the patches: of `turn mirror brightness blur noise holes`.",
    )
    epochs: int = Field(100, ge=1, description="Maximum number of passes over the training part.")
    patience: int = Field(10, ge=1, description="Epochs without a better `monitor` after which training stops.")
    monitor: Monitor = Field("loss", description="Validation metric that selects the best epoch.")
    batch_size: int = Field(8, ge=1, description="Patches per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Maximum of the one-cycle schedule.")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay of AdamW.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or the index of a GPU.")
    precision: FitPrecision = Field("fp32", description="Number format; `bf16` and `fp16` need a GPU.")
    readers: int = Field(2, ge=1, description="Threads that read patches ahead.")

    @field_validator("architecture")
    @classmethod
    def _check_architecture(cls, value: dict[str, Any]) -> dict[str, Any]:
        if reserved := _FROM_THE_SET & set(value):
            raise ValueError(f"architecture has {', '.join(sorted(reserved))}, which follow from the training set")
        return value

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if problem := keyword_problem(self.network):
            raise ValueError(problem)
        return self

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of `segmentation_models_pytorch.create_model`, without `in_channels` and `classes`."""
        named = {"arch": self.arch, "encoder_name": self.encoder_name, "encoder_weights": self.encoder_weights}
        return {**named, **self.architecture}
