"""Models: read from and written to checkpoint files, and prepared for fast inference on a device."""

import copy
import logging
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from darts_assets.errors import CheckpointError, SettingsError
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
from darts_assets.model.segmentation_parameters import Precision, PrecisionSetting

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2
"""Largest accepted difference between the probabilities of an automatically chosen precision and those of fp32."""

_FOLDING_TOLERANCE = 1e-4
_REDUCED: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}

_PREFIX = "model."
"""Prefix that Lightning adds to the names of weights."""

_reading = threading.Lock()
"""Held while a file is read, because torch's list of allowed globals is global."""


def load_model(header: CheckpointHeader) -> torch.nn.Module:
    """Load the model of a checkpoint in evaluation mode, with unchanged weights; nothing is downloaded.

    The model maps float32 (n, bands, rows, columns) in model representation to logits (n, 1, rows, columns), also if
    the checkpoint configures a sigmoid activation.

    Raises:
        CheckpointError: if the file is unsafe or has changed since its header was read, if the architecture or encoder
            is unknown, or if the weights do not fit.
    """
    with _reading:
        return _with_weights(header).requires_grad_(False).eval()


def save_checkpoint(
    path: str | Path,
    model: torch.nn.Module,
    architecture: Mapping[str, Any],
    bands: Sequence[str],
    terrain: Terrain,
    normalization: int | str | None = None,
    temperature: float | None = None,
    **training_info: Any,
) -> CheckpointHeader:
    """Write a model atomically as a checkpoint in the Lightning format.

    Args:
        path: file to write.
        model: trained model created by `segmentation_models_pytorch.create_model(**architecture)`.
        architecture: keyword arguments of `create_model`, including `in_channels`.
        bands: canonical names of the input bands, in the order of the channels.
        terrain: terrain convention of the training data.
        normalization: name or number of the input normalization, for reference.
        temperature: calibration that segmentation applies to the model's probabilities (see `Network`); None for none.
        training_info: further hyperparameters to store, plain data only.

    Returns:
        The header read back from the file.

    Raises:
        CheckpointError: if the result would not be a valid checkpoint; the file is not written.
    """
    path = Path(path)
    config: dict[str, Any] = {
        "model": dict(architecture),
        "bands": list(bands),
        "terrain": terrain,
        "normalization": normalization,
    }
    if temperature is not None:
        config["temperature"] = temperature
    content = {
        "hyper_parameters": {**training_info, "config": config},
        "state_dict": {f"{_PREFIX}{name}": value.detach().cpu() for name, value in model.state_dict().items()},
    }
    return _saved(path, content)


def add_card(header: CheckpointHeader, card: Mapping[str, Any]) -> CheckpointHeader:
    """Write a model card into a checkpoint that `save_checkpoint` has written.

    Args:
        header: the checkpoint.
        card: plain data: `markdown`, `licence` (SPDX identifier or None), `accuracy`.

    Returns:
        The header of the new file, which replaces the old one.

    Raises:
        CheckpointError: if the result would not be a valid checkpoint; the file is not replaced.
    """
    content = torch.load(header.path, map_location="cpu", weights_only=True)
    content["hyper_parameters"]["card"] = dict(card)
    return _saved(header.path, content)


def _saved(path: Path, content: Mapping[str, Any]) -> CheckpointHeader:
    """Write a checkpoint atomically; returns the header read back from the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        # torch.save stores the file name: the draft has the final name, so that equal models give equal files.
        draft = Path(scratch) / path.name
        torch.save(content, draft)
        header = read_header(draft)
        with _reading:
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
    try:
        model: torch.nn.Module = smp.create_model(**arguments)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        # For an unknown architecture or encoder, the library's message lists the known ones.
        message = " ".join(map(str, error.args))
        raise CheckpointError(
            f"checkpoint {header.path}: {arguments['arch']} cannot be created from its description: {message}"
        ) from error
    return model


def _weights(header: CheckpointHeader) -> dict[str, torch.Tensor]:
    if file_digest(header.path) != header.sha256:
        raise CheckpointError(f"checkpoint {header.path} has changed since its header was read")
    stand_ins: dict[str, type] = {**dict.fromkeys(INERT_GLOBALS, Inert), **PLAIN_GLOBALS}
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (kind, name) for name, kind in stand_ins.items()
    ]
    read_pickle(header.path)  # rejects the same files as torch, with a shorter message
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
        if name.startswith(_PREFIX)  # the training module's losses and metrics are not needed
    }


def _brief(error: Exception, length: int = 300) -> str:
    """The message of an error of torch, which can span pages, as one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]}..."


