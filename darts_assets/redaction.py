"""Text for people, logs and metadata, without credentials."""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

_USER = re.compile(r"(?<=://)[^\s/'\"`]+@")
_QUERY = re.compile(r"(\w://[^\s?'\"`]*\?)[^\s'\"`<>]*[^\s'\"`<>,.;:)\]}]")
_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DARTS_NOTIFY_WEBHOOK", "DARTS_REVIEW_TOKEN",
    "PC_SDK_SUBSCRIPTION_KEY", "PGPASSWORD", "DAGSTER_PG_PASSWORD",
)  # fmt: skip
"""Environment variables whose values are secrets as a whole."""

_SHORTEST = 8
"""Shorter values are not searched outside URLs, because other words may contain them."""


_protected: dict[str, str] = {}


def protect(settings: Mapping[str, str]) -> None:
    """Hide the credentials in settings of a file as `shown` hides those of the environment.

    Args:
        settings: name of the environment variable -> value; replaces those of an earlier call.
    """
    _protected.clear()
    _protected.update(settings)


def shown(text: str) -> str:
    """A URL, path or message with `***` in place of credentials.

    These are user names and queries of URLs, keys and passwords of the environment, and, wherever they stand, passwords
    and values of queries in settings (`DARTS_*`, or in the settings file).
    """
    return _redacted(text, _secrets())


def link_base(url: str) -> str:
    """A URL to which paths of links are appended: without user, query, fragment and final slash."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def shown_values(value: Any) -> Any:
    """JSON with `shown` applied to its texts."""
    return _values(value, _secrets())


def _values(value: Any, secrets: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        return _redacted(value, secrets)
    if isinstance(value, dict):
        return {name: _values(each, secrets) for name, each in value.items()}
    return [_values(each, secrets) for each in value] if isinstance(value, list | tuple) else value


def _redacted(text: str, secrets: re.Pattern[str] | None) -> str:
    if "://" in text:
        text = _QUERY.sub(r"\1***", _USER.sub("***@", text))
    return secrets.sub("***", text) if secrets else text


def _secrets() -> re.Pattern[str] | None:
    values = (*os.environ.items(), *_protected.items())
    return _pattern(tuple(item for item in values if item[0] in _SECRETS or "://" in item[1]))


Url = TypeVar("Url", str, str | None)

_hidden: dict[str, str] = {}


def hidden(url: Url, setting: str) -> Url:
    """A URL for config that Dagster stores and shows: without credentials, which only `revealed` adds again.

    Args:
        url: the URL of a setting; returned as it is if it has no credentials.
        setting: name of the setting, a part of the result.
    """
    if url is None or (safe := shown(url)) == url:
        return url
    _hidden[f"{safe} ({setting})"] = url
    return f"{safe} ({setting})"


def revealed(url: str) -> str:
    """The URL behind the result of `hidden` in this process; any other text as it is."""
    return _hidden.get(url, url)


@lru_cache(maxsize=4)
def _pattern(environment: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    secrets = {value for name, value in environment if name in _SECRETS}
    for _, value in (item for item in environment if item[0].startswith("DARTS_")):
        for user in _USER.findall(value):
            secrets |= {user[:-1].partition(":")[2], unquote(user[:-1].partition(":")[2])}
        for query in _QUERY.finditer(value):
            secrets |= {secret for _, secret in parse_qsl(query[0].partition("?")[2])}
    texts = sorted((re.escape(secret) for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(texts)})(?!\w)") if texts else None
