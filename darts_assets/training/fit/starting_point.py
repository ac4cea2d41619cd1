"""Networks that training starts from: new ones, or those of a checkpoint, fitted to the bands of the set."""

from typing import Any

import segmentation_models_pytorch as smp
import torch

from darts_assets.bands import TERRAIN
from darts_assets.errors import SettingsError
from darts_assets.model import CheckpointHeader
from darts_assets.model.header import terrain_convention
from darts_assets.model.networks import load_model
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.training_set import TrainingSet


def architecture_of(parameters: FitParameters, data: TrainingSet, start: CheckpointHeader | None) -> dict[str, Any]:
    """Arguments of `segmentation_models_pytorch.create_model`: of the parameters, or of the checkpoint.

    Raises:
        SettingsError: if `continue_from_checkpoint` is set and there is no checkpoint, or the other way round.
    """
    if (start is None) != (parameters.continue_from_checkpoint is None):
        raise SettingsError("continue_from_checkpoint and the checkpoint to start from are given together, or neither")
    network = parameters.network if start is None else dict(start.architecture)
    return {**network, "in_channels": len(data.bands), "classes": 1}


def new_network(architecture: dict[str, Any]) -> torch.nn.Module:
    """A network with random weights, or with the downloaded ones of `encoder_weights`.

    Raises:
        SettingsError: if it cannot be built.
    """
    try:
        model: torch.nn.Module = smp.create_model(**architecture)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(map(str, error.args))
        raise SettingsError(f"architecture {architecture} cannot be built: {reason}") from error
    return model


def network_of(start: CheckpointHeader, architecture: dict[str, Any], data: TrainingSet) -> torch.nn.Module:
    """The network of a checkpoint for the bands of a set.

    Bands are assigned by name. The weights of bands that the set lacks are dropped, and bands that are new to the
    network start with weights of 0.

    Args:
        start: the checkpoint.
        architecture: its architecture with the number of bands of the set.
        data: the set.

    Raises:
        SettingsError: if checkpoint and set have no band in common, or terrain bands of different conventions.
        CheckpointError: if the checkpoint cannot be loaded.
    """
    shared = [name for name in data.bands if name in start.bands]
    if not shared:
        raise SettingsError(
            f"continue_from_checkpoint {start.name}: its bands ({', '.join(start.bands)}) and those of the set "
            f"({', '.join(data.bands)}) have none in common"
        )
    convention = terrain_convention([start])
    if convention != data.terrain and set(shared) & set(TERRAIN):
        raise SettingsError(
            f"continue_from_checkpoint {start.name} has terrain {convention}, the training set has {data.terrain}; "
            "preprocess the tiles of the set with the terrain convention of the model"
        )
    weights = load_model(start).state_dict()
    model = new_network({**architecture, "encoder_weights": None})
    if start.bands != data.bands:
        # The first convolution of the encoder is the only layer that sees bands.
        first = next(
            name for name, values in weights.items() if values.ndim == 4 and values.shape[1] == len(start.bands)
        )
        by_band = torch.zeros_like(model.state_dict()[first])
        for name in shared:
            by_band[:, data.bands.index(name)] = weights[first][:, start.bands.index(name)]
        weights[first] = by_band
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SettingsError(f"continue_from_checkpoint {start.name} cannot take other bands: {error}") from None
    return model
