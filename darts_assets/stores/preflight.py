"""Proof that an object store honours conditional writes, before anything relies on them.

Icechunk commits by conditional PUT. A store that ignores the condition accepts both of two concurrent commits, keeps
one, and reports no error: chunks vanish. So two writers are put to the test first; one must lose.
"""

import uuid
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from darts_assets.errors import UnsafeStoreError
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

_proven: set[StoreLocation] = set()


def ensure_safe(location: StoreLocation) -> None:
    """Prove that `location` is safe for concurrent commits; once per process and location, free on a local path.

    Raises:
        UnsafeStoreError: if the object store lets a second writer overwrite what it must not.
    """
    if location.is_local or location in _proven:
        return
    store = location.objects()
    key = f".preflight/{uuid.uuid4().hex}"
    try:
        first = obstore.put(store, key, b"first", mode="create")
        _must_lose(location, store, key, "create")
        etag: UpdateVersion = {"e_tag": first["e_tag"]}
        obstore.put(store, key, b"second", mode=etag)
        _must_lose(location, store, key, etag)
    except NotSupportedError as error:
        raise UnsafeStoreError(f"{location}: the object store has no conditional writes ({error})") from error
    finally:
        obstore.delete(store, key)
    _proven.add(location)


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
