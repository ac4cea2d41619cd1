"""From probabilities to detections: postprocessing, polygons and exported files.

Only the polygons are stored. They follow pixel edges, so masks are derived from them exactly. The parameters are
exported here, because they import neither rasterio nor OpenCV; functions are imported from their modules.
"""

from darts_assets.detection.detection_parameters import DEFAULT_PRODUCTS, PostprocessParameters, ProductParameters

__all__ = ["DEFAULT_PRODUCTS", "PostprocessParameters", "ProductParameters"]
