"""Checks of network services: whether they respond within seconds."""

import datetime as dt
import email.utils
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from darts_assets.doctor.findings import Finding

TIMEOUT = (3.0, 8.0)  # seconds for the connection and for the response
_MAX_SKEW = dt.timedelta(minutes=5)  # AWS refuses signatures from 15 minutes
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


@dataclass(frozen=True)
class Answer:
    """Response of a service.

    Attributes:
        status: HTTP status; None without a response.
        message: status or reason in words.
        skew: clock of the service minus local clock; None without a Date header.
    """

    status: int | None
    message: str
    skew: dt.timedelta | None = None

    @property
    def is_up(self) -> bool:
        """Whether the service responds without a server error."""
        return self.status is not None and self.status < 500


def ask(url: str) -> Answer:
    """Send one GET request and read only the headers of the response."""
    import requests

    try:
        with requests.get(url, timeout=TIMEOUT, stream=True) as answer:
            return Answer(answer.status_code, f"HTTP {answer.status_code}", _skew(answer.headers.get("Date")))
    except requests.Timeout:
        return Answer(None, f"no response within {TIMEOUT[1]:g} s")
    except requests.exceptions.SSLError:
        return Answer(None, "the certificate is not trusted")
    except requests.RequestException as error:
        return Answer(None, "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__)


def error_code(body: str) -> str:
    """Error code of an S3 error document, or an empty string; the rest of the document may contain keys."""
    match = _CODE.search(body)
    return match[1] if match else ""


def check_services(services: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Check that services respond.

    Args:
        services: URL of each service by name.
        offline: contact no service.
    """
    if offline:
        yield Finding("services", "skipped", f"offline: {', '.join(services) or 'none'} not contacted")
        return
    if not services:
        return
    with ThreadPoolExecutor(len(services)) as pool:
        answers = dict(zip(services, pool.map(ask, services.values()), strict=True))
    for name, answer in answers.items():
        message = f"{services[name]}: {answer.message}"
        if not answer.is_up:
            advice = "Check the network, HTTPS_PROXY and the status of the service, or set DARTS_OFFLINE=true."
            yield Finding(name, "fail", message, advice)
        elif answer.status == 404:
            yield Finding(name, "warn", message, "Check the URL.")
        else:
            yield Finding(name, "ok", message)
    skews = [answer.skew for answer in answers.values() if answer.skew is not None]
    if skews and min(abs(skew) for skew in skews) > _MAX_SKEW:
        minutes = min(skews, key=abs).total_seconds() / 60
        message = f"the clock of this machine is {abs(minutes):.0f} minutes {'slow' if minutes > 0 else 'fast'}"
        yield Finding("clock", "warn", message, "Set the clock: services refuse requests signed with a wrong time.")


def _skew(date: str | None) -> dt.timedelta | None:
    try:
        return email.utils.parsedate_to_datetime(date) - dt.datetime.now(dt.UTC) if date else None
    except (ValueError, TypeError):
        return None
