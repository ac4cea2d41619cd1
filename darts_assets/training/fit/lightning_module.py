"""The Lightning module: model, loss, metrics and learning rate schedule."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from darts_assets.training.fit.augment import Augmenter, order
from darts_assets.training.fit.batches import Batch, Batches
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.losses import ClassWeights, Loss
from darts_assets.training.fit.metrics import metrics
from darts_assets.training.fit.splits import Split
from darts_assets.training.fit.training_set import TrainingSet, majority


class SegmentationModule(pl.LightningModule):
    """Trains `model` on the parts of a dataset."""

    def __init__(self, model: nn.Module, data: TrainingSet, parts: Split, parameters: FitParameters) -> None:
        super().__init__()
        self.model = model
        classes = ClassWeights(parameters.slump_weight, parameters.focal_loss_alpha, parameters.focal_loss_gamma)
        self.loss = Loss(parameters.losses, classes)
        self.metrics = metrics("validation_")
        self._data, self._parts, self._hyperparameters = data, parts, parameters
        self._augmenter = Augmenter(tuple(parameters.augmentations), data.bands, data.terrain)
        if parameters.freeze_encoder:
            self.model.get_submodule("encoder").requires_grad_(False)

    def train_dataloader(self) -> Batches:
        """Batches of the current epoch in random order."""
        epoch, seed, size = self.current_epoch, self._hyperparameters.seed, self._hyperparameters.batch_size
        numbers = [int(number) for number in order(seed, epoch, self._parts.training)]
        # Drop the incomplete last batch: batch normalization cannot train on a batch of one.
        together = size * self._hyperparameters.devices
        whole = len(numbers) // together * together or len(numbers)
        return Batches(
            self._data, numbers[:whole], size, self._hyperparameters.readers, self._augmenter, seed, epoch,
            share=self._share,
        )  # fmt: skip

    def val_dataloader(self, everything: bool = False) -> Batches:
        """Batches of the validation part, without augmentation; each pixel of an image counts once.

        `everything`: all batches, not those of this process only.
        """
        return Batches(
            self._data,
            self._parts.validation,
            self._hyperparameters.batch_size,
            self._hyperparameters.readers,
            once=True,
            share=(0, 1) if everything else self._share,
        )

    @property
    def _share(self) -> tuple[int, int]:
        return self.global_rank, self._hyperparameters.devices

    def on_fit_start(self) -> None:
        """Set the number of threads in processes of their own."""
        if self.device.type == "cpu":
            torch.set_num_threads(self._hyperparameters.threads)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, so that dropout does not depend on interruptions; a frozen encoder keeps its statistics."""
        torch.manual_seed(self._hyperparameters.seed + self.current_epoch)
        if self._hyperparameters.freeze_encoder:
            self.model.get_submodule("encoder").eval()

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        """The loss of a batch."""
        inputs, labels = batch
        loss: torch.Tensor = self.loss(self.model(inputs), labels)
        self.log("training_loss", loss, on_step=False, on_epoch=True, batch_size=len(inputs), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, number: int) -> None:
        """Update the validation metrics."""
        inputs, labels = batch
        logits = self.model(inputs)
        self.log("validation_loss", self.loss(logits, labels), batch_size=len(inputs), sync_dist=True)
        self.metrics.update(logits[:, 0].float().sigmoid(), majority(labels))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics of the epoch."""
        self.log_dict(dict(self.metrics.compute()))
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW with the schedule of the parameters; its steps are those of the optimizer."""
        parameters = self._hyperparameters
        trained = [weights for weights in self.model.parameters() if weights.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=parameters.learning_rate, weight_decay=parameters.weight_decay)
        per_epoch = -(-len(self.train_dataloader()) // parameters.accumulate_grad_batches)
        schedule = _schedule(optimizer, parameters, max(parameters.epochs * per_epoch, 2), per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _schedule(
    optimizer: torch.optim.Optimizer, parameters: FitParameters, steps: int, per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    match parameters.schedule:
        case "onecycle":
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=parameters.learning_rate, total_steps=steps)
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        case "exponential":
            return torch.optim.lr_scheduler.StepLR(optimizer, step_size=per_epoch, gamma=parameters.gamma)
        case "constant":
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1, total_iters=0)
