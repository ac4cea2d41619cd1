"""Preprocessing: compute the 13 features of a scene on its own grid, window by window."""

from darts_assets.features.preprocess import preprocess
from darts_assets.features.preprocess_parameters import Convention, PreprocessParameters, dem_buffer

__all__ = ["Convention", "PreprocessParameters", "dem_buffer", "preprocess"]
