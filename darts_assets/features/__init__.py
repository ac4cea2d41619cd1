"""Preprocessing: the 13 features of a scene, on its own grid, window by window.

`indices` and `terrain` are pure functions on arrays, `conventions` combines them in the three ways that models were
trained with, `orientation` says where north is, `reproject` brings the auxiliary layers to the grid, and `preprocess`
streams it all.
"""

from darts_assets.features.preprocess import preprocess
from darts_assets.features.preprocess_parameters import Convention, PreprocessParameters, dem_buffer

__all__ = ["Convention", "PreprocessParameters", "dem_buffer", "preprocess"]
