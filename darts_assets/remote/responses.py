"""Limits of requests: where redirects may lead, and how many bytes and seconds a response may take."""

import ipaddress
import socket
import time
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import requests

from darts_assets.errors import SourceUnavailableError, TooLargeError
from darts_assets.redaction import shown

MAX_DOCUMENT_BYTES = 64 * 2**20
"""Of an item, a file of metadata or settings."""

MAX_PAGE_BYTES = 256 * 2**20
"""Of a page of a search, an item collection, an area of interest."""

BODY_SECONDS = 300.0
"""Longest time of a response's body, without that of a file's bytes at `SLOWEST`."""

SLOWEST = 20_000
"""Bytes per second."""

_CHUNK = 1 << 16


class GuardedSession(requests.Session):
    """A session that does not follow redirects from public services to private addresses.

    A private service, such as a mirror that a setting names, may redirect anywhere.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """The URL to follow, None if there is none.

        Raises:
            SourceUnavailableError: if it must not be followed.
        """
        target = super().get_redirect_target(resp)
        if target is not None and is_private(urljoin(resp.url, target)) and not is_private(resp.url):
            raise SourceUnavailableError(f"{shown(resp.url)} redirects to a private address, which is not followed")
        return target


def is_private(url: str) -> bool:
    """Whether the host of a URL has an address that is not public, as seen from this machine."""
    try:
        host = urlsplit(url).hostname
        return any(
            not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global
            for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
    except (OSError, ValueError):  # unknown here; a proxy may know it
        return False


def check_redirects(url: str, timeout: tuple[float, float]) -> None:
    """Request one byte, for files that are then read by GDAL, which follows all redirects.

    Raises:
        SourceUnavailableError: if the URL is public and leads to a private address. Any other failure is left to GDAL.
    """
    if is_private(url):
        return
    with GuardedSession() as session, suppress(requests.RequestException):
        session.get(url, headers={"Range": "bytes=0-0"}, stream=True, timeout=timeout).close()


class Allowance:
    """Bytes and seconds that are left for the body of a response.

    Args:
        what: the file or request, for errors.
        most: bytes.
    """

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most, self._left = what, most, most
        self._seconds = BODY_SECONDS + most / SLOWEST
        self._end = time.monotonic() + self._seconds

    def take(self, count: int) -> None:
        """Subtract received bytes.

        Raises:
            TooLargeError: if there are too many.
            SourceUnavailableError: if they took too long.
        """
        self._left -= count
        if self._left < 0:
            raise TooLargeError(f"{self._what} has more than {self._most} bytes")
        if time.monotonic() > self._end:
            raise SourceUnavailableError(f"{self._what} is not complete after {self._seconds:.0f} s")


def read_body(response: requests.Response, what: str, most: int) -> bytes:
    """The decoded body of a streamed response; raises as `Allowance`, and errors of `requests`."""
    allowance, parts = Allowance(what, most), []
    for part in response.iter_content(_CHUNK):
        allowance.take(len(part))
        parts.append(part)
    return b"".join(parts)


def read_head(response: requests.Response, count: int = 4096) -> str:
    """The beginning of the body of a streamed response, such as an error message."""
    return next(response.iter_content(count), b"").decode("utf-8", errors="replace")
