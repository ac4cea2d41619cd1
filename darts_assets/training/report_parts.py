"""Patches of a dataset for the evaluation of a model, from the split recorded in its checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from darts_assets.model.header import read_pickle
from darts_assets.training.fit.baselines import Baseline, from_records
from darts_assets.training.fit.splits import split
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.split_parameters import SplitParameters

Part = Literal["validation", "test", "training", "all"]


def part_of(data: TrainingSet, checkpoint: Path, part: Part) -> tuple[list[int], bool]:
    """Row numbers of a part, and whether the model was trained on this dataset.

    If it was not, or if the checkpoint has no record of its training, all patches are returned.

    Args:
        data: the dataset.
        checkpoint: checkpoint of the model.
        part: part of the split that the training used.

    Raises:
        CheckpointError: if the checkpoint cannot be read.
        SettingsError: if the recorded split cannot be repeated.
    """
    training = _record(checkpoint)
    if training is None or training["data"] != data.digest:
        return list(range(len(data))), False
    if part == "all":
        return list(range(len(data))), True
    recorded = dict(training["parameters"]["split"])
    parameters = SplitParameters(split_by=recorded.pop("by"), **recorded)
    parts = split(data.samples, parameters, as_recorded_before="distance" not in recorded)
    return list(getattr(parts, part)), True


def baselines_of(checkpoint: Path) -> list[Baseline]:
    """The baselines that were fitted to the training part of a model; none in checkpoints without a record of them.

    Raises:
        CheckpointError: if the checkpoint cannot be read.
    """
    training = _record(checkpoint)
    return from_records(training.get("baselines", [])) if training else []


def _record(checkpoint: Path) -> Mapping[str, Any] | None:
    """Training record written by `fit`; None if another program wrote the checkpoint."""
    content = read_pickle(checkpoint)
    parameters = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    training = parameters.get("training") if isinstance(parameters, Mapping) else None
    return training if isinstance(training, Mapping) and {"data", "parameters"} <= training.keys() else None
