"""The columns of the published table of detections."""

from collections.abc import Mapping

COLUMNS: Mapping[str, tuple[str, str]] = {
    "id": ("string", "Scene and number of the object in it: the same however often and in whatever order it is made"),
    "scene": ("string", "Id of the scene"),
    "family": ("string", "sentinel2 or planet"),
    "datetime": ("timestamp[us, tz=UTC]", "When the scene was taken"),
    "Region_ID": ("int64", "Number of the object in its scene"),
    "touches_edge": ("bool", "Cut by the border of what was looked at"),
    "min": ("double", "Lowest probability in the object"),
    "max": ("double", "Highest probability"),
    "mean": ("double", "Mean probability"),
    "median": ("double", "Median of the probabilities"),
    "std": ("double", "Their standard deviation"),
    "npixel": ("int64", "Pixels"),
    "area_m2": ("double", "Area in the scene's own projection"),
    "crs": ("string", "That projection"),
    "models": ("string", "Names and hashes of the models"),
    "config_hash": ("string", "Hash of all parameters"),
    "code_version": ("string", "Version of the code that outlined the object"),
    "data_version": ("string", "Version of the scene's polygons"),
    "geometry": ("binary", "Outline in longitudes and latitudes, cut at the antimeridian (WKB)"),
    "bbox": ("struct<xmin, ymin, xmax, ymax: double>", "Its bounding box, for queries without geometry functions"),
}
"""Types and descriptions."""
