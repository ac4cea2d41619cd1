"""What a checkpoint says of itself, read without torch and without running its code.

Two formats of DARTS are known. *Lightning*: `hyper_parameters.config` and `state_dict`, whose names start with
`model.`. *Legacy*: `config` and `statedict`; its bands are a list, or a dictionary `{"bands": [...], ...}`, or, older
still, `input_combination` beside `norm_factors`. The factors of old files are ignored, as DARTS ignores them: the
model representation of `darts_assets.bands` is the one and only.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from darts_assets.bands import FEATURES, OPTICAL
from darts_assets.errors import CheckpointError
from darts_assets.model._pickle import read_pickle

Terrain = Literal["darts-2025", "darts-2026", "physical"]
TERRAIN_CONVENTIONS: tuple[Terrain, ...] = get_args(Terrain)

MODEL_BANDS = tuple(dict.fromkeys((*FEATURES, *OPTICAL, "dem")))
"""The bands that a model may take, features first, in the order in which an ensemble's needs are listed."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself.

    Attributes:
        path: the file.
        name: the model's name, unique in an ensemble; the file's stem unless given.
        bands: canonical names of the input bands, in the order of the model's channels.
        architecture: keyword arguments of `segmentation_models_pytorch.create_model`.
        terrain: the terrain convention that the model was trained on; None if the checkpoint names none.
        normalization: what the checkpoint calls its normalization, for the record; None if it names none.
        sha256: hexadecimal digest of the file.
        format: which of the two formats the file has.
    """

    path: Path
    name: str
    bands: tuple[str, ...]
    architecture: Mapping[str, Any] = field(hash=False)
    terrain: Terrain | None
    normalization: int | str | None
    sha256: str
    format: Literal["lightning", "legacy"]


def read_header(path: str | Path, name: str | None = None) -> CheckpointHeader:
    """Read and check what a checkpoint says of itself.

    Whether the encoder exists and the weights fit shows only when the model is loaded (`networks.load_model`): that
    needs torch.

    Args:
        path: a checkpoint file.
        name: name of the model; the file's stem if None.

    Raises:
        CheckpointError: if the file is missing, is not a checkpoint, asks for code to be run, lacks an entry, names
            an unknown band or architecture, has another number of channels than bands, or predicts other than one
            class.
    """
    path = Path(path)
    content = read_pickle(path)
    config, kind = _config(content, path)
    bands = _bands(config, path)
    return CheckpointHeader(
        path=path,
        name=_name(name if name is not None else path.stem, path),
        bands=bands,
        architecture=_architecture(config, bands, path),
        terrain=_terrain(config, path),
        normalization=_normalization(config, path),
        sha256=file_digest(path),
        format=kind,
    )


@cache
def known_architectures() -> frozenset[str]:
    """Names that `segmentation_models_pytorch.create_model` takes, read from its source: importing it imports torch."""
    spec = importlib.util.find_spec("segmentation_models_pytorch")
    if spec is None or spec.origin is None:
        raise CheckpointError("segmentation_models_pytorch is not installed, so no checkpoint can be used")
    imports = (node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.ImportFrom))
    decoders = (node for node in imports if (node.module or "").startswith("decoders."))
    return frozenset(alias.name.lower() for node in decoders for alias in node.names)


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint file, hexadecimal.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error


def _config(content: Any, path: Path) -> tuple[Mapping[str, Any], Literal["lightning", "legacy"]]:
    if isinstance(content, Mapping):
        hyper_parameters = content.get("hyper_parameters")
        for kind, config, weights in (
            ("legacy", content.get("config"), content.get("statedict")),
            (
                "lightning",
                hyper_parameters.get("config") if isinstance(hyper_parameters, Mapping) else None,
                content.get("state_dict"),
            ),
        ):
            if isinstance(config, Mapping) and isinstance(weights, Mapping):
                return config, "legacy" if kind == "legacy" else "lightning"
    raise CheckpointError(
        f"{path} is not a DARTS checkpoint: expected hyper_parameters.config and state_dict, or config and statedict"
    )


def _bands(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    bands = config.get("bands", config.get("input_combination"))
    if isinstance(bands, Mapping):
        bands = bands.get("bands", list(bands))
    if not isinstance(bands, list | tuple) or not bands or not all(isinstance(name, str) for name in bands):
        raise CheckpointError(f"checkpoint {path} does not list its input bands")
    unknown = [name for name in bands if name not in MODEL_BANDS]
    if unknown:
        raise CheckpointError(
            f"checkpoint {path} asks for unknown band(s) {', '.join(unknown)}; known are {', '.join(MODEL_BANDS)}"
        )
    if len(set(bands)) != len(bands):
        raise CheckpointError(f"checkpoint {path} lists a band twice: {', '.join(bands)}")
    return tuple(bands)


def _architecture(config: Mapping[str, Any], bands: tuple[str, ...], path: Path) -> dict[str, Any]:
    model = config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("arch"), str):
        raise CheckpointError(f"checkpoint {path} does not name its architecture (model.arch)")
    known = known_architectures()
    if model["arch"].lower() not in known:
        raise CheckpointError(
            f"checkpoint {path} names the unknown architecture {model['arch']!r}; known are {', '.join(sorted(known))}"
        )
    if not _is_plain(model):
        raise CheckpointError(f"checkpoint {path} describes its architecture with more than numbers, texts and lists")
    # What `create_model` assumes where these two are not given.
    channels, classes = model.get("in_channels", 3), model.get("classes", 1)
    if channels != len(bands):
        raise CheckpointError(f"checkpoint {path} lists {len(bands)} bands, but its model takes {channels} channels")
    if classes != 1:
        raise CheckpointError(f"checkpoint {path} predicts {classes} classes, expected 1")
    if model.get("activation") not in (None, "sigmoid") or model.get("aux_params") is not None:
        raise CheckpointError(f"checkpoint {path} needs a model with one output and no activation other than sigmoid")
    return dict(model)


def _terrain(config: Mapping[str, Any], path: Path) -> Terrain | None:
    terrain = config.get("terrain")
    if terrain is not None and terrain not in TERRAIN_CONVENTIONS:
        raise CheckpointError(
            f"checkpoint {path} names the terrain convention {terrain!r}; known are {', '.join(TERRAIN_CONVENTIONS)}"
        )
    return terrain


def _normalization(config: Mapping[str, Any], path: Path) -> int | str | None:
    normalization = config.get("normalization")
    if normalization is not None and not isinstance(normalization, int | str):
        raise CheckpointError(f"checkpoint {path} names its normalization neither by number nor by text")
    return normalization


def _name(name: str, path: Path) -> str:
    # The name becomes part of a band's name, and with it of a path in the store.
    if not name or set(name) & set("/\\") or name.startswith("."):
        raise CheckpointError(f"checkpoint {path}: {name!r} cannot be the name of a model")
    return name


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
