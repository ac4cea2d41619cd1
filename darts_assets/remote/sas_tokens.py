"""Signatures for files in Azure's blob storage, from a token service like that of the Planetary Computer.

The service answers `GET SERVICE/ACCOUNT/CONTAINER` with `{"token": QUERY, "msft:expiry": TIME}`; the query is appended
to URLs of the container (https://planetarycomputer.microsoft.com/docs/concepts/sas/). No account is needed. Items keep
URLs without signatures: a token is added to each request, and replaced before it expires or when it is refused.
"""

import datetime as dt
import json
import os
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from pystac.utils import str_to_datetime

from darts_assets.errors import SourceUnavailableError
from darts_assets.redaction import shown
from darts_assets.remote.responses import GuardedSession, read_body
from darts_assets.remote.retry import TransientError, connection_failure, is_transient_status, retry_after, with_retries

PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/sas/v1/token"

SUBSCRIPTION_KEY = "PC_SDK_SUBSCRIPTION_KEY"
"""Environment variable with a key of the Planetary Computer, which raises its limits; as for its own client."""

_STORAGE = ".blob.core.windows.net"
_TIMEOUT = (10.0, 60.0)
_MOST = 1 << 16
_MARGIN = dt.timedelta(seconds=60)
_SHARE = 0.1  # of a token's life; shorter than the margin for tokens that live for minutes


@dataclass(frozen=True, slots=True)
class _Token:
    query: str
    renew: dt.datetime


_tokens: dict[str, _Token] = {}
_lock = threading.Lock()


def is_signed(href: str, service: str | None) -> bool:
    """Whether requests for a URL get a token: those to Azure's storage, and to the host of the service itself."""
    if not service:
        return False
    url = urlsplit(href)
    return (
        url.scheme in ("http", "https")
        and not url.query
        and (
            (url.scheme == "https" and (url.hostname or "").endswith(_STORAGE))
            or url.netloc == urlsplit(service).netloc
        )
    )


def signed(href: str, service: str | None) -> str:
    """A URL with a valid token, or the URL as it is if it needs none.

    Args:
        href: any href.
        service: URL of the token service, None for no tokens.

    Raises:
        SourceUnavailableError: if the service issues no token after bounded retries.
    """
    if not service or not is_signed(href, service):
        return href
    url = _token_url(href, service)
    with _lock:  # one request for all threads
        token = _tokens.get(url)
        if token is None or token.renew <= dt.datetime.now(dt.UTC):
            token = _tokens[url] = with_retries(lambda: _request(url), f"{shown(url)} issues no token")
    return f"{href}?{token.query}"


def forget(href: str, service: str | None) -> None:
    """Request a new token for the next use of a URL, because its token was refused."""
    if service and is_signed(href, service):
        with _lock:
            _tokens.pop(_token_url(href, service), None)


def _token_url(href: str, service: str) -> str:
    url = urlsplit(href)
    account, container = (url.hostname or "").partition(".")[0], url.path.lstrip("/").partition("/")[0]
    return f"{service.rstrip('/')}/{account}/{container}"


def _request(url: str) -> _Token:
    key = os.environ.get(SUBSCRIPTION_KEY)
    headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
    now = dt.datetime.now(dt.UTC)
    try:
        with GuardedSession() as session, session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            status, body = response.status_code, read_body(response, shown(url), _MOST)
            wait = retry_after(response.headers.get("Retry-After"))
    except requests.RequestException as error:
        failure = connection_failure(error, url, _TIMEOUT)
    else:
        if is_transient_status(status):
            raise TransientError(f"HTTP {status}", retry_after=wait)
        if status != 200:
            raise SourceUnavailableError(f"{shown(url)} issues no token: HTTP {status}")
        return _parsed(body, url, now)
    raise failure  # not chained: the original holds the request with the key


def _parsed(body: bytes, url: str, now: dt.datetime) -> _Token:
    try:
        document = json.loads(body)
        query, expiry = document["token"], str_to_datetime(document["msft:expiry"]).astimezone(dt.UTC)
        if not isinstance(query, str):
            raise TypeError("token")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SourceUnavailableError(
            f"{shown(url)}: the response is not a token; an object with 'token' and 'msft:expiry' was expected"
        ) from None
    return _Token(query.lstrip("?"), expiry - min(_MARGIN, _SHARE * (expiry - now)))
