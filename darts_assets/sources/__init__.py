"""Scenes from STAC items: what an item says, whether its files can be trusted, and their pixels on one grid."""

from darts_assets.sources.access import S3Options
from darts_assets.sources.calibrate import S2_QUALITY, calibrate
from darts_assets.sources.integrity import Header, check_files
from darts_assets.sources.items import read_item
from darts_assets.sources.reader import fetch, open_raw, scene_grid
from darts_assets.sources.source import ANY_SCENES, STAC_SCENES, SceneSource, SourceOptions
from darts_assets.sources.stac import parse_item

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
