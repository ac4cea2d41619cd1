"""Requests to Earth Engine, with bounded retries."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.wait import wait_base

from darts_assets.earth_engine.api_errors import EarthEngineError, PassingError, failure_of
from darts_assets.earth_engine.options import EarthEngineOptions
from darts_assets.earth_engine.session import opened
from darts_assets.errors import DartsError, SourceUnavailableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from odc.geo.geobox import GeoBox

logger = logging.getLogger(__name__)

T = TypeVar("T")

BACKOFF = wait_random_exponential(multiplier=2, max=60)
"""Random waits of up to 2, 4, 8 ... 60 s: pods that hit a quota together do not come back together."""

_ATTEMPTS = 8
_PATIENCE = 900  # seconds, all attempts and waits together


class EarthEngine:
    """Requests to Earth Engine; may be used from several threads at once.

    Args:
        options: how to talk to it; all users in a process must have the same (see `session`).
        wait: how long to wait before another attempt, where the service does not ask for longer.
    """

    def __init__(self, options: EarthEngineOptions, *, wait: wait_base = BACKOFF) -> None:
        self.options = options
        self._wait = wait

    def pixels(self, what: str, image: Callable[[Any], Any], geobox: "GeoBox") -> "npt.NDArray[np.void]":
        """Compute an image on a grid, in one request.

        Args:
            what: what is asked for, as errors should name it.
            image: makes the `ee.Image` from the initialized module `ee`.
            geobox: the grid; a request may be up to 48 MB and 32768 pixels a side.

        Returns:
            Structured array of shape (rows, columns), a field for each band.

        Raises:
            EarthEngineError: if the request is refused, or answered with something else.
            SourceUnavailableError: see `call`.
            SettingsError: see `call`.
        """
        import numpy as np

        height, width = (int(n) for n in geobox.shape)
        affine = geobox.affine
        grid = {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {
                "scaleX": affine.a, "shearX": affine.b, "translateX": affine.c,
                "shearY": affine.d, "scaleY": affine.e, "translateY": affine.f,
            },
            "crsCode": str(geobox.crs),
        }  # fmt: skip

        def request(ee: Any) -> Any:
            asked = {"expression": image(ee), "fileFormat": "NUMPY_NDARRAY", "grid": grid}
            try:
                return ee.data.computePixels(asked)
            except (ValueError, EOFError):  # NumPy's
                raise EarthEngineError(f"Earth Engine's answer for {what} is no NumPy file") from None

        found = self.call(what, request)
        if not isinstance(found, np.ndarray) or found.dtype.names is None or found.shape != (height, width):
            shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", type(found).__name__)
            raise EarthEngineError(
                f"Earth Engine's answer for {what} is {dtype} {shape}, expected {height, width} with a field for a band"
            )
        return found

    def call(self, what: str, request: Callable[[Any], T]) -> T:
        """Give the initialized module `ee` to `request`, and return what that returns.

        Exceeded quotas, errors of the service itself, timeouts and broken connections are tried again.

        Args:
            what: what is asked for, as errors should name it.
            request: talks to the service through `ee`, once in each attempt.

        Raises:
            SourceUnavailableError: after eight attempts or fifteen minutes, with the service's last words.
            EarthEngineError: if the service refuses the request.
            SettingsError: if there are no credentials or no project, if the service refuses them, or if this process
                has a session with other options.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(_PATIENCE),
            wait=self._wait_as_told,
            before_sleep=_log,
            reraise=True,
        )
        try:
            return attempts(self._attempt, what, request)
        except PassingError as error:
            words = f"{error}; given up after {attempts.statistics['attempt_number']} attempts"
        raise SourceUnavailableError(words)

    def _attempt(self, what: str, request: Callable[[Any], T]) -> T:
        try:
            return request(opened(self.options))
        except DartsError:
            raise
        except Exception as error:
            failure = failure_of(error, what)
            if failure is None:
                raise
        raise failure  # not chained: the libraries' errors hold whole requests, with their headers

    def _wait_as_told(self, state: RetryCallState) -> float:
        error = _error(state)
        return max(self._wait(state), error.retry_after if isinstance(error, PassingError) else 0.0)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log(state: RetryCallState) -> None:
    logger.warning(
        f"{_error(state)}; attempt {state.attempt_number + 1} of {_ATTEMPTS} follows in {state.upcoming_sleep:.0f} s"
    )
