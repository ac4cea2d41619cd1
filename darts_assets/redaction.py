"""Text for people and logs, without credentials."""

import os
import re

_USER = re.compile(r"(?<=://)[^\s/'\"`]+@")
_QUERY = re.compile(r"(\w://[^\s?'\"`]*\?)[^\s'\"`<>]*[^\s'\"`<>,.;:)\]}]")
_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DARTS_NOTIFY_WEBHOOK", "PGPASSWORD",
    "DAGSTER_PG_PASSWORD",
)  # fmt: skip
"""Environment variables whose values are secrets as a whole."""


def shown(text: str) -> str:
    """A URL, path or message with `***` for the user names and queries of URLs and for secrets of the environment."""
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return _QUERY.sub(r"\1***", _USER.sub("***@", text)) if "://" in text else text
