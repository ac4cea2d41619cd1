"""Requests to STAC APIs and static STAC catalogs: an I/O class for `pystac_client`."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pystac
import requests
from pystac.link import HREF, Link
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from darts_assets.errors import DartsError, SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote.byte_reader import is_remote, shown
from darts_assets.remote.responses import MAX_PAGE_BYTES, GuardedSession, is_private, read_body
from darts_assets.remote.retry import TransientError, connection_failure, is_transient_status, retry_after, with_retries

TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and without a byte."""

_WRONG_SERVICE = {401, 403, 405, 501}
_LONGEST_MESSAGE = 300


class MissingDocumentError(SettingsError, APIError):
    """HTTP status 404; an APIError, because `pystac_client` interprets it."""

    status_code = 404


@dataclass
class _Turn:
    """The right to send a request to a host, which the threads of the process take in turn."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    last_end: float | None = None


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


class RateLimitedStacIO(StacApiIO):
    """Sends one request at a time to a host, with a pause after each response, under the policy of `retry`.

    Args:
        name: name of the service, for messages.
        pause: seconds between the end of any request and the start of the next; services on a host share it.

    Raises (`read_json`, `get_pages`):
        SceneError: if the service refuses the request; the text has its message.
        SettingsError: if the service refuses the client, or there is no such service at the URL.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """

    def __init__(self, name: str = "STAC", *, pause: float = 0.0) -> None:
        super().__init__(timeout=TIMEOUT, max_retries=None)
        self.session = GuardedSession()
        self.name = name
        self.requests = 0
        """Number of requests sent, repetitions included."""
        self._pause = pause
        self._first: str | None = None

    def read_json(self, source: HREF, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The JSON object at a path, URL or link."""
        link = source.to_dict() if isinstance(source, Link) else {"href": str(source)}
        if not is_remote(link["href"]):
            return super().read_json(source, *args, **kwargs)

        def attempt() -> dict[str, Any]:
            text = self.read_text(source, *args, **kwargs)
            try:
                document = self.json_loads(text)
            except ValueError:
                if text.lstrip().startswith("{"):
                    raise TransientError("the response is truncated") from None
                document = None
            except RecursionError:
                document = None
            if not isinstance(document, dict):
                raise SettingsError(f"{subject}: the response is not a JSON object but begins with {text[:40]!r}")
            return document

        method = link.get("method") or kwargs.get("method") or "GET"
        subject = f"{self.name}: {method} {shown(link['href'])}"
        return with_retries(attempt, f"{subject} failed")

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The body of the response to one request."""
        self._check_link(href)
        method = (method or "GET").upper()
        query, body = (parameters, None) if method == "GET" else (None, parameters)
        with _turns_lock:
            turn = _turns.setdefault(urlsplit(href).netloc, _Turn())
        with turn.lock:
            if turn.last_end is not None:
                time.sleep(max(0.0, turn.last_end + self._pause - time.monotonic()))
            self.requests += 1
            try:
                with self.session.request(
                    method,
                    href,
                    params=query,
                    json=body,
                    headers=headers,
                    timeout=TIMEOUT,
                    allow_redirects=method == "GET",  # a redirected POST would become a GET
                    stream=True,
                ) as response:
                    content = read_body(response, f"{self.name}: {method} {shown(href)}", MAX_PAGE_BYTES)
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
                raise SettingsError(f"{self.name}: {shown(href)} is not a URL") from None
            except requests.RequestException as error:
                raise connection_failure(error, href, TIMEOUT) from None
            finally:
                turn.last_end = time.monotonic()
        if not response.ok or response.is_redirect:
            raise _failure(response, content, f"{self.name}: {method} {shown(href)}")
        return content.decode("utf-8", errors="replace")

    def _check_link(self, href: str) -> None:
        """Like redirects, the links of a public service do not lead to private addresses."""
        self._first = self._first or href
        if urlsplit(href).netloc != urlsplit(self._first).netloc and is_private(href) and not is_private(self._first):
            raise SourceUnavailableError(f"{self.name}: a link leads to {shown(href)}, a private address")

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The pages of a search; unlike in `pystac_client`, an empty page does not end them, and a repeated link does.

        Raises:
            SourceUnavailableError: if the link to the next page occurs twice.
        """
        if not is_remote(url):
            raise SettingsError(f"{self.name}: {shown(url)} is not a URL")
        links = set()
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            following = next((link for link in page.get("links") or () if link.get("rel") == "next"), None)
            yield page
            if following is None:
                return
            if (key := json.dumps(following, sort_keys=True)) in links:
                raise SourceUnavailableError(f"{self.name}: the link to the next page leads to one that was read")
            links.add(key)
            del page  # one page of CDSE takes 200 MB
            page = self.read_json(Link.from_dict(following), parameters=parameters or {})


class StaticStacIO(RateLimitedStacIO):
    """The same for catalogs that are files: they become objects of pystac, not clients of an API."""

    stac_object_from_dict = pystac.StacIO.stac_object_from_dict


def _failure(response: requests.Response, content: bytes, subject: str) -> Exception:
    """The error for a response that is not a success."""
    status = response.status_code
    message = f"HTTP status {status}, {_message(response.reason, content)}"
    if is_transient_status(status):
        return TransientError(message, retry_after=retry_after(response.headers.get("Retry-After")))
    if response.is_redirect:
        return SettingsError(f"{subject}: the service moved to {shown(response.headers['Location'])}; set that URL")
    if status == MissingDocumentError.status_code:
        return MissingDocumentError(f"{subject} is refused: {message}")
    kind: type[DartsError] = SettingsError if status in _WRONG_SERVICE else SceneError
    return kind(f"{subject} is refused: {message}")


def _message(reason: str, content: bytes) -> str:
    """The reason for a refusal, in the fields of STAC and OGC APIs and of gateways."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = content[: 10 * _LONGEST_MESSAGE].decode("utf-8", errors="replace")
    if isinstance(body, dict):
        body = next((body[key] for key in ("description", "detail", "message", "title") if body.get(key)), body)
    return " ".join(shown(str(body)).split())[:_LONGEST_MESSAGE] or reason or "no reason given"
