"""Requests to Earth Engine, with bounded retries."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from darts_assets.earth_engine.api_errors import EarthEngineError, failure_of
from darts_assets.earth_engine.options import EarthEngineOptions
from darts_assets.earth_engine.session import initialized
from darts_assets.errors import DartsError
from darts_assets.remote.retry import EARTH_ENGINE, with_retries

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from odc.geo.geobox import GeoBox

T = TypeVar("T")


class EarthEngine:
    """A thread-safe client of Earth Engine.

    Args:
        options: connection to the service; the same for all clients in a process (see `session`).
    """

    def __init__(self, options: EarthEngineOptions) -> None:
        self.options = options

    def pixels(self, subject: str, image: Callable[[Any], Any], geobox: "GeoBox") -> "npt.NDArray[np.void]":
        """Compute an image on a grid, in one request.

        Args:
            subject: name of the requested data, for messages.
            image: makes the `ee.Image` from the initialized module `ee`.
            geobox: the grid; at most 48 MB and 32768 pixels a side in a request.

        Returns:
            Structured array of shape (rows, columns), a field for each band.

        Raises:
            EarthEngineError: if the service refuses the request, or its response has another shape or type.
            SourceUnavailableError, SettingsError: see `call`.
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
            body = {"expression": image(ee), "fileFormat": "NUMPY_NDARRAY", "grid": grid}
            try:
                return ee.data.computePixels(body)
            except (ValueError, EOFError):  # NumPy's
                raise EarthEngineError(f"Earth Engine's response for {subject} is not a NumPy file") from None

        pixels = self.call(subject, request)
        if not isinstance(pixels, np.ndarray) or pixels.dtype.names is None or pixels.shape != (height, width):
            shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", type(pixels).__name__)
            raise EarthEngineError(
                f"Earth Engine's response for {subject} is {dtype} {shape}, expected {height, width} with one field "
                "per band"
            )
        return pixels

    def call(self, subject: str, request: Callable[[Any], T]) -> T:
        """Call `request` with the initialized module `ee`, and return its result.

        Exceeded quotas, failures of the service, timeouts and broken connections are retried.

        Args:
            subject: name of the requested data, for messages.
            request: sends the request through `ee`; called once per attempt.

        Raises:
            SourceUnavailableError: after eight attempts or fifteen minutes, with the service's last message.
            EarthEngineError: if the service refuses the request.
            SettingsError: if there are no credentials or no project, if the service refuses them, or if the session of
                this process has other options.
        """

        def attempt() -> T:
            try:
                return request(initialized(self.options))
            except DartsError:
                raise
            except Exception as error:
                failure = failure_of(error, subject)
                if failure is None:
                    raise
            raise failure  # not chained: errors of the libraries hold requests with their headers

        return with_retries(attempt, f"Earth Engine, {subject}", policy=EARTH_ENGINE)
