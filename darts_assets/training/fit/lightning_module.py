"""The Lightning module: model, loss, metrics and learning rate schedule."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from darts_assets.training.fit.augment import Augmenter, order
from darts_assets.training.fit.batches import Batch, Batches
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.losses import Loss
from darts_assets.training.fit.metrics import metrics
from darts_assets.training.fit.splits import Split
from darts_assets.training.fit.training_set import TrainingSet


class SegmentationModule(pl.LightningModule):
    """Trains `model` on the parts of a dataset."""

    def __init__(self, model: nn.Module, data: TrainingSet, parts: Split, parameters: FitParameters) -> None:
        super().__init__()
        self.model = model
        self.loss = Loss(parameters.losses)
        self.metrics = metrics("validation_")
        self._data, self._parts, self._hyperparameters = data, parts, parameters
        self._augmenter = Augmenter(tuple(parameters.augmentations), data.bands, data.terrain)

    def train_dataloader(self) -> Batches:
        """Batches of the current epoch in random order."""
        epoch, seed, size = self.current_epoch, self._hyperparameters.seed, self._hyperparameters.batch_size
        numbers = [int(number) for number in order(seed, epoch, self._parts.training)]
        # Drop the incomplete last batch: batch normalization cannot train on a batch of one.
        whole = len(numbers) // size * size or len(numbers)
        return Batches(self._data, numbers[:whole], size, self._hyperparameters.readers, self._augmenter, seed, epoch)

    def val_dataloader(self) -> Batches:
        """Batches of the validation part, without augmentation; each pixel of an image counts once."""
        return Batches(
            self._data,
            self._parts.validation,
            self._hyperparameters.batch_size,
            self._hyperparameters.readers,
            once=True,
        )

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, so that dropout does not depend on interruptions."""
        torch.manual_seed(self._hyperparameters.seed + self.current_epoch)

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        """The loss of a batch."""
        inputs, labels = batch
        loss: torch.Tensor = self.loss(self.model(inputs), labels)
        self.log("training_loss", loss, on_step=False, on_epoch=True, batch_size=len(inputs))
        return loss

    def validation_step(self, batch: Batch, number: int) -> None:
        """Update the validation metrics."""
        inputs, labels = batch
        logits = self.model(inputs)
        self.log("validation_loss", self.loss(logits, labels), batch_size=len(inputs))
        self.metrics.update(logits[:, 0].float().sigmoid(), labels.long())

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics of the epoch."""
        self.log_dict(dict(self.metrics.compute()))
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule over all epochs."""
        parameters = self._hyperparameters
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=parameters.learning_rate, weight_decay=parameters.weight_decay
        )
        steps = parameters.epochs * len(self.train_dataloader())
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=parameters.learning_rate, total_steps=max(steps, 2)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
