"""Where things are: a local path or an S3 prefix, and the object store behind it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.store import LocalStore, S3Store

from darts_assets.errors import StoreError
from darts_assets.remote.retry import object_store_retries

_CLIENT = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A place in an object store; everything below it is named by relative keys.

    Credentials are never part of a location: they come from the environment, as the AWS tools do it.

    Attributes:
        url: a local path, or `s3://bucket/prefix`.
        endpoint: URL of an S3-compatible service; None for AWS.
        region: S3 region; None for the environment's.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        scheme = urlsplit(self.url).scheme
        if "://" in self.url and scheme != "s3":
            raise StoreError(f"{self.url}: a store is a local path or s3://bucket/prefix, not {scheme}://")
        if scheme == "s3" and not urlsplit(self.url).netloc:
            raise StoreError(f"{self.url}: no bucket; expected s3://bucket/prefix")

    @property
    def is_local(self) -> bool:
        """Whether this is a path on this machine."""
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
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The S3 prefix, without slashes at its ends."""
        return urlsplit(self.url).path.strip("/")

    def child(self, *parts: str) -> "StoreLocation":
        """The location of `parts` below this one."""
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            raise StoreError(f"{'/'.join(parts)!r} cannot be a name in a store")
        return replace(self, url="/".join((self.url.rstrip("/"), *parts)))

    def objects(self) -> LocalStore | S3Store:
        """The object store with this location as its root; a local folder is created."""
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

    def keys(self, prefix: str | None = None) -> Iterator[str]:
        """Keys of all objects below this location (below `prefix` of it)."""
        for batch in obstore.list(self.objects(), prefix):
            for entry in batch:
                yield entry["path"]

    def __str__(self) -> str:
        return self.url
