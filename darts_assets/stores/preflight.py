"""Test of an object store for conditional writes, which Icechunk commits rely on.

A store that ignores the condition of a PUT accepts two concurrent commits, keeps one and reports no error: chunks are
lost. The test lets a second writer try to overwrite the first, which must fail.

A store that passes keeps a small record, so that later processes read one object instead of testing again. The record
is named by service, bucket and prefix, so a bucket copied to another service is tested there. It holds the time of the
test by the store's clock: a record written later than its test is a copy and not accepted. Failures are not recorded,
since the store may be repaired.
"""

import hashlib
import json
import re
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
)

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import Pointer, State, SupersededError
from darts_assets.stores.service_errors import in_words

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

FOLDER = ".preflight"
"""Folder of the record, below the tested location."""

_PROVEN = "PUT with If-None-Match does not overwrite, PUT with If-Match does not overwrite another version"
_COPY = timedelta(minutes=5)  # records are written within seconds of the test, including retries

_proven: set[StoreLocation] = set()


def ensure_safe(location: StoreLocation) -> None:
    """Check that `location` is safe for concurrent commits; a local path is.

    Each store is tested once, by any number of processes at the same time; later processes read the record once.

    Raises:
        UnsafeStoreError: if the object store ignores conditional writes.
        StoreError: if the object store does not respond or denies writing.
    """
    if location.is_local or location in _proven:
        return
    try:
        store = location.objects()
        if not _is_remembered(location, store):
            _remember(location, store, tested=_test(location, store))
    except UnsafeStoreError:
        raise
    except (BaseError, OSError, StoreError) as error:
        raise StoreError(f"{location}: the test for safe concurrent commits failed: {in_words(error)}") from error
    _proven.add(location)


def _test(location: StoreLocation, store: "ObjectStore") -> datetime:
    """Try to overwrite a conditional write; returns the time of the test by the store's clock."""
    key = f"{FOLDER}/{uuid.uuid4().hex}"
    pointer = Pointer(location, key)
    try:
        first = pointer.replace(State(None), b"first")
        _must_lose(location, store, key, "create")
        pointer.replace(first, b"second")
        _must_lose(location, store, key, {"e_tag": first.e_tag})
        return obstore.head(store, key)["last_modified"]
    except SupersededError as error:
        raise UnsafeStoreError(f"{location}: the object store refuses valid conditional writes ({error})") from error
    finally:
        with suppress(BaseError, OSError):  # the test works without permission to delete
            obstore.delete(store, key)


def _must_lose(
    location: StoreLocation, store: "ObjectStore", key: str, mode: "Literal['create'] | UpdateVersion"
) -> None:
    try:
        obstore.put(store, key, b"loser", mode=mode)
    except (AlreadyExistsError, PreconditionError):
        return
    raise UnsafeStoreError(
        f"{location}: the object store ignores conditional writes, so concurrent commits would be lost without an "
        "error; use a store that honours If-None-Match and If-Match on PUT, or a local path"
    )


def _is_remembered(location: StoreLocation, store: "ObjectStore") -> bool:
    claim = _claim(location)
    try:
        stored = obstore.get(store, _record_key(claim))
        record = json.loads(bytes(stored.bytes()))
        tested = datetime.fromisoformat(record["tested"])
    except (FileNotFoundError, PermissionDeniedError):  # S3 denies missing keys without permission to list
        return False
    except (ValueError, KeyError, TypeError):  # damaged or foreign
        return False
    return claim.items() <= record.items() and abs(stored.meta["last_modified"] - tested) < _COPY


def _remember(location: StoreLocation, store: "ObjectStore", tested: datetime) -> None:
    claim = _claim(location)
    record = claim | {"tested": tested.isoformat(), "by": f"darts_assets {version('darts_assets')}"}
    obstore.put(store, _record_key(claim), json.dumps(record, indent=1).encode())


def _claim(location: StoreLocation) -> dict[str, Any]:
    """The content that a record must have to be accepted."""
    return {
        "endpoint": re.sub(r"//[^/@]*@", "//", location.endpoint or "AWS"),  # without user name and password
        "bucket": location.bucket,
        "prefix": location.prefix,
        "proven": _PROVEN,
    }


def _record_key(claim: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(claim, sort_keys=True).encode()).hexdigest()
    return f"{FOLDER}/passed-{digest[:16]}.json"
