"""From probabilities to detections: postprocessing, vectors, and the files that users take away.

The vectors are the stored truth: polygons are pixel outlines, so every mask can be re-made from them exactly.
"""

from darts_assets.detection.export import export
from darts_assets.detection.postprocess import PostprocessParameters, postprocess
from darts_assets.detection.product_description import describe
from darts_assets.detection.product_selection import DEFAULT_PRODUCTS, check_products
from darts_assets.detection.rasterize import binarized_from, extent_from
from darts_assets.detection.vectorize import extent_polygons, segments

__all__ = [
    "DEFAULT_PRODUCTS",
    "PostprocessParameters",
    "binarized_from",
    "check_products",
    "describe",
    "export",
    "extent_from",
    "extent_polygons",
    "postprocess",
    "segments",
]
