"""Checks of the store and its rooms elsewhere: reachable, writable, safe for concurrent writers."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import obstore
from obstore.exceptions import BaseError

from darts_assets.doctor.findings import Finding
from darts_assets.doctor.web import ask, error_code
from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.service_errors import in_words

_GIB = 2**30
_FREE_SPACE = 20 * _GIB  # several full scenes
_ADVICE = {
    "ExpiredToken": "Get new keys and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.",
    "InvalidAccessKeyId": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to keys of this service.",
    "SignatureDoesNotMatch": "Set AWS_SECRET_ACCESS_KEY to the secret that belongs to AWS_ACCESS_KEY_ID.",
    "AccessDenied": "Grant these keys permission to list, read, write and delete objects.",
    "NoSuchBucket": "Create the bucket, or set {variable} to another.",
    "RequestTimeTooSkewed": "Set the clock of this machine.",
}
_REASONS = {
    "ExpiredToken": "the keys have expired",
    "InvalidAccessKeyId": "the key in AWS_ACCESS_KEY_ID is unknown to the service",
    "SignatureDoesNotMatch": "the secret in AWS_SECRET_ACCESS_KEY is wrong",
    "AccessDenied": "these keys lack the permission",
    "NoSuchBucket": "the bucket does not exist",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}


def check_store(location: StoreLocation, executor: str, room: str = "") -> Iterator[Finding]:
    """Check that the store, or a room that lies elsewhere, is writable and safe for concurrent writers.

    Args:
        location: root of the store, or location of the room.
        executor: executor of the settings.
        room: name of the room: `aux`, `raw`, `products` or `models`; empty for the store.
    """
    check = _Check(f"store: {room}" if room else "store", f"DARTS_{room.upper()}_ROOT" if room else "DARTS_STORE")
    if not location.is_local:
        yield from check.bucket(location, "" if room else "aux")
        return
    yield from check.folder(location.path)
    if executor.startswith("k8s"):
        message = f"{location} is a local path, but DARTS_EXECUTOR={executor} runs each step in its own pod"
        advice = f"Set {check.variable} to s3://bucket/prefix, or to a volume shared by all pods."
        yield Finding(check.name, "warn", message, advice)


@dataclass(frozen=True)
class _Check:
    """Checks of one location.

    Attributes:
        name: subject of the findings.
        variable: setting of the location.
    """

    name: str
    variable: str

    def folder(self, folder: Path) -> Iterator[Finding]:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        advice = f"Set {self.variable} to a writable folder or to s3://bucket/prefix."
        if not existing.is_dir():
            yield Finding(self.name, "fail", f"{folder}: {existing} is a file, not a folder", advice)
            return
        try:
            with tempfile.TemporaryFile(dir=existing) as probe:
                probe.write(b"darts_assets")
        except OSError as error:
            yield Finding(self.name, "fail", f"{folder}: {existing} is not writable: {error.strerror}", advice)
            return
        free = shutil.disk_usage(existing).free
        message = f"{folder}{'' if existing == folder else ' (will be created)'}: writable, {free / _GIB:.1f} GiB free"
        if free < _FREE_SPACE:
            yield Finding(
                self.name,
                "warn",
                message,
                f"A full Sentinel-2 scene needs several GB. Free some space, or set {self.variable} to another folder.",
            )
        else:
            yield Finding(self.name, "ok", message)

    def bucket(self, location: StoreLocation, cubes: str) -> Iterator[Finding]:
        """Findings of a location on S3, whose subfolder `cubes` has cubes (empty for none)."""
        endpoint = location.endpoint or f"https://s3.{location.region or 'us-east-1'}.amazonaws.com"
        if (answer := ask(endpoint)).status is None:
            advice = f"Check {self._parts()[0]}, the network and HTTPS_PROXY."
            message = f"{location}: {endpoint} cannot be reached: {answer.message}"
            yield Finding(self.name, "fail", message, advice)
            return
        key, store = f".doctor/{uuid.uuid4().hex}", location.objects()
        own = replace(location, rooms=())
        try:
            obstore.put(store, key, b"darts_assets")
            obstore.get(store, key).bytes()
            obstore.delete(store, key)
            ensure_safe(own.child(cubes) if cubes and cubes not in dict(location.rooms) else own)
        except UnsafeStoreError as error:
            advice = "Concurrent runs would lose chunks without an error."
            advice = f"{advice} Set {self.variable} to another service or to a path."
            yield Finding(self.name, "fail", str(error), advice)
        except (BaseError, StoreError, OSError) as error:
            yield self._failure(location, error.__cause__ if isinstance(error.__cause__, Exception) else error)
        else:
            yield Finding(self.name, "ok", f"{location}: writable, safe for concurrent writers")
        finally:
            with suppress(BaseError, OSError):
                obstore.delete(store, key)

    def _failure(self, location: StoreLocation, error: Exception) -> Finding:
        """Failed finding for an error of the service."""
        code = error_code(str(error))
        why = _REASONS.get(code) or in_words(error)
        default = f"Check {self.variable}, {', '.join(self._parts())} and AWS_ACCESS_KEY_ID."
        advice = _ADVICE[code].format(variable=self.variable) if code in _ADVICE else default
        return Finding(self.name, "fail", f"{location} is not writable: {why}{f' ({code})' if code else ''}", advice)

    def _parts(self) -> tuple[str, str]:
        """Settings of service and region."""
        return f"{self.variable}_ENDPOINT", f"{self.variable}_REGION"
