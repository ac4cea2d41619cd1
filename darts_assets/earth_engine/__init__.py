"""Google Earth Engine: one session for a process, images on exact grids, quota and network errors backed off."""

from darts_assets.earth_engine.api_errors import EarthEngineError
from darts_assets.earth_engine.client import BACKOFF, EarthEngine
from darts_assets.earth_engine.options import HIGH_VOLUME, EarthEngineOptions

__all__ = ["BACKOFF", "HIGH_VOLUME", "EarthEngine", "EarthEngineError", "EarthEngineOptions"]
