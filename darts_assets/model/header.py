"""Headers of checkpoints and the needs of ensembles, read without torch and without running a checkpoint's code.

Two formats of DARTS are supported. *Lightning*: `hyper_parameters.config` and `state_dict`, with names that start with
`model.`. *Legacy*: `config` and `statedict`, with bands as a list, as `{"bands": [...], ...}`, or as
`input_combination` beside `norm_factors`. The factors are ignored, as in DARTS: `darts_assets.bands` defines the model
representation.

A pickle runs code by naming a global and calling it. The reader here rejects every global that is not listed, and
replaces the listed ones by `Inert`.
"""

import hashlib
import io
import json
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from darts_assets.bands import FEATURES, OPTICAL
from darts_assets.errors import CheckpointError
from darts_assets.model.architectures import keyword_problem, known_architectures

Terrain = Literal["darts-2025", "darts-2026", "physical"]
TERRAIN_CONVENTIONS: tuple[Terrain, ...] = get_args(Terrain)

DEFAULT_TERRAIN: Terrain = "darts-2025"
"""The convention of checkpoints without an entry: the published models were trained on it."""

MODEL_BANDS = tuple(dict.fromkeys((*FEATURES, *OPTICAL, "dem")))
"""The bands that a model may take: features first; an ensemble's bands are listed in this order."""

MAX_PICKLE_BYTES = 8 * 2**20
"""Largest accepted pickle; it holds names and shapes, the weights are stored beside it."""

_ZIP = b"PK\x03\x04"

_BEFORE_TORCH_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class ModelDescription:
    """The entries of a checkpoint that describe its model.

    Attributes:
        name: the model's name, unique in an ensemble.
        bands: canonical names of the input bands, in the order of the model's channels.
        architecture: keyword arguments of `segmentation_models_pytorch.create_model`.
        terrain: terrain convention of the training data; None if the checkpoint has no entry.
        normalization: label of the normalization, for the record; None if the checkpoint has no entry.
        format: format of the checkpoint.
        temperature: calibration of the model; None if the checkpoint has no entry. See `Network`.
        card: model card (`markdown`, `licence`, `accuracy`), plain data; empty if the checkpoint has none.
    """

    name: str
    bands: tuple[str, ...]
    architecture: Mapping[str, Any] = field(hash=False)
    terrain: Terrain | None
    normalization: int | str | None
    format: Literal["lightning", "legacy"]
    temperature: float | None = field(default=None, kw_only=True)
    card: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)


@dataclass(frozen=True)
class CheckpointHeader(ModelDescription):
    """A local checkpoint file: its description and its identity.

    Attributes:
        path: the file.
        sha256: hexadecimal digest of the file.
    """

    path: Path
    sha256: str


class Inert:
    """Stand-in for objects of a pickle that are not plain data: accepts any arguments and state, and ignores them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        """An instance, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


PLAIN_GLOBALS: dict[str, type] = {
    f"{module}.{name}": kind
    for module in ("builtins", "__builtin__")
    for name, kind in (("dict", dict), ("list", list), ("set", set))
}
"""Globals that are called: old DARTS checkpoints pickle their bands as a call of `dict`."""

