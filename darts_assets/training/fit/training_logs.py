"""Logs of a training: the table `metrics.csv`, and the files of TensorBoard and Weights & Biases.

Loggers write to a local folder, which is copied to the store after each epoch; a training that resumes adds files.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import obstore
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.resume_state import Progress


def check_loggers(names: Sequence[str]) -> None:
    """Check that the packages of loggers, which have the same names, are installed.

    Raises:
        SettingsError: with the extra that has the package.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise SettingsError(f"logger {missing[0]} is not installed: pip install 'darts_assets[{missing[0]}]'")


def loggers_of(parameters: FitParameters, folder: Path, name: str, version: str) -> list[Logger]:
    """The loggers of Lightning.

    Weights & Biases writes a folder for `wandb sync`, unless `WANDB_MODE=online` is set.

    Args:
        parameters: names of the loggers, project and team.
        folder: local folder.
        name: name of the model.
        version: id of the training.
    """
    settings = parameters.model_dump(mode="json", exclude={"wandb_entity"})
    loggers: list[Logger] = []
    if "tensorboard" in parameters.loggers:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if "wandb" in parameters.loggers:
        online = os.environ.get("WANDB_MODE", "offline") == "online"
        loggers.append(
            WandbLogger(
                name=name, save_dir=folder, id=version, project=parameters.wandb_project, offline=not online,
                entity=parameters.wandb_entity, config=settings, resume="allow",
            )
        )  # fmt: skip
    return loggers


class StoreLogs(pl.Callback):
    """Writes `metrics.csv` after each epoch, and copies changed files of the loggers.

    Args:
        progress: metrics of the epochs; its callback precedes this one.
        folder: local folder of the loggers.
        location: folder in the store.
    """

    def __init__(self, progress: Progress, folder: Path, location: StoreLocation) -> None:
        self._progress, self._folder, self._location = progress, folder, location
        self._copied: dict[str, tuple[int, int]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the logs."""
        if trainer.is_global_zero:
            self.copy()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the files of the loggers, and copy them."""
        for logger in trainer.loggers:
            logger.finalize("success")
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()
        if trainer.is_global_zero:
            self.copy()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Copy what the loggers have written."""
        self.on_fit_end(trainer, pl_module)

    def copy(self) -> None:
        """Write the table, and copy the files that have changed."""
        objects = self._location.objects()
        obstore.put(objects, "metrics.csv", pd.DataFrame(self._progress.history).to_csv(index=False).encode())
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink()):
            name, stat = str(path.relative_to(self._folder)), path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            if self._copied.get(name) != state:
                obstore.put(objects, name, path)
                self._copied[name] = state
