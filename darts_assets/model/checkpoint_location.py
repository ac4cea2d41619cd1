"""Checkpoints by path, by name in the store, or by S3 URL.

`open_checkpoint` reads an object on S3 by ranges. `local_checkpoint` copies it once to the temporary folder, below a
folder whose name depends on its content (its ETag): processes share complete copies only.
"""

import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from darts_assets.errors import CheckpointError, SourceUnavailableError
from darts_assets.model.header import opened
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

_log = logging.getLogger(__name__)

_BYTES_PER_REQUEST = 128 * 1024


def local_checkpoint(checkpoint: str, store: StoreLocation) -> Path:
    """A checkpoint as a local file, which need not exist or be valid if it is a path.

    Args:
        checkpoint: a path; `s3://bucket/key`, at the store's service; or a name without dot and slash, of a model that
            `training/model` has written: `models/<name>.ckpt` in the store.
        store: root of the store.

    Raises:
        CheckpointError: if the object does not exist, S3 denies access, or the temporary folder has another owner.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    location = _locate(checkpoint, store)
    return location if isinstance(location, Path) else _copied(*location)


@contextmanager
def open_checkpoint(checkpoint: str, store: StoreLocation) -> Iterator[tuple[IO[bytes], str]]:
    """A seekable checkpoint file and its path or URL; an object on S3 is read by ranges, without a copy.

    Arguments and errors as `local_checkpoint`; raises CheckpointError also if a file cannot be read.
    """
    location = _locate(checkpoint, store)
    if isinstance(location, Path):
        with opened(location) as file:
            yield file, str(location)
        return
    folder, name = location
    with _service_errors(folder, name):
        objects = folder.objects()
        size = obstore.head(objects, name)["size"]
        yield io.BufferedReader(_Ranges(objects, name, size), _BYTES_PER_REQUEST), f"{folder}/{name}"


class _Ranges(io.RawIOBase):
    """An object of a store as a raw, seekable file; each read is one range request."""

    def __init__(self, objects: "LocalStore | S3Store", name: str, size: int) -> None:
        super().__init__()
        self._objects, self._name, self._size, self._position = objects, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(0, self._size - self._position))
        if length:
            buffer[:length] = obstore.get_range(self._objects, self._name, start=self._position, length=length)
            self._position += length
        return length


def _locate(checkpoint: str, store: StoreLocation) -> Path | tuple[StoreLocation, str]:
    """The path of a local checkpoint; else the folder and name of an object."""
    if checkpoint.startswith("s3://"):
        parent, _, name = checkpoint.rpartition("/")
        if not name:
            raise CheckpointError(f"checkpoint {checkpoint}: expected a file, such as {checkpoint}model.ckpt")
        return StoreLocation(parent, store.endpoint, store.region), name
    if "/" in checkpoint or "." in checkpoint:
        return Path(checkpoint).expanduser()
    models, name = store.child("models"), f"{checkpoint}.ckpt"
    return models.path / name if models.is_local else (models, name)


@contextmanager
def _service_errors(folder: StoreLocation, name: str) -> Iterator[None]:
    """Turns obstore's errors into ours, without the service's words: they may repeat the rejected key."""
    service = folder.endpoint or "S3"
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {folder}/{name} cannot be read: the object does not exist") from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise CheckpointError(
            f"checkpoint {folder}/{name} cannot be read: {service} denies access ({type(error).__name__})"
        ) from None
    except BaseError as error:
        raise SourceUnavailableError(
            f"checkpoint {folder}/{name}: no usable answer from {service} ({type(error).__name__})"
        ) from None


def _copied(folder: StoreLocation, name: str) -> Path:
    with _service_errors(folder, name):
        objects = folder.objects()
        copy = _copy_of(folder, name, obstore.head(objects, name))
        if not copy.exists():
            fetched = obstore.get(objects, name)
            copy = _copy_of(folder, name, fetched.meta)  # the object may have been replaced in between
            _write(copy, fetched)
            _log.info("checkpoint %s/%s: %d bytes fetched", folder, name, fetched.meta["size"])
    return copy


def _copy_of(folder: StoreLocation, name: str, meta: Any) -> Path:
    """Path of the copy of an object, below a folder that its content determines."""
    facts = [folder.endpoint, str(folder), name, meta["e_tag"], meta["version"], meta["size"]]
    if not meta["e_tag"]:
        facts.append(meta["last_modified"].isoformat())
    return _copies() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24] / name


def _copies() -> Path:
    """The folder of all copies, writable for this user only."""
    folder = Path(tempfile.gettempdir()) / f"darts-assets-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CheckpointError(f"{folder}, the folder for copies of checkpoints, is not this user's own: set TMPDIR")
    return folder / "models"


def _write(copy: Path, fetched: Any) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=copy.parent, prefix=".", delete=False) as file:
        partial = Path(file.name)
        try:
            for chunk in fetched.stream():
                file.write(chunk)
            file.flush()
            partial.replace(copy)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
