"""PlanetScope images as Planet delivers them: folders of files become STAC items, and those become scenes.

`names`: ids and file names. `folders`: listings. `deliveries`: which files belong together, and whether all have
arrived. `image_metadata`, `image_item`: the item of a delivery. `delivery_catalog`: search. `scenes`: pixels.
"""

from darts_assets.sources.planet.delivery_catalog import PlanetFolders
from darts_assets.sources.planet.scenes import PLANET_QUALITY, PLANET_SCENES

__all__ = ["PLANET_QUALITY", "PLANET_SCENES", "PlanetFolders"]
