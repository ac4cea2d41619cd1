"""What an error of the client library means: whether another attempt can help, and what the service said."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from darts_assets.errors import DartsError, SettingsError

# What comes from load is worded in many ways, some of it with the status of a bad or forbidden request.
_LOAD = re.compile(
    r"too many (concurrent|requests)|rate ?limit ?exceeded|quota exceeded|capacity exceeded|computation timed out",
    re.IGNORECASE,
)


class EarthEngineError(DartsError):
    """Earth Engine refused a request, or answered something else than was asked; another attempt would not help.

    Attributes:
        status: the HTTP status; None where the answer was no error.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PassingError(DartsError):
    """An attempt failed, and the next one may succeed.

    Attributes:
        retry_after: seconds in which the service wants no other attempt.
    """

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def failure_of(error: BaseException, what: str) -> DartsError | None:
    """What an error of one attempt means: PassingError, EarthEngineError or SettingsError (refused credentials).

    Args:
        error: raised by `ee` or below it.
        what: what was asked for.

    Returns:
        None for what does not come from the service or the network.
    """
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError
    from googleapiclient.errors import Error, HttpError

    if isinstance(error, (ConnectionError, TimeoutError)):
        return PassingError(f"Earth Engine, {what}: {error}")
    if isinstance(error, GoogleAuthError):
        words = str(error.args[0]) if error.args else type(error).__name__
        if error.retryable or any(isinstance(e, TransportError) for e in (error, error.__cause__)):
            return PassingError(f"Earth Engine, {what}: {words}")
        return SettingsError(f"Earth Engine: the credentials are refused: {words}")
    # `ee` raises its own error, without the status, while it handles the HTTP error.
    refusal = error if isinstance(error, HttpError) else error.__context__
    if isinstance(refusal, HttpError):
        status = int(refusal.status_code)
        words = f"{refusal.reason or 'no reason given'} (HTTP {status})"
        if status in (408, 429) or status >= 500 or _LOAD.search(words):
            return PassingError(f"Earth Engine, {what}: {words}", _retry_after(refusal.resp))
        return EarthEngineError(f"Earth Engine refuses {what}: {words}", status)
    if isinstance(error, (ee.EEException, Error)):
        return EarthEngineError(f"Earth Engine, {what}: {error}")
    return None


def _retry_after(response: Any) -> float:
    """Seconds until the time that `Retry-After` names; 0 without one that can be understood."""
    told = response.get("retry-after", "")
    if told.isdecimal():
        return float(told)
    try:
        return max((parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # the latter: a time without a zone
        return 0.0
