"""Which patches of a set a model may be judged on: its checkpoint says which ones it has seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from darts_assets.model.header import read_pickle
from darts_assets.training.fit.splits import SplitParameters, split
from darts_assets.training.fit.training_set import TrainingSet

Part = Literal["validation", "test", "training", "all"]


def part_of(data: TrainingSet, checkpoint: Path, part: Part) -> tuple[list[int], bool]:
    """The patches of a part, and whether the model was trained on this set.

    A model that was not, or whose checkpoint does not say, is judged on all patches, whatever the part.

    Args:
        data: the set.
        checkpoint: of the model.
        part: as the model's own fit divided the set.

    Raises:
        CheckpointError: if the checkpoint cannot be read.
        SettingsError: if the set cannot be divided so any more.
    """
    training = _record(checkpoint)
    if training is None or training["data"] != data.digest:
        return list(range(len(data))), False
    if part == "all":
        return list(range(len(data))), True
    said = training["parameters"]["split"]
    parts = split(data.samples, SplitParameters(**{**said, "test": tuple(said["test"])}))
    return list(getattr(parts, part)), True


def _record(checkpoint: Path) -> Mapping[str, Any] | None:
    """What `fit` has written of the training; None if another program has."""
    content = read_pickle(checkpoint)
    parameters = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    training = parameters.get("training") if isinstance(parameters, Mapping) else None
    return training if isinstance(training, Mapping) and {"data", "parameters"} <= training.keys() else None
