"""Planet's `manifest.json`: which files a delivery consists of; it is written last.

`{"files": [{"path": "PSScene/ID_..._SR.tif", "size": 1000, "digests": {"md5": ..., "sha256": ...}, ...}]}`, with paths
relative to the manifest's folder.
"""

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darts_assets.errors import SceneError
from darts_assets.remote.byte_reader import S3Options, read_bytes, shown

NAME = "manifest.json"

_MULTIHASH = {"sha256": ("1220", 64), "md5": ("d50110", 32)}
"""Digest -> head of its multihash, and its hexadecimal digits; the best first."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A file that a manifest promises.

    Attributes:
        href: where it will be.
        size: its bytes.
        checksum: multihash as STAC items have it, None where the manifest gives none.
    """

    href: str
    size: int
    checksum: str | None = None


def read_manifest(href: str, s3: S3Options) -> list[Promise]:
    """The files that a manifest promises.

    Raises:
        SceneError: if it is none, perhaps because it is being written.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    folder = href.rpartition("/")[0]
    try:
        content: Any = json.loads(read_bytes(href, s3))
        return [_promise(folder, entry) for entry in content["files"]]
    except FileNotFoundError:
        raise SceneError(f"{shown(href)}: there is no such file any more") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SceneError(
            f"{shown(href)} is no manifest of Planet, or half a one: a list 'files' with path and size of each was "
            f"expected ({type(error).__name__}: {error})"
        ) from None


def _promise(folder: str, entry: Mapping[str, Any]) -> Promise:
    digests = entry.get("digests") or {}
    hashes = (
        head + str(digests.get(name)).lower()
        for name, (head, digits) in _MULTIHASH.items()
        if re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", str(digests.get(name)))
    )
    scheme, separator, rest = folder.rpartition("://")
    # Not `normpath` of the whole: it would take one of the two slashes of `s3://`.
    path = posixpath.normpath(posixpath.join(rest, str(entry["path"])))
    return Promise(f"{scheme}{separator}{path}", int(entry["size"]), next(hashes, None))
