"""Search for hyperparameters with Optuna: studies that continue, also after a process was killed.

A study is in a database, with a heartbeat per running trial. A trial whose process was killed is repeated with the same
hyperparameters by the next process that works on the study, and continues after its last complete epoch.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock
from matplotlib.ticker import MaxNLocator
from PIL.Image import Image

from darts_assets.errors import SettingsError
from darts_assets.model import CheckpointHeader
from darts_assets.plots import new_figure, render
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.resume_state import forget_state
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.tuning_parameters import TuningParameters

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

HEARTBEAT, GRACE = 10, 30
"""Seconds between heartbeats of a running trial, and without one after which it counts as killed."""

_RETRIES = 5
_DATABASE = "tuning.db"
_CHANGES_LOSS = {"losses", "slump_weight", "focal_loss_alpha", "focal_loss_gamma"}


@dataclass(frozen=True, eq=False)
class StudyReport:
    """State of a study.

    Attributes:
        best: hyperparameters of the best trial.
        value: its value of `monitor`.
        trials: a row for each trial: `trial`, `state`, `value`, `epochs`, and its hyperparameters.
        monitor: validation metric.
    """

    best: dict[str, Any]
    value: float
    trials: pd.DataFrame
    monitor: str


def tune(
    data: TrainingSet,
    parameters: FitParameters,
    tuning: TuningParameters,
    models: StoreLocation,
    start: CheckpointHeader | None = None,
) -> StudyReport:
    """Run trials until the study has enough; several processes may work on one study.

    Args:
        data: the dataset.
        parameters: hyperparameters that are not searched; `monitor` is what the study optimizes.
        tuning: the study.
        models: folder of models, for the study and the states of its trials.
        start: the checkpoint of `continue_from_checkpoint`.

    Raises:
        SettingsError: if Optuna is not installed, a hyperparameter is invalid, or the store cannot have a database.
    """
    if parameters.monitor == "loss" and (changed := _CHANGES_LOSS & set(tuning.search)):
        raise SettingsError(
            f"search has {', '.join(sorted(changed))}, which changes the loss, so that losses cannot be compared: "
            "set monitor to iou, f1 or auroc"
        )
    study = open_study(tuning, models, parameters)
    states = models.child("unfinished", "tuning", tuning.study)

    def objective(trial: "optuna.Trial") -> float:
        values = {name: _suggest(trial, name, space) for name, space in tuning.search.items()}
        return _run(trial, data, parameters.replace(**values), states, start)

    with _without_warnings():
        while _finished(study) < tuning.trials:
            study.optimize(objective, n_trials=1)
    return study_report(study, parameters.monitor, tuning.search)


def open_study(tuning: TuningParameters, models: StoreLocation, parameters: FitParameters) -> "optuna.Study":
    """The study of a name, new if there is none.

    Raises:
        SettingsError: see `tune`.
    """
    try:
        import optuna
    except ImportError:
        raise SettingsError("tuning needs Optuna: pip install 'darts_assets[tuning]'") from None
    if tuning.storage is None and not models.is_local:
        raise SettingsError(
            "storage is not set, and the store is not a folder, which could have a database file; set storage to a "
            "database URL such as postgresql://host/name"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = models.path if tuning.storage is None else Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    url = tuning.storage or f"sqlite:///{folder / _DATABASE}"
    # Processes that create the tables of a database at the same time would disturb each other.
    with FileLock(folder / f"{_DATABASE}.lock"), _without_warnings():
        storage = optuna.storages.RDBStorage(
            url, heartbeat_interval=HEARTBEAT, grace_period=GRACE,
            engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(_RETRIES, True),
        )  # fmt: skip
        return optuna.create_study(
            storage=storage, study_name=tuning.study, load_if_exists=True,
            direction="minimize" if parameters.monitor == "loss" else "maximize",
            sampler=optuna.samplers.TPESampler(n_startup_trials=tuning.startup_trials, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=tuning.startup_trials, n_warmup_steps=2),
        )  # fmt: skip


def study_report(study: "optuna.Study", monitor: str, search: Mapping[str, Any]) -> StudyReport:
    """The state of a study with at least one complete trial."""
    rows = [
        {
            "trial": trial.number, "state": trial.state.name.lower(), "value": trial.value,
            "epochs": len(trial.intermediate_values), **_values(trial.params, search),
        }
        for trial in study.get_trials(deepcopy=False)
    ]  # fmt: skip
    if not any(row["state"] == "complete" for row in rows):
        raise SettingsError(f"study {study.study_name}: no trial is complete; increase trials")
    return StudyReport(_values(study.best_params, search), float(study.best_value), pd.DataFrame(rows), monitor)


def study_chart(report: StudyReport) -> Image:
    """Value of each trial, the best so far, and trials that were pruned."""
    figure = new_figure(460, 300, layout="constrained")
    axes = figure.add_subplot()
    complete = report.trials[report.trials["state"] == "complete"]
    pruned = report.trials[report.trials["state"] == "pruned"]
    values = complete["value"].astype(float)
    best = np.minimum.accumulate(values) if report.monitor == "loss" else np.maximum.accumulate(values)
    axes.scatter(complete["trial"], values, s=14, label="complete")
    axes.scatter(pruned["trial"], pruned["value"].astype(float), s=14, marker="x", color="0.5", label="pruned")
    axes.step(complete["trial"], best, where="post", linewidth=1.2, color="tab:red", label="best")
    axes.set_xlabel("trial", fontsize=8)
    axes.set_ylabel(report.monitor, fontsize=8)
    axes.set_title(f"best {report.monitor}: {report.value:.4g}", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=7, length=2)
    axes.legend(fontsize=7, frameon=False)
    return render(figure)


def _run(
    trial: "optuna.Trial",
    data: TrainingSet,
    parameters: FitParameters,
    states: StoreLocation,
    start: CheckpointHeader | None,
) -> float:
    """Train a trial; returns the best value of the monitored metric."""
    import optuna

    # A trial that repeats a killed one has its state; other trials never share one.
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    retried = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
    state = states.child(str(trial.number if retried is None else retried))
    name = f"validation_{parameters.monitor}"
    reported = set(frozen.intermediate_values)

    def on_epoch(history: list[dict[str, float]], best: int) -> None:
        value, step = history[best][name], len(history) - 1
        if step not in reported and np.isfinite(value):
            trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned(f"after {len(history)} epochs")

    with tempfile.TemporaryDirectory() as folder:
        try:
            result = fit(data, parameters, Path(folder) / "trial.ckpt", state, start=start, on_epoch=on_epoch)
        except optuna.TrialPruned:
            forget_state(state)
            raise
    forget_state(state)
    value = result.history[result.best][name]
    logger.info("trial %d: %s %.4g, resumed after %d epochs", trial.number, parameters.monitor, value, result.resumed)
    if not np.isfinite(value):
        raise optuna.TrialPruned(f"{name} is undefined")
    return value


def _suggest(trial: "optuna.Trial", name: str, space: Any) -> Any:
    if isinstance(space, list):
        # Optuna stores plain values only; lists and mappings are chosen by their number.
        choices = space if _is_plain(space) else list(range(len(space)))
        return _values({name: trial.suggest_categorical(name, choices)}, {name: space})[name]
    options = {key: space[key] for key in ("log", "step") if key in space}
    if FitParameters.model_fields[name].annotation is int:
        return trial.suggest_int(name, int(space["low"]), int(space["high"]), **options)
    return trial.suggest_float(name, float(space["low"]), float(space["high"]), **options)


def _values(chosen: Mapping[str, Any], search: Mapping[str, Any]) -> dict[str, Any]:
    """Values of hyperparameters, in which numbers of lists and mappings are replaced by these."""
    by_number = {name for name, space in search.items() if isinstance(space, list) and not _is_plain(space)}
    return {name: search[name][value] if name in by_number else value for name, value in chosen.items()}


def _is_plain(space: Sequence[Any]) -> bool:
    return all(isinstance(value, str | int | float | bool | None) for value in space)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Heartbeats are marked as experimental in Optuna, since 2021."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _finished(study: "optuna.Study") -> int:
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))
