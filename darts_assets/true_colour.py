"""Reflectance as true colours: a stretch that suits snow, bare ground and low sun."""

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

NO_DATA = (150, 40, 110)
"""Colour of pixels without data."""

BRIGHTEST_BLACK, DARKEST_WHITE, LEAST_RANGE = 0.08, 0.05, 0.04
"""Limits of the stretch, reflectance: black is at most, white at least this, and they differ at least by so much. They
keep water and shadow dark, and noise from being shown as contrast."""

_PERCENTILES = (1.0, 99.0)
_LEAST_CLEAR = 0.01


def stretch(
    reflectance: npt.NDArray[np.floating[Any]], clear: npt.NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """The reflectance shown as black and as white: the same for all bands, so that colours keep their hue.

    They are the 1st and 99th percentile of the clear pixels, within limits. Snow and clouds are not clear, so that the
    ground keeps its contrast beside them. If less than 1 % of the pixels are clear, all pixels count: a scene full of
    snow shows the snow.

    Args:
        reflectance: (height, width, bands), NaN where unknown.
        clear: (height, width), whether a pixel is clear; by default all are.

    Returns:
        Black and white, 0 and 0.2 without data.
    """
    known = np.isfinite(reflectance).all(axis=-1)
    chosen = known if clear is None else known & clear
    if chosen.sum() < _LEAST_CLEAR * known.sum():
        chosen = known
    if not chosen.any():
        return 0.0, 0.2
    values = reflectance[chosen]
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    low = min(max(low, 0.0), BRIGHTEST_BLACK)
    return low, max(high, DARKEST_WHITE, low + LEAST_RANGE)


def true_colours(reflectance: npt.NDArray[np.floating[Any]], limits: tuple[float, float]) -> Pixels:
    """Reflectance as colours, `NO_DATA` where a band is NaN.

    Args:
        reflectance: red, green and blue (height, width, 3).
        limits: shown as black and as white, see `stretch`.
    """
    low, high = limits
    pixels = np.rint(np.clip((np.nan_to_num(reflectance) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    pixels[np.isnan(reflectance).any(axis=-1)] = NO_DATA
    return pixels
