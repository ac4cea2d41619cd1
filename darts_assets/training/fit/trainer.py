"""Train a model on a dataset with Lightning and write its checkpoint.

Random numbers depend on seed, epoch and patch only. Two runs on the CPU with one seed give the same weights, also if
one of them was interrupted and resumed after its last complete epoch. Operations use `threads` threads (one by
default), whatever the process uses: threads add up gradients in another order, and training amplifies the rounding.
"""

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from darts_assets.errors import SettingsError
from darts_assets.model import CheckpointHeader
from darts_assets.model.device import pick_device
from darts_assets.model.networks import save_checkpoint
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.baselines import Baseline, as_records, fit_baselines
from darts_assets.training.fit.calibration import fitted_temperature
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.lightning_module import SegmentationModule
from darts_assets.training.fit.resume_state import Progress, StoreState, fetch_state
from darts_assets.training.fit.splits import Split, folds_of
from darts_assets.training.fit.starting_point import architecture_of, network_of, new_network
from darts_assets.training.fit.training_logs import StoreLogs, check_loggers, loggers_of
from darts_assets.training.fit.training_set import TrainingSet, check_patch_size, model_stride

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # hints and advertisements

OnEpoch = Callable[[list[dict[str, float]], int], None]
"""Called after each epoch with the metrics of all epochs and the best one; it may raise to end the training."""

_LOGGING = {"loggers", "wandb_project", "wandb_entity", "continue_from_checkpoint"}
"""Parameters that change no weights, or (the last one) are recorded by their content."""

