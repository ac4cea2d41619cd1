"""Errors of Earth Engine's client library, classified: transient, refused, or a matter of credentials."""

import re

from darts_assets.errors import DartsError, SettingsError
from darts_assets.remote.retry import TransientError, is_transient_status, is_unreachable, retry_after

# Overload has many wordings; some come with the status of a bad or forbidden request.
_OVERLOAD = re.compile(
    r"too many (concurrent|requests)|rate ?limit ?exceeded|quota exceeded|capacity exceeded|computation timed out",
    re.IGNORECASE,
)


class EarthEngineError(DartsError):
    """Earth Engine refused a request, or its response is not as expected; another attempt would not help.

    Attributes:
        status: the HTTP status; None if the response was not an error.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def failure_of(error: BaseException, subject: str) -> TransientError | EarthEngineError | SettingsError | None:
    """Classify an error of one attempt.

    Args:
        error: raised by `ee` or below it.
        subject: name of the requested data.

    Returns:
        SettingsError for refused credentials; None for an error that comes neither from the service nor the network.
    """
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError
    from googleapiclient.errors import Error, HttpError

    if isinstance(error, (ConnectionError, TimeoutError)):
        return TransientError(str(error), unreachable=is_unreachable(error))
    if isinstance(error, GoogleAuthError):
        message = str(error.args[0]) if error.args else type(error).__name__
        if error.retryable or any(isinstance(e, TransportError) for e in (error, error.__cause__)):
            return TransientError(message, unreachable=is_unreachable(error))
        return SettingsError(f"Earth Engine: the credentials are refused: {message}")
    # `ee` raises its own error, without the status, while it handles the HTTP error.
    refusal = error if isinstance(error, HttpError) else error.__context__
    if isinstance(refusal, HttpError):
        status = int(refusal.status_code)
        message = f"{refusal.reason or 'no reason given'} (HTTP {status})"
        if is_transient_status(status) or _OVERLOAD.search(message):
            return TransientError(message, retry_after=retry_after(refusal.resp.get("retry-after")))
        return EarthEngineError(f"Earth Engine refuses {subject}: {message}", status)
    if isinstance(error, (ee.EEException, Error)):
        return EarthEngineError(f"Earth Engine, {subject}: {error}")
    return None
