"""The architectures of networks and the keywords that a checkpoint or config may give them, without importing torch."""

import ast
import importlib.util
import re
import reprlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from darts_assets.errors import CheckpointError

_LARGEST_NUMBER = 4096  # of channels
_LONGEST_LIST = 16
_TEXT = re.compile(r"[\w.-]{1,80}")


def keyword_problem(architecture: Mapping[str, Any]) -> str:
    """What is wrong with the keywords of `segmentation_models_pytorch.create_model`, in words; empty if nothing is.

    Only keywords of the architectures are accepted. The library passes all others on to the library of the encoder,
    some of whose keywords load files.
    """
    for name, value in architecture.items():
        if name not in _KEYWORDS:
            return f"the model has the unknown keyword {name!r:.60}; known are {', '.join(_KEYWORDS)}"
        if not _KEYWORDS[name](value):
            return f"the model has the {name} {reprlib.repr(value)}, which is not accepted"
    return ""


@cache
def known_architectures() -> frozenset[str]:
    """Architectures of `segmentation_models_pytorch`, parsed from its source because importing it imports torch."""
    spec = importlib.util.find_spec("segmentation_models_pytorch")
    if spec is None or spec.origin is None:
        raise CheckpointError("segmentation_models_pytorch is not installed; checkpoints need it")
    imports = (node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.ImportFrom))
    decoders = (node for node in imports if (node.module or "").startswith("decoders."))
    return frozenset(alias.name.lower() for node in decoders for alias in node.names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_NUMBER


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) <= _LONGEST_LIST and all(map(_is_count, value))


def _is_norm(value: Any) -> bool:
    if isinstance(value, Mapping):
        return len(value) <= _LONGEST_LIST and all(
            _is_text(key) and (_is_text(item) or _is_switch(item) or _is_share(item)) for key, item in value.items()
        )
    return _is_switch(value) or _is_text(value)


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_KEYWORDS: Mapping[str, Callable[[Any], bool]] = {
    "arch": _is_text,
    "encoder_name": _is_text,
    "encoder_weights": _or_none(_is_text),
    "encoder_depth": _is_count,
    "encoder_output_stride": _is_count,
    "encoder_output_indices": _or_none(_are_counts),
    "in_channels": _is_count,
    "classes": _is_count,
    "activation": _or_none(_is_text),
    "aux_params": _or_none(lambda _: False),
    "upsampling": _or_none(_is_count),
    "decoder_channels": lambda value: _is_count(value) or _are_counts(value),
    "decoder_use_batchnorm": _is_norm,
    "decoder_use_norm": _is_norm,
    "decoder_attention_type": _or_none(_is_text),
    "decoder_interpolation": _is_text,
    "decoder_dropout": _is_share,
    "decoder_merge_policy": _is_text,
    "decoder_pyramid_channels": _is_count,
    "decoder_segmentation_channels": _is_count,
    "decoder_pab_channels": _is_count,
    "decoder_atrous_rates": _are_counts,
    "decoder_aspp_separable": _is_switch,
    "decoder_aspp_dropout": _is_share,
    "decoder_readout": _is_text,
    "decoder_intermediate_channels": _are_counts,
    "decoder_fusion_channels": _is_count,
    "psp_out_channels": _is_count,
    "psp_use_batchnorm": _is_norm,
    "psp_dropout": _is_share,
}
"""Accepted keywords of `create_model`, and checks of their values."""
