"""Recursive listings of files: below a folder on disk, or below a prefix on S3."""

import datetime as dt
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from darts_assets.errors import SettingsError, SourceUnavailableError
from darts_assets.redaction import revealed
from darts_assets.remote.byte_reader import CONNECT_SECONDS, READ_SECONDS, is_remote, local_path, shown
from darts_assets.remote.retry import object_store_retries
from darts_assets.remote.s3_auth import S3Keys, S3Options, split_s3_url

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_REFUSED = {
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "NoSuchBucket", "PermanentRedirect",
    "SignatureDoesNotMatch",
}  # fmt: skip
"""Error codes of S3 that a retry does not change."""


@dataclass(frozen=True, slots=True)
class File:
    """A listed file.

    Attributes:
        href: an absolute path, or `s3://bucket/key`.
        size: bytes.
        modified: time of the last change, UTC.
    """

    href: str
    size: int
    modified: dt.datetime

    @property
    def name(self) -> str:
        """File name."""
        return self.href.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Parent folder."""
        return self.href.rpartition("/")[0]


def absolute(root: str) -> str:
    """The absolute path or `s3://` URL of a folder, without a trailing slash."""
    root = revealed(root)
    return root.rstrip("/") if is_remote(root) else str(local_path(root).expanduser().absolute())


def list_files(root: str, s3: S3Options, problems: list[str]) -> Iterator[File]:
    """All files below a folder except hidden ones, in no particular order; links are followed.

    Args:
        root: a folder, or `s3://bucket/prefix`.
        s3: how to reach `s3://`.
        problems: receives a sentence for each folder below it that cannot be read.

    Raises:
        SettingsError: if the folder does not exist, or S3 rejects the keys.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    root = absolute(root)
    if root.startswith("s3://"):
        yield from _on_s3(root, s3)
    elif is_remote(root):
        raise SettingsError(f"{shown(root)}: files can be listed in folders and below s3://bucket/prefix")
    elif not Path(root).is_dir():
        raise SettingsError(f"{root}: the folder does not exist")
    else:
        yield from _on_disk(root, problems)


def _on_disk(root: str, problems: list[str]) -> Iterator[File]:
    def note(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be read: {error.strerror}")

    seen = set()  # links may lead back up
    for folder, folders, names in os.walk(root, onerror=note, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            path = Path(folder, name)
            try:
                status = path.stat()
            except OSError:
                continue  # renamed meanwhile, as downloaders do, or a dangling link
            yield File(str(path), status.st_size, dt.datetime.fromtimestamp(status.st_mtime, dt.UTC))


def _on_s3(root: str, s3: S3Options) -> Iterator[File]:
    bucket, prefix = split_s3_url(root)
    if "" in prefix.split("/")[:-1]:
        raise SettingsError(f"{root}: '//' in a prefix is not supported; expected s3://bucket/prefix")
    is_empty = True
    try:
        for batch in obstore.list(bucket_store(bucket, s3), f"{prefix}/" if prefix else None):
            for entry in batch:
                is_empty = False
                if not any(part.startswith(".") for part in entry["path"].split("/")):
                    yield File(f"s3://{bucket}/{entry['path']}", entry["size"], entry["last_modified"])
    except BaseError as error:
        message = str(error)
        code = _CODE.search(message)
        if code and code[1] in _REFUSED:
            raise SettingsError(f"{s3.service}, {root} cannot be listed ({code[1]})") from None
        raise SourceUnavailableError(f"{s3.service}, {root}: {message.splitlines()[0]}") from None
    if is_empty:
        raise SettingsError(f"{s3.service}, {root}: there are no objects below it")


def bucket_store(bucket: str, s3: S3Options, prefix: str = "") -> S3Store:
    """A bucket, or the keys below a prefix, for listings and for Zarr; raises SettingsError if there are no keys."""
    config: dict[str, Any]
    if s3.anonymous:
        config = {"skip_signature": True, **({"aws_region": s3.region} if s3.region else {})}
    else:
        config = {name.lower(): value for name, value in S3Keys(s3).for_gdal().items() if value}
    if s3.endpoint:
        config |= {"endpoint": s3.endpoint, "virtual_hosted_style_request": False}
    client = {
        "connect_timeout": dt.timedelta(seconds=CONNECT_SECONDS),
        "timeout": dt.timedelta(seconds=READ_SECONDS),
        "allow_http": bool(s3.endpoint and s3.endpoint.startswith("http://")),
    }
    retries = cast("Any", object_store_retries())
    return S3Store(bucket, prefix=prefix or None, client_options=cast("Any", client), retry_config=retries, **config)
