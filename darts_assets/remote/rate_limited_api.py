"""Asking a web service for JSON: gently, with bounded patience, and with a clear last word."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from darts_assets.errors import DartsError, SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote.byte_source import shown

_TIMEOUT = (10, 120)  # seconds to connect, and without a byte
_ATTEMPTS = 5
_LONGEST_WAIT = 600.0  # seconds; who wants us to wait for longer is not available
_PASSING = {408, 425, 429}
_NOT_THE_SERVICE = {401, 403, 404, 405, 501}
_WORDS = 300


class _PassingError(Exception):
    """An attempt failed, and the next one may succeed."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass
class _Turn:
    """Whose turn it is to ask a service: one at a time, of all threads of the process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    last: float | None = None


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


class GentleService:
    """A web service that is asked by one thread of the process at a time, with a pause after each answer.

    What may pass is tried again: too many requests (as late as the service asks for), its own failures, broken
    connections, and answers that are cut off.

    Args:
        name: what it is, for errors.
        url: where it is; services on the same host share the pause.
        pause: seconds between the end of any request and the start of the next.
        backoff: seconds before the second attempt, at least; twice as long before each further one.
    """

    def __init__(self, name: str, url: str, *, pause: float, backoff: float) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.requests = 0
        """Requests that were sent, repetitions included."""
        self._pause = pause
        self._backoff = wait_exponential_jitter(initial=backoff, max=60, jitter=backoff / 2)
        self._session = requests.Session()
        with _turns_lock:
            self._turn = _turns.setdefault(urlsplit(url).netloc, _Turn())

    def ask(self, method: str, url: str, body: Any = None) -> dict[str, Any]:
        """The JSON object that a service answers.

        Raises:
            SceneError: if the service refuses the request; the text has its words.
            SettingsError: if the service refuses us, or there is no such service at the URL.
            SourceUnavailableError: if it does not answer after bounded retries.
        """
        what = f"{self.name}: {method} {shown(url)}"
        attempts = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=_is_enough,
            wait=self._wait,
            reraise=True,
        )
        try:
            return attempts(self._in_turn, lambda: self._attempt(what, method, url, body))
        except _PassingError as error:
            tried = attempts.statistics["attempt_number"]
            raise SourceUnavailableError(
                f"{what} failed {tried} time(s), the last time: {error}. Try again later, or ask for less at a time"
            ) from None

    def _in_turn(self, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with self._turn.lock:
            if self._turn.last is not None:
                time.sleep(max(0.0, self._turn.last + self._pause - time.monotonic()))
            self.requests += 1
            try:
                return attempt()
            finally:
                self._turn.last = time.monotonic()

    def _attempt(self, what: str, method: str, url: str, body: Any) -> dict[str, Any]:
        try:
            # Not redirected: a redirected POST becomes a GET, which asks for something else.
            answer = self._session.request(method, url, json=body, timeout=_TIMEOUT, allow_redirects=False)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise SettingsError(f"{self.name}: {shown(url)} is no URL of a service") from None
        except requests.RequestException as error:
            raise _PassingError(shown(str(error))) from None
        if not answer.ok or answer.is_redirect:
            raise _refusal(answer, what)
        try:
            document = answer.json()
        except ValueError:
            kind = answer.headers.get("Content-Type", "no content type")
            raise _PassingError(f"the answer ({kind}) is not JSON, or is cut off") from None
        if not isinstance(document, dict):
            raise SettingsError(f"{what}: the answer is no JSON object, so this is not the service that was expected")
        return document

    def _wait(self, state: RetryCallState) -> float:
        return max(_retry_after(state), self._backoff(state))


def _refusal(answer: requests.Response, what: str) -> Exception:
    """What an answer that is no success means."""
    status = answer.status_code
    words = f"HTTP status {status}, {_words(answer)}"
    if status in _PASSING or (status >= 500 and status not in _NOT_THE_SERVICE):
        wait = _seconds(answer.headers.get("Retry-After"))
        return _PassingError(f"{words} (it asks to wait {wait:.0f} s)" if wait else words, wait)
    if answer.is_redirect:
        return SettingsError(f"{what}: the service has moved to {shown(answer.headers['Location'])}; set that URL")
    kind: type[DartsError] = SettingsError if status in _NOT_THE_SERVICE else SceneError
    return kind(f"{what} is refused: {words}")


def _words(answer: requests.Response) -> str:
    """What a service says of its refusal, in the ways of STAC and OGC APIs and of gateways."""
    try:
        said = answer.json()
    except ValueError:
        said = answer.text
    if isinstance(said, dict):
        said = next((said[key] for key in ("description", "detail", "message", "title") if said.get(key)), said)
    return " ".join(shown(str(said)).split())[:_WORDS] or answer.reason or "no reason given"


def _seconds(told: str | None) -> float:
    try:
        return Retry().parse_retry_after(told) if told else 0.0
    except InvalidHeader:
        return 0.0


def _retry_after(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, _PassingError) else 0.0


def _is_enough(state: RetryCallState) -> bool:
    return stop_after_attempt(_ATTEMPTS)(state) or _retry_after(state) > _LONGEST_WAIT
