"""Train a model, evaluate it, and put its checkpoint with its model card into a store."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import obstore
from PIL.Image import Image

from darts_assets.model import CheckpointHeader
from darts_assets.model.networks import add_card
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.resume_state import forget_state
from darts_assets.training.fit.trainer import FitResult, OnEpoch, fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.model_card import model_card
from darts_assets.training.report import Predictor, Report, report
from darts_assets.training.report_pictures import examples, loss_curves, metric_curves


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model in a store.

    Attributes:
        result: the training.
        reports: evaluation of the validation part, and of the test part if there is one.
        pictures: losses, metrics, examples.
        target: location of the checkpoint.
        logs: location of the logs.
        sha256: hash of the checkpoint.
        card: model card, Markdown.
    """

    result: FitResult
    reports: dict[str, Report]
    pictures: dict[str, Image]
    target: StoreLocation
    logs: StoreLocation
    sha256: str
    card: str


def train_model(
    data: TrainingSet,
    parameters: FitParameters,
    name: str,
    models: StoreLocation,
    *,
    start: CheckpointHeader | None = None,
    licence: str | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedModel:
    """Train a model and write `<name>.ckpt`, `<name>.md` (the model card) and logs; resumes an interrupted training.

    Args:
        data: the dataset.
        parameters: hyperparameters.
        name: name of the model.
        models: folder of models, with the states of interrupted trainings.
        start: the checkpoint of `continue_from_checkpoint`.
        licence: licence of the model, for the card.
        on_epoch: see `fit`.

    Raises:
        SettingsError: if the parameters do not suit this dataset or machine.
    """
    states, logs = models.child("unfinished"), models.child("logs", name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.ckpt"
        result = fit(data, parameters, path, states, start=start, logs=logs, on_epoch=on_epoch)
        predictor = Predictor(result.header, data, parameters.device)
        numbers = {"validation": result.parts.validation, "test": result.parts.test}
        reports = {
            part: report(predictor, data, rows, parameters.batch_size, result.baselines)
            for part, rows in numbers.items()
            if rows
        }
        pictures = {
            "Losses": loss_curves(result.history, result.best),
            "Curves": metric_curves(result.history, result.best),
            "Examples": examples(predictor, data, result.parts.validation),
        }
        card = model_card(name, data, parameters, result, reports, licence)
        header = add_card(result.header, card)
        objects = models.objects()
        obstore.put(objects, f"{name}.ckpt", header.path)
        obstore.put(objects, f"{name}.md", str(card["markdown"]).encode())
    forget_state(states.child(result.fingerprint))
    return TrainedModel(
        result, reports, pictures, models.child(f"{name}.ckpt"), logs.child(result.fingerprint), header.sha256,
        str(card["markdown"]),
    )  # fmt: skip
