"""A local path or an S3 prefix, and the clients that access it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.store import LocalStore, S3Store

from darts_assets.errors import StoreError
from darts_assets.remote.retry import object_store_retries

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_CLIENT = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A root of relative keys on a local path or in an object store.

    Credentials are not part of a location; clients read them from the environment.

    Attributes:
        url: a local path, or `s3://bucket/prefix`.
        endpoint: URL of an S3-compatible service; by default AWS.
        region: S3 region; by default that of the environment.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        scheme = urlsplit(self.url).scheme
        if "://" in self.url and scheme != "s3":
            raise StoreError(f"{self.url}: {scheme}:// is not supported; expected a local path or s3://bucket/prefix")
        if scheme == "s3" and not urlsplit(self.url).netloc:
            raise StoreError(f"{self.url}: the bucket is missing; expected s3://bucket/prefix")

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
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The S3 prefix, without leading and trailing slashes."""
        return urlsplit(self.url).path.strip("/")

    def child(self, *parts: str) -> "StoreLocation":
        """The location of `parts` below this one.

        Raises:
            StoreError: if a part is empty, `.`, `..` or contains a slash.
        """
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            raise StoreError(f"{'/'.join(parts)!r} is not a valid name in a store")
        return replace(self, url="/".join((self.url.rstrip("/"), *parts)))

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

    def keys(self, prefix: str | None = None) -> Iterator[str]:
        """Keys of all objects below this location, or below its `prefix`."""
        for batch in obstore.list(self.objects(), prefix):
            for entry in batch:
                yield entry["path"]

    def __str__(self) -> str:
        return self.url
