"""Reading STAC documents over a network: bounded waits, bounded retries, errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pystac
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.exceptions import ChunkedEncodingError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3 import Retry

from darts_assets.errors import CubeError, SourceUnavailableError

_ATTEMPTS = 5
_BACKOFF = 0.5  # seconds before the second repetition; twice as long before each further one
_LONGEST_WAIT = 120  # seconds, whatever the service asks for
_TIMEOUT = (10, 60)  # seconds to connect, and without a byte
_PASSING = (429, 500, 502, 503, 504)


class PatientStacIO(StacApiIO):
    """Tries again what may pass: too many requests (as late as the service asks for), its failures, broken answers."""

    def __init__(self) -> None:
        # Searches are POST requests; like all of ours they only read, so that any of them may be repeated.
        retry = Retry(
            total=_ATTEMPTS - 1,
            backoff_factor=_BACKOFF,
            status_forcelist=_PASSING,
            allowed_methods=None,
            raise_on_status=False,
            retry_after_max=_LONGEST_WAIT,
        )
        super().__init__(timeout=_TIMEOUT, max_retries=retry)

    def request(self, *args: Any, **kwargs: Any) -> str:
        """A request; urllib3's retries end with the answer's headers, so that one cut short is repeated here."""
        attempts = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error.__context__, ChunkedEncodingError)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(initial=_BACKOFF, max=10, jitter=_BACKOFF),
            reraise=True,
        )
        return attempts(super().request, *args, **kwargs)


class StaticStacIO(PatientStacIO):
    """The same for catalogs that are files: they become pystac's objects, not clients of an API."""

    stac_object_from_dict = pystac.StacIO.stac_object_from_dict


@contextmanager
def stac_errors(where: str) -> Iterator[None]:
    """Turn what pystac and its client raise into our errors, which name the catalog.

    Raises:
        SourceUnavailableError: if a service does not answer, or fails.
        CubeError: for everything else: a catalog that is not there, that may not be read, or that is not STAC.
    """
    try:
        yield
    except CubeError:
        raise
    # pystac lets pass whatever its JSON parser and its own parsing raise, and hides failed requests behind it.
    except Exception as error:
        failed = next((cause for cause in _causes(error) if isinstance(cause, APIError)), None)
        if failed is None:
            raise CubeError(f"{where} cannot be read as STAC: {error}") from error
        status = getattr(failed, "status_code", None)
        if status is None or status in _PASSING:
            words = f"HTTP status {status}" if status else str(failed)
            raise SourceUnavailableError(f"{where} does not answer after {_ATTEMPTS} attempts: {words}") from error
        words = str(failed)[:200] if failed is error else str(error)
        raise CubeError(f"{where} cannot be read as STAC: HTTP status {status}, {words}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
