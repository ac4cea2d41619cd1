"""The store: there, writable, and safe for many writers at once."""

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

_GIB = 2**30
_ROOM = 20 * _GIB  # some full scenes
_ADVICE = {
    "ExpiredToken": "Get new keys, and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.",
    "InvalidAccessKeyId": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to keys of this service.",
    "SignatureDoesNotMatch": "Set AWS_SECRET_ACCESS_KEY to the secret that belongs to AWS_ACCESS_KEY_ID.",
    "AccessDenied": "Let these keys list, read, write and delete objects there.",
    "NoSuchBucket": "Create the bucket, or set DARTS_STORE to another.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
}
_REASONS = {
    "ExpiredToken": "the keys have expired",
    "InvalidAccessKeyId": "the service does not know the key in AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret in AWS_SECRET_ACCESS_KEY is wrong",
    "AccessDenied": "these keys do not allow it",
    "NoSuchBucket": "there is no such bucket",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}


def check_store(root: StoreLocation, executor: str) -> Iterator[Finding]:
    """Whether one can write there, and whether that is safe."""
    if not root.is_local:
        yield from _check_bucket(root)
        return
    yield from _check_folder(root.path)
    if executor.startswith("k8s"):
        yield Finding(
            "store", "warn", f"{root} is a path, but DARTS_EXECUTOR={executor} runs each step on a machine of its own",
            "Set DARTS_STORE to s3://bucket/prefix, or to a volume that all pods share.",
        )  # fmt: skip


def _check_folder(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    advice = "Set DARTS_STORE to a folder that you may write to, or to s3://bucket/prefix."
    if not there.is_dir():
        yield Finding("store", "fail", f"{folder}: {there} is a file, not a folder", advice)
        return
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"darts_assets")
    except OSError as error:
        yield Finding("store", "fail", f"{folder}: {there} cannot be written to: {error.strerror}", advice)
        return
    free = shutil.disk_usage(there).free
    said = f"{folder}{'' if there == folder else ' (will be created)'}: writable, {free / _GIB:.1f} GiB free"
    if free < _ROOM:
        yield Finding("store", "warn", said, "A full Sentinel-2 scene takes some GB; free some, or set DARTS_STORE.")
    else:
        yield Finding("store", "ok", said)


def _check_bucket(root: StoreLocation) -> Iterator[Finding]:
    endpoint = root.endpoint or f"https://s3.{root.region or 'us-east-1'}.amazonaws.com"
    if (answer := ask(endpoint)).status is None:
        advice = "See DARTS_STORE_ENDPOINT, the network, and HTTPS_PROXY."
        yield Finding("store", "fail", f"{root}: {endpoint} is not reached: {answer.said}", advice)
        return
    key, store = f".doctor/{uuid.uuid4().hex}", root.objects()
    try:
        obstore.put(store, key, b"darts_assets")
        obstore.get(store, key).bytes()
        obstore.delete(store, key)
        ensure_safe(root.child("aux"))
    except UnsafeStoreError as error:
        advice = "Concurrent runs would lose chunks without an error. Set DARTS_STORE to another service, or to a path."
        yield Finding("store", "fail", str(error), advice)
    except (BaseError, StoreError, OSError) as error:
        yield _refusal(root, str(error.__cause__ or error))
    else:
        yield Finding("store", "ok", f"{root}: writable, and safe for concurrent commits")
    finally:
        with suppress(BaseError, OSError):
            obstore.delete(store, key)


def _refusal(root: StoreLocation, said: str) -> Finding:
    """What went wrong; the services' own words may repeat the key."""
    code = error_code(said)
    why = _REASONS.get(code) or said.partition("\n")[0][:300]
    advice = _ADVICE.get(code, "See DARTS_STORE, DARTS_STORE_ENDPOINT and the keys in AWS_ACCESS_KEY_ID.")
    return Finding("store", "fail", f"{root} cannot be written to: {why}{f' ({code})' if code else ''}", advice)
