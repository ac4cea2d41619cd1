"""Parameters of training: how a model is fitted."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darts_assets.model.architectures import keyword_problem
from darts_assets.training.split_parameters import SplitParameters

Monitor = Literal["loss", "iou", "f1", "auroc"]
FitPrecision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["onecycle", "cosine", "exponential", "constant"]
LOGGERS = ("tensorboard", "wandb")

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
    continue_from_checkpoint: str | None = Field(
        None,
        description="Checkpoint whose network and weights training starts from: a path, `s3://bucket/key`, or the name "
        "of a model in the store. `arch`, `encoder_name` and `architecture` then follow from it.",
    )
    freeze_encoder: bool = Field(False, description="Train the decoder only; the encoder keeps its weights.")
    losses: dict[str, float] = Field(
        {"bce": 1.0, "dice": 1.0},
        description="Name of a loss (`bce dice focal jaccard lovasz tversky`) -> its weight in the sum.",
    )
    slump_weight: float = Field(
        1.0, gt=0, description="Weight of slump pixels in the loss `bce`; background pixels have 1."
    )
    focal_loss_alpha: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Weight of slump pixels in the loss `focal`; background pixels have the rest of 1.",
    )
    focal_loss_gamma: float = Field(2.0, ge=0, description="Focusing exponent of the loss `focal`.")
    augmentations: list[str] = Field(
        ["turn", "mirror", "brightness", "noise", "holes"],
        description="Random changes of the patches: of `turn mirror brightness blur noise holes`.",
    )
    epochs: int = Field(100, ge=1, description="Maximum number of passes over the training part.")
    patience: int = Field(10, ge=1, description="Epochs without a better `monitor` after which training stops.")
    monitor: Monitor = Field("loss", description="Validation metric that selects the best epoch.")
    batch_size: int = Field(8, ge=1, description="Patches per batch and device.")
    accumulate_grad_batches: int = Field(
        1, ge=1, description="Batches whose gradients are added up before the weights change."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Largest learning rate of the schedule.")
    schedule: Schedule = Field(
        "onecycle",
        description="Learning rate: `onecycle` rises and falls over all epochs, `cosine` falls to 0 over all epochs, "
        "`exponential` is multiplied by `gamma` after each epoch, `constant`.",
    )
    gamma: float = Field(0.9, gt=0, le=1, description="Factor of the schedule `exponential`.")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay of AdamW.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or the index of a GPU.")
    devices: int = Field(
        1, ge=1, description="Processes that train together (DDP), each with a GPU, or on the CPU with `device: cpu`."
    )
    threads: int = Field(
        1, ge=1, description="Threads of each operation on a CPU. Rounding, and so the model, depends on it."
    )
    precision: FitPrecision = Field("fp32", description="Number format (mixed precision); `fp16` needs a GPU.")
    readers: int = Field(2, ge=1, description="Threads that read patches ahead.")
    calibrate: bool = Field(
        True, description="Fit the temperature of the probabilities on the validation part; segmentation applies it."
    )
    loggers: list[str] = Field(
        [], description="Loggers beside the table `metrics.csv`: `tensorboard`, `wandb`; each needs its extra."
    )
    wandb_project: str = Field("darts_assets", description="Project of Weights & Biases.")
    wandb_entity: str | None = Field(None, description="Team or user of Weights & Biases.")

    @field_validator("loggers")
    @classmethod
    def _check_loggers(cls, names: list[str]) -> list[str]:
        if unknown := sorted(set(names) - set(LOGGERS)):
            raise ValueError(f"unknown logger {', '.join(unknown)}; expected {', '.join(LOGGERS)}")
        return names

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

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        named = {"arch", "encoder_name", "encoder_weights", "architecture"} & self.model_fields_set
        # Dagster sets every field of a config, so that only values other than the defaults count.
        differing = [name for name in sorted(named) if getattr(self, name) != type(self).model_fields[name].default]
        if self.continue_from_checkpoint and differing:
            raise ValueError(
                f"{', '.join(differing)} cannot be set with continue_from_checkpoint, which has the network"
            )
        if self.freeze_encoder and not self.continue_from_checkpoint and not self.encoder_weights:
            raise ValueError(
                "freeze_encoder needs continue_from_checkpoint or encoder_weights: untrained weights are noise"
            )
        return self

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of `segmentation_models_pytorch.create_model`, without `in_channels` and `classes`."""
        named = {"arch": self.arch, "encoder_name": self.encoder_name, "encoder_weights": self.encoder_weights}
        return {**named, **self.architecture}
