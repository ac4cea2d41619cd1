"""From probabilities to detections: postprocessing, polygons and exported files.

Only the polygons are stored. They follow pixel edges, so masks are derived from them exactly.
"""

from darts_assets.detection.export import DEFAULT_PRODUCTS, check_products, describe, export
from darts_assets.detection.postprocess import PostprocessParameters, postprocess
from darts_assets.detection.quicklook import thumbnail
from darts_assets.detection.vectorize import extent_polygons, mask_from, segments

__all__ = [
    "DEFAULT_PRODUCTS",
    "PostprocessParameters",
    "check_products",
    "describe",
    "export",
    "extent_polygons",
    "mask_from",
    "postprocess",
    "segments",
    "thumbnail",
]
