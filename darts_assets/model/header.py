"""Reads the pickle inside a `torch.save` file without torch, and without running anything it asks for.

A pickle runs code by naming a global and calling it. Here a name that is not on the list is an error, and every name
that is on it stands for `Inert`, so there is nothing to call.
"""

import ast
import hashlib
import importlib.util
import io
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from darts_assets.bands import FEATURES, OPTICAL
from darts_assets.errors import CheckpointError

MAX_PICKLE_BYTES = 256 * 2**20
"""The pickle holds names and shapes, never weights: a larger one is not what it says."""

_BEFORE_TORCH_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Inert:
    """Stands for any object of a pickle that is not plain data: takes everything, keeps nothing, does nothing."""

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
"""Old DARTS checkpoints pickle their bands as a call of `dict`."""

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
"""Leftovers of training scripts (paths, numpy numbers) beside the weights; torch would refuse them."""

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


class _Reader(pickle.Unpickler):
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
        raise CheckpointError(f"it asks for {full}, which a checkpoint must not; nothing of it was run")

    def persistent_load(self, pid: Any) -> Any:
        return Inert()


def read_pickle(path: Path) -> Any:
    """The object in a `torch.save` file, with `Inert` in the place of tensors and of everything else with behaviour.

    Raises:
        CheckpointError: if the file is missing, unreadable, not a `torch.save` file, or names a forbidden global.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_BEFORE_TORCH_1_6))
            if head == _BEFORE_TORCH_1_6:
                raise CheckpointError(
                    f"checkpoint {path} is in the format of PyTorch before 1.6; load and save it again with a newer one"
                )
            with zipfile.ZipFile(file) as archive:
                content = _data_pickle(archive, path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, RuntimeError, zlib.error, EOFError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is truncated: {error}") from error
    try:
        return _Reader(content).load()
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {path} is refused: {error}") from error
    except Exception as error:  # a malformed pickle can raise anything
        raise CheckpointError(f"checkpoint {path} is corrupt: {error!r}") from error


def _data_pickle(archive: zipfile.ZipFile, path: Path) -> Any:
    found = [
        info for info in archive.infolist() if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl")
    ]
    if len(found) != 1:
        raise CheckpointError(f"{path} is a zip file, but not a checkpoint: it has no data.pkl as torch.save writes it")
    if found[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"checkpoint {path} is refused: its data.pkl has {found[0].file_size} bytes")
    return io.BytesIO(archive.read(found[0]))


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

    Whether the encoder exists and the weights fit shows only when the model is loaded (`checkpoint.load_model`): that
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


DEFAULT_TERRAIN: Terrain = "darts-2025"
"""The convention of a checkpoint that names none: the published ones were trained on it."""


def required_bands(headers: Sequence[CheckpointHeader]) -> tuple[str, ...]:
    """The bands that any of the models takes, in the order of `FEATURES` (then other optical bands, then `dem`)."""
    wanted = {band for header in headers for band in header.bands}
    return tuple(band for band in MODEL_BANDS if band in wanted)


def terrain_convention(headers: Sequence[CheckpointHeader]) -> Terrain:
    """The terrain convention on which all models were trained.

    Raises:
        CheckpointError: if they disagree: one tile cannot serve them all.
    """
    conventions = {header.name: header.terrain or DEFAULT_TERRAIN for header in headers}
    if len(set(conventions.values())) > 1:
        named = ", ".join(f"{name} {convention}" for name, convention in conventions.items())
        raise CheckpointError(f"the models of the ensemble were trained on different terrain conventions: {named}")
    return next(iter(conventions.values()), DEFAULT_TERRAIN)


def check_ensemble(headers: Sequence[CheckpointHeader]) -> None:
    """Refuse what is no ensemble.

    Raises:
        CheckpointError: if there is no model, or two have the same name, or their terrain conventions differ.
    """
    if not headers:
        raise CheckpointError("an ensemble needs at least one checkpoint")
    names = [header.name for header in headers]
    if len(set(names)) != len(names):
        raise CheckpointError(f"two models of the ensemble have the same name: {', '.join(names)}")
    terrain_convention(headers)
