"""The columns of the published table of detections."""

from collections.abc import Mapping

COLUMNS: Mapping[str, tuple[str, str]] = {
    "id": ("string", "Scene id and Region_ID; does not change with repeated processing"),
    "scene": ("string", "Id of the scene"),
    "family": ("string", "sentinel2 or planet"),
    "datetime": ("timestamp[us, tz=UTC]", "Sensing time of the scene, UTC"),
    "Region_ID": ("int64", "Number of the object within its scene"),
    "touches_edge": ("bool", "Whether the edge of the valid area cuts the object"),
    "clear_fraction": (
        "double",
        "Fraction of its pixels without cloud, shadow or snow; null if an earlier version wrote the polygons",
    ),
    "min": ("double", "Lowest probability of its pixels"),
    "max": ("double", "Highest probability of its pixels"),
    "mean": ("double", "Mean probability of its pixels"),
    "median": ("double", "Median probability of its pixels"),
    "std": ("double", "Standard deviation of the probabilities"),
    "model_spread": (
        "double",
        "Mean over its pixels of the standard deviation of the probabilities between the models; null with one model, "
        "without stored spread, or if an earlier version wrote the polygons",
    ),
    "npixel": ("int64", "Number of pixels"),
    "area_m2": ("double", "Geodesic area on the WGS 84 ellipsoid, m2"),
    "crs": ("string", "Projection of the scene"),
    "models": ("string", "Names and hashes of the models"),
    "config_hash": ("string", "Hash of all parameters"),
    "code_version": ("string", "Version of the code that wrote the polygons"),
    "data_version": ("string", "Data version of the scene's polygons"),
    "geometry": ("binary", "Outline in EPSG:4326, cut at the antimeridian (WKB)"),
    "bbox": (
        "struct<xmin, ymin, xmax, ymax: double>",
        "Bounding box of the outline, for queries without geometry functions",
    ),
}
"""Name -> type and description."""
