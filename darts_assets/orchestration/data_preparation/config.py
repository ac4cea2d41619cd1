"""Configs of the jobs that prepare data for scenes, and the search for these scenes."""

from typing import Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.auxiliary.chunk_selection import PreparationConfig
from darts_assets.orchestration.core.dynamic_partitions import registered_containing
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, find_and_register
from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
from darts_assets.orchestration.scene_discovery.selection import SceneChoice

_SCENES_PER_STEP = 4


class DataConfig(PreparationConfig):
    """Data to prepare for the selected scenes."""

    optical: bool = Field(True, description="Fetch the scenes.")
    auxiliary: bool = Field(True, description="Fill the chunks under the scenes that the models need.")
    bands: Literal["needed", "all"] = Field("needed", description="Bands to fetch: those that the models need, or all.")
    force: bool = Field(False, description="Fetch scenes again that are in the store.")
    scenes_per_step: int = Field(_SCENES_PER_STEP, description="Number of scenes that one step fetches.")

    def check_data(self) -> None:
        """Raise SettingsError if nothing is to be prepared, or if a number of items per step is below 1."""
        if not (self.optical or self.auxiliary):
            raise SettingsError("optical and auxiliary are both off: nothing to prepare")
        self.check_sizes("scenes_per_step")


class PrepareDataConfig(DataConfig, SceneChoice):
    """Sentinel-2 scenes, and the data to prepare for them."""

    registered_tiles: list[str] = Field([], description="MGRS tiles: all their registered scenes, without filters.")

    @property
    def ways(self) -> tuple[str, ...]:
        """See `SceneChoice.ways`."""
        return (*super().ways, "registered_tiles")

    def check(self) -> str:
        """See `SceneChoice.check`."""
        self.check_data()
        return super().check()


class PreparePlanetConfig(DataConfig, PlanetChoice):
    """Planet images, and the data to prepare for them."""

    def check(self) -> None:
        """See `PlanetChoice.check`."""
        self.check_data()
        super().check()


def find_scenes_for(
    config: PrepareDataConfig,
    *,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    catalogs: SceneCatalogs,
    **options: Any,
) -> DiscoveredScenes:
    """The selected scenes; see `find_and_register` for `options` and errors."""
    choice: SceneChoice = config
    if config.check() == "registered_tiles":
        from darts_assets.sources.stac.scene_ids import tile_ids, tile_of_id

        tiles = set(tile_ids(config.registered_tiles))
        # Some ids contain the zone without its leading zero.
        candidates = registered_containing(instance, SENTINEL2.partitions, [tile.lstrip("0") for tile in tiles])
        ids = [scene_id for scene_id in candidates if tile_of_id(scene_id) in tiles]
        if not ids:
            return DiscoveredScenes()
        choice = SceneChoice(scene_ids=ids)
    return find_and_register(choice, instance=instance, scenes=scenes, catalogs=catalogs, **options)
