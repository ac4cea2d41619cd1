"""PlanetScope images as Planet delivers them: files in folders, which become STAC items, and scenes from then on.

`names` knows how ids and files are called, `folders` which files there are, `deliveries` which belong together and
whether all have arrived, `metadata` what is said of them, `items` makes an item of each; `source` reads items.
"""

from darts_assets.sources.planet.delivery_catalog import PlanetFolders
from darts_assets.sources.planet.scenes import PLANET_QUALITY, PLANET_SCENES

__all__ = ["PLANET_QUALITY", "PLANET_SCENES", "PlanetFolders"]
