"""Checks of the store: reachable, writable, safe for concurrent writers."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
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
    "NoSuchBucket": "Create the bucket, or set DARTS_STORE to another.",
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


def check_store(root: StoreLocation, executor: str) -> Iterator[Finding]:
    """Check that the store is writable and safe for concurrent writers."""
    if not root.is_local:
        yield from _check_bucket(root)
        return
    yield from _check_folder(root.path)
    if executor.startswith("k8s"):
        yield Finding(
            "store", "warn", f"{root} is a local path, but DARTS_EXECUTOR={executor} runs each step in its own pod",
            "Set DARTS_STORE to s3://bucket/prefix, or to a volume shared by all pods.",
        )  # fmt: skip


def _check_folder(folder: Path) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    advice = "Set DARTS_STORE to a writable folder or to s3://bucket/prefix."
    if not existing.is_dir():
        yield Finding("store", "fail", f"{folder}: {existing} is a file, not a folder", advice)
        return
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"darts_assets")
    except OSError as error:
        yield Finding("store", "fail", f"{folder}: {existing} is not writable: {error.strerror}", advice)
        return
    free = shutil.disk_usage(existing).free
    message = f"{folder}{'' if existing == folder else ' (will be created)'}: writable, {free / _GIB:.1f} GiB free"
    if free < _FREE_SPACE:
        yield Finding(
            "store",
            "warn",
            message,
            "A full Sentinel-2 scene needs several GB. Free some space, or set DARTS_STORE to another folder.",
        )
    else:
        yield Finding("store", "ok", message)


def _check_bucket(root: StoreLocation) -> Iterator[Finding]:
    endpoint = root.endpoint or f"https://s3.{root.region or 'us-east-1'}.amazonaws.com"
    if (answer := ask(endpoint)).status is None:
        advice = "Check DARTS_STORE_ENDPOINT, the network and HTTPS_PROXY."
        yield Finding("store", "fail", f"{root}: {endpoint} cannot be reached: {answer.message}", advice)
        return
    key, store = f".doctor/{uuid.uuid4().hex}", root.objects()
    try:
        obstore.put(store, key, b"darts_assets")
        obstore.get(store, key).bytes()
        obstore.delete(store, key)
        ensure_safe(root.child("aux"))
    except UnsafeStoreError as error:
        advice = "Concurrent runs would lose chunks without an error. Set DARTS_STORE to another service or to a path."
        yield Finding("store", "fail", str(error), advice)
    except (BaseError, StoreError, OSError) as error:
        yield _failure(root, error.__cause__ if isinstance(error.__cause__, Exception) else error)
    else:
        yield Finding("store", "ok", f"{root}: writable, safe for concurrent writers")
    finally:
        with suppress(BaseError, OSError):
            obstore.delete(store, key)


def _failure(root: StoreLocation, error: Exception) -> Finding:
    """Failed finding for an error of the service."""
    code = error_code(str(error))
    why = _REASONS.get(code) or in_words(error)
    advice = _ADVICE.get(code, "Check DARTS_STORE, DARTS_STORE_ENDPOINT, DARTS_STORE_REGION and AWS_ACCESS_KEY_ID.")
    return Finding("store", "fail", f"{root} is not writable: {why}{f' ({code})' if code else ''}", advice)
