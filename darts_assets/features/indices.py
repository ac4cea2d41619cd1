"""Spectral indices."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def ndvi(red: FloatArray, nir: FloatArray) -> FloatArray:
    """Normalized difference vegetation index.

    Args:
        red: reflectance, float32, any shape; NaN where there is none.
        nir: reflectance of the same shape.

    Returns:
        (nir - red) / (nir + red) in [-1, 1], of reflectances clipped to [0, 1]; NaN where either is NaN or both are 0.
    """
    # Dark pixels have slightly negative reflectances, which would send the ratio anywhere.
    red, nir = np.clip(red, 0, 1), np.clip(nir, 0, 1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (nir - red) / (nir + red)
