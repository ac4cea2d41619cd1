"""Checkpoints by what people call them: a path, a model of the store by its name, or an object on S3.

A checkpoint on S3 is copied to the temporary folder once, under a name that its content decides: by what the service
says of it (its ETag). Another process finds the copy, or makes the same one; neither ever sees a part of it.
"""

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from darts_assets.errors import CheckpointError, SourceUnavailableError
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)


def local_checkpoint(named: str, store: StoreLocation) -> Path:
    """A checkpoint as a local file; whether it is one shows when it is read.

    Args:
        named: a path; `s3://bucket/key`, of the store's service; or a word without a dot or a slash, the name of a
            model that `training/model` has written: `models/<name>.ckpt` of the store.
        store: its root.

    Raises:
        CheckpointError: if there is no such object, or S3 refuses it; or if the temporary folder is somebody else's.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    if named.startswith("s3://"):
        parent, _, name = named.rpartition("/")
        return _copied(StoreLocation(parent, store.endpoint, store.region), name)
    if "/" in named or "." in named:
        return Path(named).expanduser()
    models, name = store.child("models"), f"{named}.ckpt"
    return models.path / name if models.is_local else _copied(models, name)


def _copied(folder: StoreLocation, name: str) -> Path:
    if not name:
        raise CheckpointError(f"checkpoint {folder}/: a file was expected, such as {folder}/model.ckpt")
    service = folder.endpoint or "S3"
    try:
        objects = folder.objects()
        copy = _copy_of(folder, name, obstore.head(objects, name))
        if not copy.exists():
            found = obstore.get(objects, name)
            copy = _copy_of(folder, name, found.meta)  # somebody may have replaced it in between
            _write(copy, found)
            _log.info("checkpoint %s/%s: %d bytes fetched", folder, name, found.meta["size"])
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {folder}/{name} cannot be read: there is no such object") from None
    # The words of a service may repeat the key that it refuses: only kinds of errors are told.
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise CheckpointError(
            f"checkpoint {folder}/{name} cannot be read: {service} refuses the keys ({type(error).__name__})"
        ) from None
    except BaseError as error:
        raise SourceUnavailableError(
            f"checkpoint {folder}/{name}: {service} gave no answer that is of use ({type(error).__name__})"
        ) from None
    return copy


def _copy_of(folder: StoreLocation, name: str, meta: Any) -> Path:
    """Where the copy of an object is: below a folder that its content decides, with its own name."""
    facts = [folder.endpoint, str(folder), name, meta["e_tag"], meta["version"], meta["size"]]
    if not meta["e_tag"]:
        facts.append(meta["last_modified"].isoformat())
    return _copies() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24] / name


def _copies() -> Path:
    """The folder of all copies, which nobody else may write to."""
    folder = Path(tempfile.gettempdir()) / f"darts-assets-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CheckpointError(f"{folder}, where checkpoints are copied to, is not this user's own: set TMPDIR")
    return folder / "models"


def _write(copy: Path, found: Any) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=copy.parent, prefix=".", delete=False) as file:
        written = Path(file.name)
        try:
            for chunk in found.stream():
                file.write(chunk)
            file.flush()
            written.replace(copy)
        except BaseException:
            written.unlink(missing_ok=True)
            raise
