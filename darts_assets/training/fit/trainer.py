"""From a training set to a checkpoint, by Lightning.

Randomness is a function of seed, epoch and patch, not of what was drawn before: two runs of one seed on the CPU give
the same weights, and so does a run that was killed and goes on after the last epoch that it ended.
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
from darts_assets.model.checkpoint import save_checkpoint
from darts_assets.model.device import pick_device
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.lightning_module import SegmentationModule
from darts_assets.training.fit.resume_state import KeepState, Progress, fetch_state
from darts_assets.training.fit.splits import Split, split
from darts_assets.training.fit.training_set import TrainingSet, check_patch_size, model_stride

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it advertises

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class FitResult:
    """What came of a fit.

    Attributes:
        header: of the checkpoint that was written: the weights of the best epoch.
        parts: the rows of the set that trained, validated, and were kept for a test.
        history: figures of every epoch.
        best: the epoch (from 0) of the weights.
        resumed: epochs that an earlier run had done.
        fingerprint: of set, parts and parameters; the name of its state.
    """

    header: CheckpointHeader
    parts: Split
    history: list[dict[str, float]]
    best: int
    resumed: int
    fingerprint: str


def fit(data: TrainingSet, parameters: FitParameters, path: Path, state: StoreLocation | None = None) -> FitResult:
    """Train a model and write its checkpoint.

    Args:
        data: the set.
        parameters: how.
        path: the checkpoint to write.
        state: where the state is kept after every epoch, below a name of its own for each set and parameters; a fit
            that finds its state there goes on with it. None keeps nothing.

    Raises:
        SettingsError: if the parameters make no sense for this set or this machine.
    """
    device = pick_device(parameters.device)
    if parameters.precision != "fp32" and device.type != "cuda":
        raise SettingsError(f"precision {parameters.precision} needs a GPU")
    architecture = {**parameters.network, "in_channels": len(data.bands), "classes": 1}
    check_patch_size(data, model_stride(architecture))
    parts = split(data.samples, parameters)
    if not parts.training or not parts.validation:
        raise SettingsError(f"training set {data.location}: nothing is left to train on, or to validate with")
    logger.info("%d patches train, %d validate, %d test", *map(len, (parts.training, parts.validation, parts.test)))
    name = fingerprint(data, parts, parameters)
    # Other random numbers of this process go on as if nothing had happened.
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
    return FitResult(header, parts, progress.history, progress.best, resumed, name)


def fingerprint(data: TrainingSet, parts: Split, parameters: FitParameters) -> str:
    """What a fit depends on, in 16 hexadecimal digits: patches and parameters, not where and how fast it runs."""
    facts = [data.digest, asdict(parts), _plain(parameters)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _create(architecture: dict[str, Any]) -> torch.nn.Module:
    try:
        model: torch.nn.Module = smp.create_model(**architecture)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        words = " ".join(map(str, error.args))
        raise SettingsError(f"architecture {architecture} cannot be built: {words}") from error
    return model


def _train(
    module: SegmentationModule,
    parameters: FitParameters,
    device: torch.device,
    state: StoreLocation | None,
    scratch: Path,
) -> tuple[Progress, int]:
    """What training came to, and how many of its epochs an earlier run had done."""
    progress = Progress(parameters.monitor, parameters.patience, parameters.epochs)
    kept = None if state is None else fetch_state(state, scratch)
    if kept is not None:
        content = torch.load(kept, map_location="cpu", weights_only=True)
        progress.load_state_dict(content["callbacks"][progress.state_key])
        logger.info("%d epochs were done before", len(progress.history))
    resumed = len(progress.history)
    if progress.finished:
        return progress, resumed
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=_PRECISIONS[parameters.precision],
        max_epochs=parameters.epochs,
        callbacks=[progress, *([] if state is None else [KeepState(state)])],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=scratch,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Batches are read by threads; advice about the workers of a DataLoader does not apply.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(module, ckpt_path=kept, weights_only=True)
    return progress, resumed


def _record(data: TrainingSet, parameters: FitParameters, progress: Progress) -> dict[str, Any]:
    """What the checkpoint says of its training, plain data."""
    return {
        "parameters": _plain(parameters),
        "data": data.digest,
        "epochs": len(progress.history),
        "best": progress.history[progress.best or 0],
    }


def _plain(parameters: FitParameters) -> dict[str, Any]:
    """The parameters that affect the result, JSON types, as checkpoints record them."""
    named = parameters.model_dump(exclude={"device", "readers", "arch", "encoder_name", "encoder_weights"})
    split = {"by": named.pop("split_by"), **{name: named.pop(name) for name in ("folds", "fold", "test")}}
    plain = {**named, "architecture": parameters.network, "split": {**split, "seed": parameters.seed}}
    return dict(json.loads(json.dumps(plain)))
