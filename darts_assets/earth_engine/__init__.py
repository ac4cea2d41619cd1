"""Google Earth Engine: one session per process, images on exact grids, retries within quotas."""

from darts_assets.earth_engine.api_errors import EarthEngineError
from darts_assets.earth_engine.client import EarthEngine
from darts_assets.earth_engine.options import HIGH_VOLUME, EarthEngineOptions

__all__ = ["HIGH_VOLUME", "EarthEngine", "EarthEngineError", "EarthEngineOptions"]