@dataclass(frozen=True, eq=False)
class Network:
    """A model prepared for inference.

    Attributes:
        module: callable that computes logits.
        stride: rows and columns of a patch must be multiples of it.
        device: device of the weights.
        precision: floating-point format of the computation.
        temperature: divides the logits, such that probabilities are calibrated (Guo et al. 2017,
            https://proceedings.mlr.press/v70/guo17a.html); 1 changes nothing.
    """

    module: Any
    stride: int
    device: torch.device
    precision: Precision
    temperature: float = 1.0

    @torch.inference_mode()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, rows, columns) of inputs (n, bands, rows, columns), both float32 on the device."""
        with _arithmetic(self.device, self.precision):
            logits: torch.Tensor = self.module(inputs.contiguous(memory_format=torch.channels_last))
        return torch.sigmoid(logits.float() / self.temperature).squeeze(1)


_kept: dict[Any, tuple[Network, ...]] = {}
"""The last loaded ensemble, shared by all scenes of a process until another one is requested."""

_loading = threading.Lock()


def load_networks(
    headers: Sequence[CheckpointHeader],
    device: torch.device,
    precision: PrecisionSetting = "auto",
    compiled: bool = False,
) -> tuple[Network, ...]:
    """Load the networks of an ensemble on a device; they are cached until another ensemble is requested.

    Batch normalization is folded into the convolutions before it. All run in one precision; `auto` is fp32 on a CPU,
    and on a GPU the first of bf16 (where the GPU has it), fp16 and fp32 in which no network's probabilities on a test
    pattern differ from those of fp32 by more than `TOLERANCE`. fp32 means IEEE single precision, never TF32.

    Raises:
        CheckpointError: if a checkpoint cannot be used (see `load_model`).
        SettingsError: if the device does not support the precision.
    """
    key = (tuple((header.sha256, header.bands) for header in headers), device, precision, compiled)
    with _loading:
        if key not in _kept:
            _kept.clear()  # first: both ensembles might not fit into memory
            _kept[key] = tuple(_load(headers, device, precision, compiled))
        return _kept[key]


def _load(
    headers: Sequence[CheckpointHeader], device: torch.device, precision: PrecisionSetting, compiled: bool
) -> list[Network]:
    candidates = precisions(device) if precision == "auto" else (precision,)
    if precision == "fp16" and device.type == "cpu":
        raise SettingsError("precision fp16 needs a GPU; a CPU computes in fp32 or bf16")
    exact = [
        replace(exact_network(load_model(header), len(header.bands), device), temperature=header.temperature or 1.0)
        for header in headers
    ]
    networks = shortest(exact, candidates, {header.name: len(header.bands) for header in headers})
    if not compiled:
        return networks
    return [replace(one, module=torch.compile(one.module)) for one in networks]


def precisions(device: torch.device) -> tuple[Precision, ...]:
    """Candidates of `auto` on a device, fastest first.

    On CPUs only fp32: CPU results are the reference for those of GPUs, and few CPUs support shorter formats.
    """
    if device.type == "cpu":
        return ("fp32",)
    with torch.cuda.device(device):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return ("bf16", "fp16", "fp32") if has_bf16 else ("fp16", "fp32")


def shortest(exact: Sequence[Network], candidates: Sequence[Precision], bands: Mapping[str, int]) -> list[Network]:
    """Networks in the first candidate precision that meets `TOLERANCE`, else in the last, with a warning.

    Args:
        exact: networks in fp32; do not use them afterwards.
        candidates: precisions in the order to try.
        bands: name of each network and number of its input bands.
    """
    for candidate in candidates:
        if candidate == "fp32":
            break
        networks = [_reduced(network, candidate) for network in exact]
        differences = {
            name: difference(network, reference, count)
            for network, reference, (name, count) in zip(networks, exact, bands.items(), strict=True)
        }
        fits = max(differences.values()) <= TOLERANCE
        reported = ", ".join(f"{name} {value:.3f}" for name, value in differences.items())
        logger.log(
            logging.INFO if fits or candidate != candidates[-1] else logging.WARNING,
            "precision %s: largest differences of probabilities on a test pattern: %s", candidate, reported,
        )  # fmt: skip
        if fits or candidate == candidates[-1]:
            return networks
    return list(exact)


def difference(network: Network, reference: Network, bands: int) -> float:
    """Largest difference between the probabilities of two networks on a test pattern; infinite for NaN.

    The pattern is deterministic: hills of a few dozen pixels in each band, and noise. Differences on it are about as
    large as on real features.
    """
    side = 8 * network.stride
    random = torch.Generator().manual_seed(0)
    hills = torch.rand((1, bands, 9, 9), generator=random)
    pattern = nn.functional.interpolate(hills, size=(side, side), mode="bilinear", align_corners=True)
    pattern = (pattern + 0.05 * torch.randn(pattern.shape, generator=random)).clamp(0, 1).to(network.device)
    largest = (network(pattern) - reference(pattern)).abs().max()
    return float(largest.nan_to_num(nan=torch.inf))


def exact_network(model: nn.Module, bands: int, device: torch.device) -> Network:
    """A model with `bands` input bands on a device in fp32, folded if that preserves its probabilities."""
    encoder: Any = model.encoder
    stride = int(encoder.output_stride)
    plain, folded = (
        Network(module.to(device).to(memory_format=torch.channels_last), stride, device, "fp32")
        for module in (model, _folded(model))
    )
    # Consecutive modules of a model need not be executed one after the other.
    return folded if difference(folded, plain, bands) <= _FOLDING_TOLERANCE else plain


def _folded(model: nn.Module) -> nn.Module:
    """A copy of a model with each batch normalization folded into the preceding convolution."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                after = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
                setattr(parent, norm_name, after)
    return model


def _reduced(network: Network, precision: Precision) -> Network:
    module = copy.deepcopy(network.module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.to(_REDUCED[precision])  # otherwise autocast converts their weights for each batch
    return replace(network, module=module, precision=precision)


@contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    if precision != "fp32":
        with torch.autocast(device.type, _REDUCED[precision]):
            yield
        return
    # On GPUs PyTorch's float32 convolutions use TF32 by default, with as few significant bits as fp16.
    cudnn: Any = torch.backends.cudnn
    kinds = [cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.fp32_precision = was
