"""Services on the network: whether they answer, within seconds."""

import datetime as dt
import email.utils
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from darts_assets.doctor.findings import Finding

TIMEOUT = (3.0, 8.0)  # seconds, for the connection and for the answer
_SKEW = dt.timedelta(minutes=5)  # AWS refuses signatures at 15
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


@dataclass(frozen=True)
class Answer:
    """What a service has answered.

    Attributes:
        status: of HTTP; None if nothing came.
        said: in words.
        skew: how much the service's clock is ahead of ours, if it tells.
    """

    status: int | None
    said: str
    skew: dt.timedelta | None = None

    @property
    def came(self) -> bool:
        """Whether there is a service that works."""
        return self.status is not None and self.status < 500


def ask(url: str) -> Answer:
    """Ask once, and read no more than the head of the answer."""
    import requests

    try:
        with requests.get(url, timeout=TIMEOUT, stream=True) as answer:
            return Answer(answer.status_code, f"HTTP {answer.status_code}", _skew(answer.headers.get("Date")))
    except requests.Timeout:
        return Answer(None, f"no answer in {TIMEOUT[1]:g} s")
    except requests.exceptions.SSLError:
        return Answer(None, "its certificate is not trusted")
    except requests.RequestException as error:
        return Answer(None, "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__)


def error_code(body: str) -> str:
    """The code in an error of S3; the rest of it may repeat keys. Empty if there is none."""
    found = _CODE.search(body)
    return found[1] if found else ""


def check_services(services: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Whether services answer.

    Args:
        services: name -> URL.
        offline: ask none.
    """
    if offline:
        yield Finding("services", "skipped", f"offline: {', '.join(services) or 'none'} not asked")
        return
    if not services:
        return
    with ThreadPoolExecutor(len(services)) as pool:
        answers = dict(zip(services, pool.map(ask, services.values()), strict=True))
    for name, answer in answers.items():
        said = f"{services[name]}: {answer.said}"
        if not answer.came:
            advice = "See the network, HTTPS_PROXY, and the service's own status; offline: DARTS_OFFLINE=true."
            yield Finding(name, "fail", said, advice)
        elif answer.status == 404:
            yield Finding(name, "warn", said, "Is the URL right?")
        else:
            yield Finding(name, "ok", said)
    skews = [answer.skew for answer in answers.values() if answer.skew is not None]
    if skews and min(abs(skew) for skew in skews) > _SKEW:
        minutes = min(skews, key=abs).total_seconds() / 60
        said = f"this machine's clock is {abs(minutes):.0f} minutes {'slow' if minutes > 0 else 'fast'}"
        yield Finding("clock", "warn", said, "Set it: services refuse what is signed with a wrong time.")


def _skew(date: str | None) -> dt.timedelta | None:
    try:
        return email.utils.parsedate_to_datetime(date) - dt.datetime.now(dt.UTC) if date else None
    except (ValueError, TypeError):
        return None
