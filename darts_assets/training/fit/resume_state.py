"""What a fit remembers between epochs, so that one that was killed goes on where it was."""

import logging
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
    """The figures of every epoch, and the weights of the best one; both are part of Lightning's checkpoints.

    Attributes:
        history: a dictionary of figures per epoch, `epoch` (from 0) among them.
        best: the epoch with the best figure so far; None before the first ended.
        weights: the model's weights after that epoch, on the CPU.
        finished: whether training has ended: by patience or because all epochs are done.
    """

    def __init__(self, monitor: Monitor, patience: int, epochs: int) -> None:
        self._monitor, self._patience, self._epochs = f"validation_{monitor}", patience, epochs
        self._sign = 1 if monitor == "loss" else -1
        self.history: list[dict[str, float]] = []
        self.best: int | None = None
        self.weights: dict[str, torch.Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether no epoch is left, or none was better for `patience` epochs."""
        done = len(self.history)
        return done >= self._epochs or (self.best is not None and done - 1 - self.best >= self._patience)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes down the epoch's figures."""
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
        """What must be kept."""
        return {"history": self.history, "best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what was kept."""
        self.history, self.best, self.weights = (state_dict[name] for name in ("history", "best", "weights"))

    def _score(self, epoch: int) -> float:
        """Lower is better; an epoch whose figure is no number is the worst."""
        value = self._sign * self.history[epoch][self._monitor]
        return value if value == value else float("inf")


class KeepState(pl.Callback):
    """Keeps the whole state of training after every epoch, in one object that is replaced at once."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the state."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _KEY
            trainer.save_checkpoint(path, weights_only=False)  # optimizer and schedule too
            obstore.put(self._location.objects(), _KEY, path)


def fetch_state(location: StoreLocation, folder: Path) -> Path | None:
    """The kept state as a local file in `folder`; None if there is none."""
    if location.is_local and not location.path.exists():
        return None  # asking must not create the folder
    try:
        content = obstore.get(location.objects(), _KEY).bytes()
    except FileNotFoundError:
        return None
    path = folder / _KEY
    path.write_bytes(bytes(content))
    return path


def forget_state(location: StoreLocation) -> None:
    """Remove the kept state, if there is one."""
    if not location.is_local or location.path.exists():
        for key in list(location.keys()):
            obstore.delete(location.objects(), key)
