"""Preprocessing: compute the 13 features of a scene on its own grid, window by window.

The parameters are exported here, because they import neither rasterio nor OpenCV.
"""

from darts_assets.features.preprocess_parameters import (
    AuxiliaryParameters,
    Convention,
    PreprocessParameters,
    dem_buffer,
)

__all__ = ["AuxiliaryParameters", "Convention", "PreprocessParameters", "dem_buffer"]
