"""How a model is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from darts_assets.errors import SettingsError
from darts_assets.training.fit.splits import SplitParameters

Monitor = Literal["loss", "iou", "f1", "auroc"]
FitPrecision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class FitParameters:
    """How a model is trained; the defaults suit a few thousand patches and one GPU.

    Attributes:
        architecture: keyword arguments of `segmentation_models_pytorch.create_model`, without `in_channels` and
            `classes`; `encoder_weights` other than None are downloaded.
        losses: name of a loss -> its weight in the sum.
        augmentations: names of random changes.
        split: which patches train, validate and test.
        epochs: the most passes over the training part.
        patience: epochs without a better `monitor` after which training stops.
        monitor: the validation's figure that says which epoch was best.
        batch_size: patches of a step.
        learning_rate: the highest of the one-cycle schedule.
        weight_decay: of AdamW.
        seed: of initial weights, order and changes.
        device: `auto`, `cpu`, `cuda` or an index.
        precision: of the computation; `bf16` and `fp16` need a GPU.
        readers: threads that read patches ahead.

    Raises:
        SettingsError: for a value outside its range.
    """

    architecture: Mapping[str, Any] = field(
        default_factory=lambda: {"arch": "unet", "encoder_name": "resnet34", "encoder_weights": None}
    )
    losses: Mapping[str, float] = field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    augmentations: tuple[str, ...] = ("turn", "mirror", "brightness", "noise", "holes")
    split: SplitParameters = field(default_factory=SplitParameters)
    epochs: int = 100
    patience: int = 10
    monitor: Monitor = "loss"
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    seed: int = 0
    device: str = "auto"
    precision: FitPrecision = "fp32"
    readers: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "readers"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise SettingsError("learning_rate must be above 0, and weight_decay not below")
        if self.monitor not in get_args(Monitor):
            raise SettingsError(f"monitor is {self.monitor!r}, expected one of {', '.join(get_args(Monitor))}")
        if self.precision not in get_args(FitPrecision):
            raise SettingsError(f"precision is {self.precision!r}, expected {', '.join(get_args(FitPrecision))}")
        reserved = {"in_channels", "classes", "activation", "aux_params"} & set(self.architecture)
        if reserved or "arch" not in self.architecture:
            raise SettingsError(
                "architecture needs `arch`, and in_channels, classes, activation and aux_params are not its to say"
            )
