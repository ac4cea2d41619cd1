"""Loss functions of `segmentation_models_pytorch` by name, and weighted sums of them; label 2 is ignored."""

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
import torch
from torch import nn

from darts_assets.errors import SettingsError
from darts_assets.training.fit.training_set import IGNORE

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "bce": lambda: smp.losses.SoftBCEWithLogitsLoss(ignore_index=IGNORE),
    "dice": lambda: smp.losses.DiceLoss("binary", ignore_index=IGNORE),
    "focal": lambda: smp.losses.FocalLoss("binary", ignore_index=IGNORE),
    "jaccard": lambda: smp.losses.JaccardLoss("binary", ignore_index=IGNORE),
    "lovasz": lambda: smp.losses.LovaszLoss("binary", ignore_index=IGNORE),
    "tversky": lambda: smp.losses.TverskyLoss("binary", ignore_index=IGNORE, alpha=0.3, beta=0.7),
}
"""The Tversky loss weights false negatives (beta) more than false positives (alpha), because slumps are rare."""


class Loss(nn.Module):
    """A weighted sum of losses.

    Args:
        weights: weight by name of the loss.

    Raises:
        SettingsError: for an unknown name, a weight that is not positive, or an empty mapping.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        unknown = sorted(set(weights) - set(LOSSES))
        if unknown:
            raise SettingsError(f"unknown loss {', '.join(unknown)}; expected {', '.join(LOSSES)}")
        if not weights or min(weights.values()) <= 0:
            raise SettingsError(f"losses are {dict(weights)}: expected at least one, with positive weights")
        self._parts = [(weight, LOSSES[name]()) for name, weight in weights.items()]

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of logits (n, 1, rows, columns), float32, for labels (n, rows, columns); 0 if all are ignored."""
        if bool((labels == IGNORE).all()):
            return logits.sum() * 0  # the mean of no pixels is NaN in some losses
        target = labels[:, None].to(logits.dtype)
        return torch.stack([weight * loss(logits, target) for weight, loss in self._parts]).sum()
