"""Models from checkpoint files, and checkpoint files from models."""

import pickle
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch

from darts_assets.errors import CheckpointError
from darts_assets.model.header import (
    INERT_GLOBALS,
    PLAIN_GLOBALS,
    CheckpointHeader,
    Inert,
    Terrain,
    file_digest,
    read_header,
    read_pickle,
)

_PREFIX = "model."
"""What Lightning puts before the names of the weights."""

_loading = threading.Lock()
"""Held while a file is read: torch keeps its list of allowed names per process, not per call."""


def load_model(header: CheckpointHeader) -> torch.nn.Module:
    """The model of a checkpoint, in memory, in evaluation mode, exactly as it was saved.

    The model takes float32 (n, bands, rows, columns) in model representation and answers logits (n, 1, rows,
    columns), whether or not its checkpoint asks for a sigmoid at the end. Nothing is downloaded.

    Raises:
        CheckpointError: if the file is unsafe or has changed since its header was read, if architecture or encoder
            is unknown, or if the weights do not fit.
    """
    with _loading:
        return _with_weights(header).requires_grad_(False).eval()


def save_checkpoint(
    path: str | Path,
    model: torch.nn.Module,
    architecture: Mapping[str, Any],
    bands: Sequence[str],
    terrain: Terrain,
    normalization: int | str | None = None,
    **training_info: Any,
) -> CheckpointHeader:
    """Write a model as a checkpoint in the Lightning format; readers see the whole file or none.

    Args:
        path: the file to write.
        model: what `segmentation_models_pytorch.create_model(**architecture)` gave, trained.
        architecture: keyword arguments of `create_model`, `in_channels` among them.
        bands: canonical names of the input bands, in the order of the channels.
        terrain: the terrain convention that the model was trained on.
        normalization: what the normalization of the inputs is called, for the record.
        training_info: further hyperparameters to keep, plain data only.

    Returns:
        The header, as read back from the file.

    Raises:
        CheckpointError: if the result would not be a valid checkpoint; nothing is written then.
    """
    path = Path(path)
    config = {"model": dict(architecture), "bands": list(bands), "terrain": terrain, "normalization": normalization}
    content = {
        "hyper_parameters": {**training_info, "config": config},
        "state_dict": {f"{_PREFIX}{name}": value.detach().cpu() for name, value in model.state_dict().items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        # Under its own name, because torch.save keeps the name inside the file: equal models give equal files.
        draft = Path(scratch) / path.name
        torch.save(content, draft)
        header = read_header(draft)
        with _loading:
            _with_weights(header)
        draft.replace(path)
    return replace(header, path=path)


def _with_weights(header: CheckpointHeader) -> torch.nn.Module:
    model = _create(header)
    try:
        model.load_state_dict(_weights(header))
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {header.path}: the weights do not fit the model: {_brief(error)}") from error
    return model


def _create(header: CheckpointHeader) -> torch.nn.Module:
    arguments = {**header.architecture, "encoder_weights": None}
    if "activation" in arguments:
        arguments["activation"] = None
    if ":" in str(arguments.get("encoder_name")):
        # timm would fetch a name with a scheme (`hf-hub:...`) from the network.
        raise CheckpointError(f"checkpoint {header.path}: unknown encoder {arguments['encoder_name']!r}")
    try:
        model: torch.nn.Module = smp.create_model(**arguments)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        # For an unknown architecture or encoder the library's words end with the list of what it knows.
        words = " ".join(map(str, error.args))
        raise CheckpointError(
            f"checkpoint {header.path}: {arguments['arch']} cannot be built as described: {words}"
        ) from error
    return model


def _weights(header: CheckpointHeader) -> dict[str, torch.Tensor]:
    if file_digest(header.path) != header.sha256:
        raise CheckpointError(f"checkpoint {header.path} has changed since its header was read")
    stand_ins: dict[str, type] = {**dict.fromkeys(INERT_GLOBALS, Inert), **PLAIN_GLOBALS}
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (kind, name) for name, kind in stand_ins.items()
    ]
    read_pickle(header.path)  # refuses what torch would refuse too, but names it in one sentence
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(header.path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {header.path} is rejected: it holds more than weights and numbers"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {header.path} is damaged: {_brief(error)}") from error
    if header.format == "legacy":
        return dict(content["statedict"])
    return {
        name.removeprefix(_PREFIX).removeprefix("_orig_mod."): value
        for name, value in content["state_dict"].items()
        if name.startswith(_PREFIX)  # what the training module holds beside the model (losses, metrics) is not needed
    }


def _brief(error: Exception, length: int = 300) -> str:
    """An error of torch, which can be pages long, in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]}..."
