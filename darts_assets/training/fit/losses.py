"""Loss functions of `segmentation_models_pytorch` by name, and weighted sums of them; label 2 is ignored.

Labels of several experts are shares in 0..1: the losses take them as the probability that a pixel is slump, except
Lovasz, which sorts pixels by class and takes the majority.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import segmentation_models_pytorch as smp
import torch
from torch import nn

from darts_assets.errors import SettingsError
from darts_assets.training.fit.training_set import IGNORE, majority


class _LovaszOfMajority(smp.losses.LovaszLoss):  # type: ignore[misc]
    def forward(self, y_pred: torch.Tensor, y_true: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = super().forward(y_pred, majority(y_true).to(y_true.dtype))
        return loss


@dataclass(frozen=True)
class ClassWeights:
    """Weights of the classes.

    Attributes:
        slump: weight of slump pixels in `bce`; that of background pixels is 1.
        focal_alpha: weight of slump pixels in `focal`, of background pixels 1 minus it; None: both 1.
        focal_gamma: focusing exponent of `focal`.
    """

    slump: float = 1.0
    focal_alpha: float | None = None
    focal_gamma: float = 2.0


LOSSES: dict[str, Callable[[ClassWeights], nn.Module]] = {
    "bce": lambda weights: smp.losses.SoftBCEWithLogitsLoss(
        ignore_index=IGNORE, pos_weight=None if weights.slump == 1 else torch.tensor(weights.slump)
    ),
    "dice": lambda _: smp.losses.DiceLoss("binary", ignore_index=IGNORE),
    "focal": lambda weights: smp.losses.FocalLoss(
        "binary", ignore_index=IGNORE, alpha=weights.focal_alpha, gamma=weights.focal_gamma
    ),
    "jaccard": lambda _: smp.losses.JaccardLoss("binary", ignore_index=IGNORE),
    "lovasz": lambda _: _LovaszOfMajority("binary", ignore_index=IGNORE),
    "tversky": lambda _: smp.losses.TverskyLoss("binary", ignore_index=IGNORE, alpha=0.3, beta=0.7),
}
"""The Tversky loss weights false negatives (beta) more than false positives (alpha), because slumps are rare."""


class Loss(nn.Module):
    """A weighted sum of losses.

    Args:
        weights: weight by name of the loss.
        classes: weights of the classes.

    Raises:
        SettingsError: for an unknown name, a weight that is not positive, or an empty mapping.
    """

    def __init__(self, weights: Mapping[str, float], classes: ClassWeights | None = None) -> None:
        super().__init__()
        unknown = sorted(set(weights) - set(LOSSES))
        if unknown:
            raise SettingsError(f"unknown loss {', '.join(unknown)}; expected {', '.join(LOSSES)}")
        if not weights or min(weights.values()) <= 0:
            raise SettingsError(f"losses are {dict(weights)}: expected at least one, with positive weights")
        self._weights = list(weights.values())
        self._parts = nn.ModuleList(LOSSES[name](classes or ClassWeights()) for name in weights)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of logits (n, 1, rows, columns), float32, for labels (n, rows, columns); 0 if all are ignored.

        Labels are 0, 1 and 2, or float32 shares of experts in 0..1, and 2.
        """
        if bool((labels == IGNORE).all()):
            return logits.sum() * 0  # the mean of no pixels is NaN in some losses
        target = labels[:, None].to(logits.dtype)
        return torch.stack(
            [weight * loss(logits, target) for weight, loss in zip(self._weights, self._parts, strict=True)]
        ).sum()