INERT_GLOBALS = frozenset(
    {
        *(
            f"{module}.{flavour}Path"
            for module in ("pathlib", "pathlib._local")
            for flavour in ("Posix", "Windows", "PurePosix", "PureWindows")
        ),
        *(f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")),
        "numpy.dtype",
    }
)
"""Leftovers of training scripts (paths, numpy numbers) beside the weights; torch itself rejects them."""

_TORCH_GLOBALS = frozenset(
    {
        "torch.Size",
        "torch.device",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        "_codecs.encode",
        *(f"torch.float{bits}" for bits in (16, 32, 64)),
        *(f"torch.int{bits}" for bits in (8, 16, 32, 64)),
        "torch.bfloat16",
        "torch.uint8",
        "torch.bool",
    }
)


def read_header(path: str | Path, name: str | None = None) -> CheckpointHeader:
    """Read and check the header of a checkpoint file, and hash the file.

    The encoder and the fit of the weights are checked when the model is loaded (`networks.load_model`), because both
    need torch.

    Args:
        path: a checkpoint file.
        name: name of the model; None for the file's stem.

    Raises:
        CheckpointError: if the file is missing or not a checkpoint, calls code, lacks an entry, has an unknown band or
            architecture, a number of channels other than that of its bands, or more than one class.
    """
    path = Path(path)
    with opened(path) as file:
        description = read_description(file, str(path), path.stem if name is None else name)
    return CheckpointHeader(**vars(description), path=path, sha256=file_digest(path))


def read_description(file: IO[bytes], label: str, name: str) -> ModelDescription:
    """Read and check the description of a model; reads the file's index and its pickle, never the weights.

    Args:
        file: a seekable checkpoint file.
        label: the file's path or URL, for messages.
        name: name of the model.

    Raises:
        CheckpointError: as `read_header`.
    """
    content = _load(file, label)
    config, kind = _config(content, label)
    bands = _bands(config, label)
    return ModelDescription(
        name=_checked_name(name, label),
        bands=bands,
        architecture=_architecture(config, bands, label),
        terrain=_terrain(config, label),
        normalization=_normalization(config, label),
        format=kind,
        temperature=_temperature(config, label),
        card=_card(content),
    )


def required_bands(models: Sequence[ModelDescription]) -> tuple[str, ...]:
    """The bands that any of the models takes, in the order of `MODEL_BANDS`."""
    required = {band for model in models for band in model.bands}
    return tuple(band for band in MODEL_BANDS if band in required)


def terrain_convention(models: Sequence[ModelDescription]) -> Terrain:
    """The terrain convention that all models were trained on.

    Raises:
        CheckpointError: if they differ, because one tile cannot serve them all.
    """
    conventions = {model.name: model.terrain or DEFAULT_TERRAIN for model in models}
    if len(set(conventions.values())) > 1:
        listed = ", ".join(f"{name} {convention}" for name, convention in conventions.items())
        raise CheckpointError(f"the models of the ensemble were trained on different terrain conventions: {listed}")
    return next(iter(conventions.values()), DEFAULT_TERRAIN)


def check_ensemble(models: Sequence[ModelDescription]) -> None:
    """Check that models can be used together.

    Raises:
        CheckpointError: if there are none, two have the same name, or their terrain conventions differ.
    """
    if not models:
        raise CheckpointError("an ensemble needs at least one checkpoint")
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise CheckpointError(f"two models of the ensemble have the same name: {', '.join(names)}")
    terrain_convention(models)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A checkpoint file, opened for reading; errors of the file system within become CheckpointError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint file, hexadecimal; raises CheckpointError if it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pickle(path: Path) -> Any:
    """The object in a `torch.save` file, with `Inert` in place of tensors and of all other objects with behaviour.

    Raises:
        CheckpointError: if the file is missing, unreadable, not a `torch.save` file, or has a forbidden global.
    """
    with opened(path) as file:
        return _load(file, str(path))


class _Reader(pickle._Unpickler):
    """Not the class in C, which allocates as much memory as a number in the pickle demands."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return OrderedDict
        if full in PLAIN_GLOBALS:
            return PLAIN_GLOBALS[full]
        tensor = (module == "torch" and name.endswith("Storage")) or (
            module == "torch._utils" and name.startswith("_rebuild_")
        )
        if tensor or full in _TORCH_GLOBALS or full in INERT_GLOBALS:
            return Inert
        raise CheckpointError(f"it calls {full}, which is not allowed in a checkpoint; its code was not run")

    def persistent_load(self, pid: Any) -> Any:
        return Inert()


def _load(file: IO[bytes], label: str) -> Any:
    try:
        head = file.read(len(_BEFORE_TORCH_1_6))
        if head == _BEFORE_TORCH_1_6:
            raise CheckpointError(
                f"checkpoint {label} has the format of PyTorch before 1.6; load and save it again with a newer PyTorch"
            )
        if not head.startswith(_ZIP):
            raise zipfile.BadZipFile("torch.save writes a zip file")
        with zipfile.ZipFile(file) as archive:
            _check_size(archive, file.seek(0, io.SEEK_END), label)
            content = _data_pickle(archive, label)
    except (zipfile.BadZipFile, RuntimeError, ValueError, zlib.error, EOFError, OverflowError) as error:
        raise CheckpointError(f"{label} is not a checkpoint, or is truncated: {error}") from error
    try:
        return _Reader(content).load()
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {label} is rejected: {error}") from error
    except Exception as error:  # a malformed pickle can raise anything
        raise CheckpointError(f"checkpoint {label} is corrupt: {error!r}") from error


def _check_size(archive: zipfile.ZipFile, size: int, label: str) -> None:
    """torch.save does not compress: entries that are larger than the file would grow when they are loaded."""
    if (total := sum(info.file_size for info in archive.infolist())) > size:
        raise CheckpointError(
            f"checkpoint {label} is rejected: its entries have {total} bytes, the file only {size}; write it with "
            "torch.save, uncompressed"
        )


def _data_pickle(archive: zipfile.ZipFile, label: str) -> IO[bytes]:
    pickles = [
        info for info in archive.infolist() if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl")
    ]
    if len(pickles) != 1:
        raise CheckpointError(f"{label} is a zip file, but not a checkpoint: it lacks the data.pkl of torch.save")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"checkpoint {label} is rejected: its data.pkl has {pickles[0].file_size} bytes")
    return io.BytesIO(archive.read(pickles[0]))


def _config(content: Any, label: str) -> tuple[Mapping[str, Any], Literal["lightning", "legacy"]]:
    if isinstance(content, Mapping):
        hyper_parameters = content.get("hyper_parameters")
        lightning = hyper_parameters.get("config") if isinstance(hyper_parameters, Mapping) else None
        if isinstance(legacy := content.get("config"), Mapping) and isinstance(content.get("statedict"), Mapping):
            return legacy, "legacy"
        if isinstance(lightning, Mapping) and isinstance(content.get("state_dict"), Mapping):
            return lightning, "lightning"
    raise CheckpointError(
        f"{label} is not a DARTS checkpoint: expected hyper_parameters.config and state_dict, or config and statedict"
    )


def _bands(config: Mapping[str, Any], label: str) -> tuple[str, ...]:
    bands = config.get("bands", config.get("input_combination"))
    if isinstance(bands, Mapping):
        bands = bands.get("bands", list(bands))
    if not isinstance(bands, list | tuple) or not bands or not all(isinstance(name, str) for name in bands):
        raise CheckpointError(f"checkpoint {label} does not list its input bands")
    unknown = [name for name in bands if name not in MODEL_BANDS]
    if unknown:
        raise CheckpointError(
            f"checkpoint {label} has unknown band(s) {', '.join(unknown)}; known are {', '.join(MODEL_BANDS)}"
        )
    if len(set(bands)) != len(bands):
        raise CheckpointError(f"checkpoint {label} lists a band twice: {', '.join(bands)}")
    return tuple(bands)


def _architecture(config: Mapping[str, Any], bands: tuple[str, ...], label: str) -> dict[str, Any]:
    model = config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("arch"), str):
        raise CheckpointError(f"checkpoint {label} does not name its architecture (model.arch)")
    known = known_architectures()
    if model["arch"].lower() not in known:
        raise CheckpointError(
            f"checkpoint {label} has the unknown architecture {model['arch']!r}; known are {', '.join(sorted(known))}"
        )
    if problem := keyword_problem(model):
        raise CheckpointError(f"checkpoint {label}: {problem}")
    # The defaults of `create_model`.
    channels, classes = model.get("in_channels", 3), model.get("classes", 1)
    if channels != len(bands):
        raise CheckpointError(f"checkpoint {label} lists {len(bands)} bands, but its model takes {channels} channels")
    if classes != 1:
        raise CheckpointError(f"checkpoint {label} predicts {classes} classes, expected 1")
    if model.get("activation") not in (None, "sigmoid") or model.get("aux_params") is not None:
        raise CheckpointError(f"checkpoint {label}: expected one output and no activation other than sigmoid")
    return dict(model)


def _terrain(config: Mapping[str, Any], label: str) -> Terrain | None:
    terrain = config.get("terrain")
    if terrain is not None and terrain not in TERRAIN_CONVENTIONS:
        known = ", ".join(TERRAIN_CONVENTIONS)
        raise CheckpointError(f"checkpoint {label} has the terrain convention {terrain!r}; known are {known}")
    return terrain


def _normalization(config: Mapping[str, Any], label: str) -> int | str | None:
    normalization = config.get("normalization")
    if normalization is not None and not isinstance(normalization, int | str):
        raise CheckpointError(f"checkpoint {label}: normalization is {normalization!r}, expected a number or a text")
    return normalization


def _temperature(config: Mapping[str, Any], label: str) -> float | None:
    temperature = config.get("temperature")
    if temperature is None:
        return None
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        raise CheckpointError(f"checkpoint {label}: temperature is {temperature!r}, expected a positive number")
    return float(temperature)


def _card(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model card as JSON types; empty if there is none, or an entry of another program with this name."""
    parameters = content.get("hyper_parameters")
    card = parameters.get("card") if isinstance(parameters, Mapping) else None
    kinds = {"markdown": str, "licence": str | None, "accuracy": Mapping}
    if not isinstance(card, Mapping) or not all(isinstance(card.get(name), kind) for name, kind in kinds.items()):
        return {}
    try:
        return dict(json.loads(json.dumps({name: card[name] for name in kinds}, allow_nan=False)))
    except (TypeError, ValueError):
        return {}


def _checked_name(name: str, label: str) -> str:
    # The name becomes part of a band's name and thereby of a path in the store.
    if not name or set(name) & set("/\\") or name.startswith("."):
        raise CheckpointError(f"checkpoint {label}: {name!r} cannot be the name of a model")
    return name
