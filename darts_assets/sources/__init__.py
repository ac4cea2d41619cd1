"""Scenes: records parsed from STAC items, checks of their files, and their pixels on one grid."""

from darts_assets.remote.byte_reader import S3Options
from darts_assets.sources.rasters.integrity import Header, check_files
from darts_assets.sources.rasters.reader import fetch, open_raw, scene_grid
from darts_assets.sources.scene_source import ANY_SCENES, STAC_SCENES, SceneSource, SourceOptions
from darts_assets.sources.sentinel2.calibrate import S2_QUALITY, calibrate
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.sources.stac.read_item import read_item

__all__ = [
    "ANY_SCENES",
    "S2_QUALITY",
    "STAC_SCENES",
    "Header",
    "S3Options",
    "SceneSource",
    "SourceOptions",
    "calibrate",
    "check_files",
    "fetch",
    "open_raw",
    "parse_item",
    "read_item",
    "scene_grid",
]
