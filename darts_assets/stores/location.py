"""A local path or an S3 prefix, and the clients that access it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from darts_assets.errors import StoreError
from darts_assets.redaction import shown
from darts_assets.remote.retry import object_store_retries
from darts_assets.remote.s3_auth import service_url, split_s3_url
from darts_assets.stores.service_errors import in_words

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_CLIENT = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}


_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{0,62}", re.ASCII)
_MISTYPED = re.compile(r"(s3a?|gs|gcs|az|https?|file):", re.IGNORECASE)  # one slash, or none
_REFUSED = re.compile(r"[\x00-\x1f\x7f\\#?%*^`|<>\"{}\[\]/]")
_SHOWN = 80  # characters of a refused name in messages
_LONGEST_NAME = 200  # bytes; disks allow 255 for a name, of which some are for suffixes


def checked_name(name: str) -> str:
    """A name of a folder or object in a store, unchanged.

    Raises:
        StoreError: if a disk or an object store refuses it or stores it under another name.
    """
    if problem := _problem(name):
        raise StoreError(f"{name[:_SHOWN]!r} cannot be a name in a store: it {problem}")
    return name


def _problem(name: str) -> str:
    """Why a text cannot be a name in a store; empty if it can."""
    if name in ("", ".", ".."):
        return f"contains {name!r} between slashes"
    if match := _REFUSED.search(name):
        return f"contains {match[0]!r}"
    if name != name.strip():
        return "begins or ends with a blank"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return f"has {length} bytes, more than {_LONGEST_NAME}" if length > _LONGEST_NAME else ""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A root of relative keys on a local path or in an object store.

    Credentials are not part of a location; clients read them from the environment.

    Attributes:
        url: a local path, or `s3://bucket/prefix`.
        endpoint: URL of an S3-compatible service; by default AWS.
        region: S3 region; by default that of the environment.
        rooms: folders of a store that lie elsewhere: name and location of each; `child` leads there.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    rooms: tuple[tuple[str, "StoreLocation"], ...] = field(default=(), repr=False)
    _root: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        scheme, separator, _ = self.url.partition("://")
        if scheme.lower() == "s3" and separator:
            bucket, prefix = split_s3_url(self.url)
            if not _BUCKET.fullmatch(bucket):
                raise StoreError(f"{shown(self.url)}: the bucket is missing or invalid; expected s3://bucket/prefix")
            parts = prefix.rstrip("/").split("/") if prefix.strip("/") else []
            if problem := next(filter(None, map(_problem, parts)), ""):
                raise StoreError(f"{self.url}: the prefix {problem}; expected s3://bucket/prefix")
            object.__setattr__(self, "url", "/".join(("s3:/", bucket, *parts)))
        elif separator or _MISTYPED.match(self.url):
            raise StoreError(f"{shown(self.url)} is not supported; expected a local path or s3://bucket/prefix")
        elif not self.url.strip() or "\0" in self.url:
            raise StoreError(f"{self.url!r} is not a location; expected a local path or s3://bucket/prefix")
        if self.endpoint is not None:
            object.__setattr__(self, "endpoint", service_url(self.endpoint) if self.endpoint else None)

    @property
    def is_local(self) -> bool:
        """Whether this is a local path."""
        return "://" not in self.url

    @property
    def path(self) -> Path:
        """The absolute local path.

        Raises:
            StoreError: on an object store.
        """
        if not self.is_local:
            raise StoreError(f"{self.url} is not a local path")
        return Path(self.url).expanduser().resolve()

    @property
    def bucket(self) -> str:
        """The S3 bucket."""
        return split_s3_url(self.url)[0]

    @property
    def prefix(self) -> str:
        """The S3 prefix, without leading and trailing slashes."""
        return split_s3_url(self.url)[1]

    @property
    def root(self) -> "StoreLocation":
        """The location that this one is a child of, directly or through others; itself if there is none."""
        return replace(self, url=self._root, rooms=()) if self._root else self

    def child(self, *parts: str) -> "StoreLocation":
        """The location of `parts` below this one, or below the room that `parts` begin with.

        Raises:
            StoreError: if a part cannot be a name in a store (`checked_name`).
        """
        for part in parts:
            checked_name(part)
        if parts and (room := dict(self.rooms).get(parts[0])):
            return room.child(*parts[1:]) if parts[1:] else room
        url = "/".join((self.url.rstrip("/"), *parts))
        return replace(self, url=url, rooms=() if parts else self.rooms, _root=self._root or self.url)

    def key_of(self, url: str) -> str:
        """The key of a path or URL in this store, also of one in a room that lies elsewhere: the parts of `child`.

        Raises:
            ValueError: if it is not in the store.
        """
        for prefix, place in (*((f"{name}/", room) for name, room in self.rooms), ("", self)):
            if url.startswith(start := f"{place.url.rstrip('/')}/"):
                return prefix + url.removeprefix(start)
        raise ValueError(f"{url} is not in {self}")

    def objects(self) -> LocalStore | S3Store:
        """The object store with this location as root; creates a local folder."""
        if self.is_local:
            return LocalStore(str(self.path), mkdir=True)
        config: dict[str, Any] = {"virtual_hosted_style_request": False} if self.endpoint else {}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.region:
            config["region"] = self.region
        client = {**_CLIENT, "allow_http": bool(self.endpoint and self.endpoint.startswith("http://"))}
        return S3Store(
            self.bucket,
            prefix=self.prefix or None,
            client_options=cast(Any, client),
            retry_config=cast(Any, object_store_retries()),
            **config,
        )

    def filesystem(self) -> "S3FileSystem | None":
        """The filesystem of `file`, for pandas and pyarrow: None for a local path, whose folder is created."""
        if self.is_local:
            self.path.mkdir(parents=True, exist_ok=True)
            return None
        from s3fs import S3FileSystem

        config = {"request_checksum_calculation": "when_required", "connect_timeout": 10, "read_timeout": 60}
        return S3FileSystem(
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": self.region or os.environ.get("AWS_REGION")},
            config_kwargs={**config, "s3": {"addressing_style": "path" if self.endpoint else "auto"}},
            use_listings_cache=False,
        )

    def file(self, key: str) -> str:
        """The path of an object in `filesystem`."""
        return str(self.path / key) if self.is_local else "/".join(filter(None, (self.bucket, self.prefix, key)))

    def folders(self) -> list[str]:
        """Names of the folders directly below this location, sorted; none if a local folder does not exist.

        Raises:
            StoreError: if the object store does not respond, or the bucket does not exist.
        """
        if self.is_local and not self.path.is_dir():
            return []  # listing would create the folder
        try:
            return sorted(obstore.list_with_delimiter(self.objects())["common_prefixes"])
        except BaseError as error:
            raise StoreError(f"{self} cannot be listed: {in_words(error)}") from error

    def keys(self, prefix: str | None = None) -> Iterator[str]:
        """Keys of all objects below this location, or below its `prefix`."""
        for batch in obstore.list(self.objects(), prefix):
            for entry in batch:
                yield entry["path"]

    def __str__(self) -> str:
        return self.url
