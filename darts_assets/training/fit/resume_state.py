"""State of a training, stored after each epoch, so that an interrupted training can resume."""

import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import obstore
import pytorch_lightning as pl
import torch

from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import Monitor

logger = logging.getLogger(__name__)

_KEY = "state.ckpt"


class Progress(pl.Callback):
    """Metrics of each epoch and weights of the best one; both are part of Lightning's checkpoints.

    Attributes:
        history: metrics per epoch, including `epoch` (from 0).
        best: best epoch so far; None before the end of the first.
        weights: weights of the model after the best epoch, on the CPU.
        finished: whether training has ended.
    """

    def __init__(self, monitor: Monitor, patience: int, epochs: int) -> None:
        self._monitor, self._patience, self._epochs = f"validation_{monitor}", patience, epochs
        self._sign = 1 if monitor == "loss" else -1
        self.history: list[dict[str, float]] = []
        self.best: int | None = None
        self.weights: dict[str, torch.Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or there was no improvement for `patience` epochs."""
        done = len(self.history)
        return done >= self._epochs or (self.best is not None and done - 1 - self.best >= self._patience)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the metrics of the epoch."""
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.history.append({"epoch": float(trainer.current_epoch), **figures})
        if self.best is None or self._score(len(self.history) - 1) < self._score(self.best):
            self.best = len(self.history) - 1
            model = pl_module.get_submodule("model")
            self.weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        logger.info("epoch %d of %d: %s", len(self.history), self._epochs, shown)
        trainer.should_stop = trainer.should_stop or self.finished

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {"history": self.history, "best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.history, self.best, self.weights = (state_dict[name] for name in ("history", "best", "weights"))

    def _score(self, epoch: int) -> tuple[float, float]:
        """Lower is better; an undefined value is worst, and of several, the one with the lowest loss is best."""
        metrics = self.history[epoch]
        value = self._sign * metrics[self._monitor]
        return (math.inf, metrics["validation_loss"]) if math.isnan(value) else (value, 0.0)


class StoreState(pl.Callback):
    """Stores the whole state of the training after each epoch in one object, replaced atomically."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the state."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _KEY
            trainer.save_checkpoint(path, weights_only=False)  # optimizer and schedule too; all processes take part
            if trainer.is_global_zero:
                obstore.put(self._location.objects(), _KEY, path)


def fetch_state(location: StoreLocation, folder: Path) -> Path | None:
    """Copy the stored state to `folder`; None if there is none."""
    if location.is_local and not location.path.exists():
        return None  # reading must not create the folder
    try:
        content = obstore.get(location.objects(), _KEY).bytes()
    except FileNotFoundError:
        return None
    path = folder / _KEY
    path.write_bytes(bytes(content))
    return path


def forget_state(location: StoreLocation) -> None:
    """Remove the stored state."""
    if not location.is_local or location.path.exists():
        for key in list(location.keys()):
            obstore.delete(location.objects(), key)
