"""Train a model on a dataset with Lightning and write its checkpoint.

Random numbers depend on seed, epoch and patch only. Two runs on the CPU with one seed give the same weights, also if
one of them was interrupted and resumed after its last complete epoch.
"""

import hashlib
import json
import logging
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch

from darts_assets.errors import SettingsError
from darts_assets.model import CheckpointHeader
from darts_assets.model.device import pick_device
from darts_assets.model.networks import save_checkpoint
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.lightning_module import SegmentationModule
from darts_assets.training.fit.resume_state import Progress, StoreState, fetch_state
from darts_assets.training.fit.splits import Split, folds_of
from darts_assets.training.fit.training_set import TrainingSet, check_patch_size, model_stride

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # hints and advertisements

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class FitResult:
    """Result of a training.

    Attributes:
        header: header of the checkpoint, which has the weights of the best epoch.
        parts: rows of the dataset for training, validation and test.
        choices: one sentence for each choice of the split that was made from the data.
        history: metrics of each epoch.
        best: best epoch, from 0.
        resumed: number of epochs of earlier, interrupted runs.
        fingerprint: hash of dataset, parts and parameters; name of the stored state.
    """

    header: CheckpointHeader
    parts: Split
    choices: tuple[str, ...]
    history: list[dict[str, float]]
    best: int
    resumed: int
    fingerprint: str


def fit(data: TrainingSet, parameters: FitParameters, path: Path, state: StoreLocation | None = None) -> FitResult:
    """Train a model and write its checkpoint.

    Args:
        data: the dataset.
        parameters: hyperparameters.
        path: path of the checkpoint.
        state: folder for the state after each epoch, in a subfolder per dataset and parameters; a training with a
            stored state resumes. None: no state is stored.

    Raises:
        SettingsError: if the parameters do not suit this dataset or machine.
    """
    device = pick_device(parameters.device)
    if parameters.precision != "fp32" and device.type != "cuda":
        raise SettingsError(f"precision {parameters.precision} needs a GPU")
    architecture = {**parameters.network, "in_channels": len(data.bands), "classes": 1}
    check_patch_size(data, model_stride(architecture))
    folds = folds_of(data.samples, parameters)
    parts = folds.split(parameters.fold)
    for choice in folds.choices:
        logger.info("%s", choice)
    logger.info(
        "%d patches for training, %d for validation, %d for test",
        *map(len, (parts.training, parts.validation, parts.test)),
    )
    name = fingerprint(data, parts, parameters)
    # Leave the global random state of the process unchanged.
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(parameters.seed)
        module = SegmentationModule(_create(architecture), data, parts, parameters)
        own = None if state is None else state.child(name)
        progress, resumed = _train(module, parameters, device, own, Path(scratch))
    assert progress.best is not None
    module.model.load_state_dict(progress.weights)
    header = save_checkpoint(
        path, module.model.cpu().eval(), {**architecture, "encoder_weights": None}, data.bands, data.terrain,
        data.normalization, training=_record(data, parameters, progress),
    )  # fmt: skip
    return FitResult(header, parts, folds.choices, progress.history, progress.best, resumed, name)


def fingerprint(data: TrainingSet, parts: Split, parameters: FitParameters) -> str:
    """Hash (16 hexadecimal digits) of patches and parameters, without device and number of readers."""
    facts = [data.digest, asdict(parts), _plain(parameters)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _create(architecture: dict[str, Any]) -> torch.nn.Module:
    try:
        model: torch.nn.Module = smp.create_model(**architecture)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(map(str, error.args))
        raise SettingsError(f"architecture {architecture} cannot be built: {reason}") from error
    return model


def _train(
    module: SegmentationModule,
    parameters: FitParameters,
    device: torch.device,
    state: StoreLocation | None,
    scratch: Path,
) -> tuple[Progress, int]:
    """Train, from the stored state if there is one; returns the progress and the number of resumed epochs."""
    progress = Progress(parameters.monitor, parameters.patience, parameters.epochs)
    stored = None if state is None else fetch_state(state, scratch)
    if stored is not None:
        content = torch.load(stored, map_location="cpu", weights_only=True)
        progress.load_state_dict(content["callbacks"][progress.state_key])
        logger.info("resuming after %d epochs", len(progress.history))
    resumed = len(progress.history)
    if progress.finished:
        return progress, resumed
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=_PRECISIONS[parameters.precision],
        max_epochs=parameters.epochs,
        callbacks=[progress, *([] if state is None else [StoreState(state)])],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=scratch,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Batches are read by threads; hints about the workers of a DataLoader do not apply.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(module, ckpt_path=stored, weights_only=True)
    return progress, resumed


def _record(data: TrainingSet, parameters: FitParameters, progress: Progress) -> dict[str, Any]:
    """Record of the training for the checkpoint, plain data."""
    return {
        "parameters": _plain(parameters),
        "data": data.digest,
        "epochs": len(progress.history),
        "best": progress.history[progress.best or 0],
    }


def _plain(parameters: FitParameters) -> dict[str, Any]:
    """The parameters that affect the result, JSON types, as checkpoints record them."""
    named = parameters.model_dump(exclude={"device", "readers", "arch", "encoder_name", "encoder_weights"})
    kept = ("folds", "fold", "test", "distance", "block_size")
    split = {"by": named.pop("split_by"), **{name: named.pop(name) for name in kept}}
    plain = {**named, "architecture": parameters.network, "split": {**split, "seed": parameters.seed}}
    return dict(json.loads(json.dumps(plain)))