_ADDED = {
    "freeze_encoder", "slump_weight", "focal_loss_alpha", "focal_loss_gamma", "accumulate_grad_batches", "schedule",
    "gamma", "devices", "threads", "calibrate",
}  # fmt: skip
"""Parameters that earlier checkpoints lack; recorded if they differ from the default, which is what was done before."""

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
        baselines: rules fitted to the training part.
    """

    header: CheckpointHeader
    parts: Split
    choices: tuple[str, ...]
    history: list[dict[str, float]]
    best: int
    resumed: int
    fingerprint: str
    baselines: list[Baseline]


def fit(
    data: TrainingSet,
    parameters: FitParameters,
    path: Path,
    state: StoreLocation | None = None,
    *,
    start: CheckpointHeader | None = None,
    logs: StoreLocation | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train a model and write its checkpoint.

    Args:
        data: the dataset.
        parameters: hyperparameters.
        path: path of the checkpoint.
        state: folder for the state after each epoch, in a subfolder per dataset and parameters; a training with a
            stored state resumes. None: no state is stored.
        start: the checkpoint of `continue_from_checkpoint`.
        logs: folder for `metrics.csv` and the files of the loggers, in a subfolder as for the state; None: no logs.
        on_epoch: called after each epoch; not with several devices, whose processes are others.

    Raises:
        SettingsError: if the parameters do not suit this dataset or machine.
    """
    device = pick_device(parameters.device)
    if parameters.precision == "fp16" and device.type != "cuda":
        raise SettingsError("precision fp16 needs a GPU; on a CPU there are fp32 and bf16")
    if device.type == "cuda" and parameters.devices > torch.cuda.device_count():
        raise SettingsError(f"devices is {parameters.devices}, but this machine has {torch.cuda.device_count()} GPU(s)")
    check_loggers(parameters.loggers)
    architecture = architecture_of(parameters, data, start)
    check_patch_size(data, model_stride(architecture))
    folds = folds_of(data.samples, parameters)
    parts = folds.split(parameters.fold)
    for choice in folds.choices:
        logger.info("%s", choice)
    if min(len(parts.training), len(parts.validation)) < parameters.devices:
        raise SettingsError(f"training set {data.location}: fewer patches for training or validation than devices")
    logger.info(
        "%d patches for training, %d for validation, %d for test",
        *map(len, (parts.training, parts.validation, parts.test)),
    )
    name = fingerprint(data, parts, parameters, start)
    # Leave the global random state of the process unchanged.
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as scratch, _threads(parameters.threads):
        torch.manual_seed(parameters.seed)
        model = new_network(architecture) if start is None else network_of(start, architecture, data)
        module = SegmentationModule(model, replace(data), parts, parameters)
        own = None if state is None else state.child(name)
        log = None if logs is None else logs.child(name)
        run = _Run(module, parameters, device, own, Path(scratch), log, path.stem, name, on_epoch)
        progress, resumed = run.train()
        assert progress.best is not None
        module.model.load_state_dict(progress.weights)
        temperature = fitted_temperature(_validation_logits(module)) if parameters.calibrate else None
    baselines = fit_baselines(data, parts.training)
    header = save_checkpoint(
        path, module.model.cpu().eval(), {**architecture, "encoder_weights": None}, data.bands, data.terrain,
        data.normalization, temperature, training=_record(data, parameters, progress, start, baselines),
    )  # fmt: skip
    return FitResult(header, parts, folds.choices, progress.history, progress.best, resumed, name, baselines)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _validation_logits(module: SegmentationModule) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels of the batches of the validation part, on the CPU."""
    model = module.model.eval()
    device = next(model.parameters()).device
    for inputs, labels in module.val_dataloader(everything=True):
        yield model(inputs.to(device))[:, 0].float().cpu(), labels


def fingerprint(
    data: TrainingSet, parts: Split, parameters: FitParameters, start: CheckpointHeader | None = None
) -> str:
    """Hash (16 hexadecimal digits) of patches, parameters and checkpoint, without what does not change the weights."""
    facts = [data.digest, asdict(parts), _plain(parameters), *([] if start is None else [start.sha256])]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Run:
    """One training with Lightning; see `fit`."""

    module: SegmentationModule
    parameters: FitParameters
    device: torch.device
    state: StoreLocation | None
    scratch: Path
    logs: StoreLocation | None
    name: str
    version: str
    on_epoch: OnEpoch | None

    def train(self) -> tuple[Progress, int]:
        """Train, from the stored state if there is one; returns the progress and the number of resumed epochs."""
        parameters, several = self.parameters, self.parameters.devices > 1
        progress = Progress(parameters.monitor, parameters.patience, parameters.epochs)
        # Processes of DDP hand over their result by the state.
        state = self.state or (StoreLocation(str(self.scratch / "state")) if several else None)
        stored = self._restored(state, progress)
        resumed = len(progress.history)
        if resumed:
            logger.info("resuming after %d epochs", resumed)
        if progress.finished:
            return progress, resumed
        log_folder = self.scratch / "logs"
        log_folder.mkdir()
        loggers = [] if self.logs is None else loggers_of(parameters, log_folder, self.name, self.version)
        callbacks: list[pl.Callback] = [progress]
        if self.logs is not None:
            callbacks.append(StoreLogs(progress, log_folder, self.logs))
        if state is not None:
            callbacks.append(StoreState(state))
        if self.on_epoch is not None and not several:
            report = self.on_epoch
            callbacks.append(
                pl.callbacks.LambdaCallback(on_train_epoch_end=lambda *_: report(progress.history, progress.best or 0))
            )
        trainer = pl.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=[self.device.index or 0] if self.device.type == "cuda" and not several else parameters.devices,
            strategy="ddp_spawn_find_unused_parameters_true" if several else "auto",
            use_distributed_sampler=False,  # `Batches` shares the patches
            precision=_PRECISIONS[parameters.precision],
            accumulate_grad_batches=parameters.accumulate_grad_batches,
            max_epochs=parameters.epochs,
            callbacks=callbacks,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=loggers,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.scratch,
        )  # fmt: skip
        with warnings.catch_warnings():
            # Batches are read by threads; hints about the workers of a DataLoader do not apply.
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer.fit(self.module, ckpt_path=stored, weights_only=True)
        if several:
            self._restored(state, progress)
        return progress, resumed

    def _restored(self, state: StoreLocation | None, progress: Progress) -> Path | None:
        """Load the stored progress; returns the file of the stored state."""
        stored = None if state is None else fetch_state(state, self.scratch)
        if stored is not None:
            content = torch.load(stored, map_location="cpu", weights_only=True)
            progress.load_state_dict(content["callbacks"][progress.state_key])
        return stored


def _record(
    data: TrainingSet,
    parameters: FitParameters,
    progress: Progress,
    start: CheckpointHeader | None,
    baselines: list[Baseline],
) -> dict[str, Any]:
    """Record of the training for the checkpoint, plain data."""
    return {
        "baselines": as_records(baselines),
        **({} if start is None else {"started_from": start.sha256}),
        "parameters": _plain(parameters),
        "data": data.digest,
        "epochs": len(progress.history),
        "best": progress.history[progress.best or 0],
    }


def _plain(parameters: FitParameters) -> dict[str, Any]:
    """The parameters that affect the result, JSON types, as checkpoints record them."""
    named = parameters.model_dump(
        include=set(FitParameters.model_fields),
        exclude={"device", "readers", "arch", "encoder_name", "encoder_weights", *_LOGGING},
    )
    kept = ("folds", "fold", "test", "distance", "block_size")
    split = {"by": named.pop("split_by"), **{name: named.pop(name) for name in kept}}
    unchanged = {name for name in _ADDED if named[name] == FitParameters.model_fields[name].default}
    named = {name: value for name, value in named.items() if name not in unchanged}
    plain = {**named, "architecture": parameters.network, "split": {**split, "seed": parameters.seed}}
    return dict(json.loads(json.dumps(plain)))
