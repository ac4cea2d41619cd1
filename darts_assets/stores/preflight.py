"""Proof that an object store honours conditional writes, before anything relies on them.

Icechunk commits by conditional PUT. A store that ignores the condition accepts both of two concurrent commits, keeps
one, and reports no error: chunks vanish. So two writers are put to the test first; one must lose.

The store remembers that it has passed, in a small record below the place that was tested, so that later processes read
one object instead of making the test again. The record says for which service, bucket and prefix it holds, and its
name is made from them: when a bucket is copied to another service, its records are not looked at there. It also says
when the test was, by the store's clock: a record that is younger than its test is a copy. Nothing is remembered of a
store that failed: it may be repaired.
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
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
)

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

FOLDER = ".preflight"
"""Where a store remembers, below the place that was tested."""

_PROVEN = "PUT with If-None-Match does not overwrite, PUT with If-Match does not overwrite another version"
_COPY = timedelta(minutes=5)  # a record is written within seconds of the test, retries of the requests included

_proven: set[StoreLocation] = set()


def ensure_safe(location: StoreLocation) -> None:
    """Make sure that `location` is safe for concurrent commits; free on a local path.

    The test is made once per store, which remembers it; any number of processes may make it at the same time. A later
    process reads the record once.

    Raises:
        UnsafeStoreError: if the object store lets a second writer overwrite what it must not.
        StoreError: if the object store does not answer or does not let us write.
    """
    if location.is_local or location in _proven:
        return
    try:
        store = location.objects()
        if not _is_remembered(location, store):
            _remember(location, store, tested=_test(location, store))
    except (BaseError, OSError) as error:
        said = str(error).partition("\n")[0]
        raise StoreError(f"{location}: it cannot be tested whether commits are safe here: {said}") from error
    _proven.add(location)


def _test(location: StoreLocation, store: "ObjectStore") -> datetime:
    """Let a second writer try to overwrite the first; returns when that was, by the store's clock."""
    key = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        first = obstore.put(store, key, b"first", mode="create")
        _must_lose(location, store, key, "create")
        etag: UpdateVersion = {"e_tag": first["e_tag"]}
        obstore.put(store, key, b"second", mode=etag)
        _must_lose(location, store, key, etag)
        return obstore.head(store, key)["last_modified"]
    except NotSupportedError as error:
        raise UnsafeStoreError(f"{location}: the object store has no conditional writes ({error})") from error
    finally:
        with suppress(BaseError, OSError):  # it proves what it proves where nothing may be deleted, too
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
        found = obstore.get(store, _record_key(claim))
        record = json.loads(bytes(found.bytes()))
        tested = datetime.fromisoformat(record["tested"])
    except (FileNotFoundError, PermissionDeniedError):  # S3 denies what is not there to those who may not list
        return False
    except (ValueError, KeyError, TypeError):  # damaged, or no record of ours
        return False
    return claim.items() <= record.items() and abs(found.meta["last_modified"] - tested) < _COPY


def _remember(location: StoreLocation, store: "ObjectStore", tested: datetime) -> None:
    claim = _claim(location)
    record = claim | {"tested": tested.isoformat(), "by": f"darts_assets {version('darts_assets')}"}
    obstore.put(store, _record_key(claim), json.dumps(record, indent=1).encode())


def _claim(location: StoreLocation) -> dict[str, Any]:
    """What a record is about; a record of anything else, or of another test, is not believed."""
    return {
        "endpoint": re.sub(r"//[^/@]*@", "//", location.endpoint or "AWS"),  # without a user's name and password
        "bucket": location.bucket,
        "prefix": location.prefix,
        "proven": _PROVEN,
    }


def _record_key(claim: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(claim, sort_keys=True).encode()).hexdigest()
    return f"{FOLDER}/passed-{digest[:16]}.json"
