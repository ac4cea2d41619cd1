"""Reads the pickle inside a `torch.save` file without torch, and without running anything it asks for.

A pickle runs code by naming a global and calling it. Here a name that is not on the list is an error, and every name
that is on it stands for `Inert`, so there is nothing to call.
"""

import io
import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

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
