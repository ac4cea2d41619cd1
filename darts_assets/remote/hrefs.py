"""Where a file is: hrefs are paths, `file://`, `http(s)://` or `s3://`."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEMES = ("http", "https", "s3")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\",)]*")
_USER = re.compile(r"((?:https?|s3)://)[^\s/@'\"]+@")


def is_remote(href: str) -> bool:
    """Whether reading `href` needs a network."""
    return urlsplit(href).scheme in _SCHEMES


def local_path(href: str) -> Path:
    """The path that a local href (a path or `file://...`) means."""
    return Path(unquote(urlsplit(href).path) if href.startswith("file://") else href)


def shown(text: str) -> str:
    """An href or a message without what may be secret: the queries of URLs (signatures) and user names."""
    return _USER.sub(r"\1", _QUERY.sub(r"\1", text))
