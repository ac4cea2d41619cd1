"""For which scenes somebody wants data, and which: the configs of the jobs that prepare data."""

from typing import Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.dynamic_partitions import registered_containing
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.pod_resources import CHUNKS_PER_RUN
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import FoundScenes, find_and_register
from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
from darts_assets.orchestration.scene_discovery.selection import SceneChoice

_SCENES_PER_STEP = 4


class DataConfig(dg.Config):
    """Which data of scenes."""

    optical: bool = Field(default=True, description="Fetch the scenes themselves.")
    auxiliary: bool = Field(default=True, description="Fill the chunks under them that the models need.")
    bands: Literal["needed", "all"] = Field(default="needed", description="Of scenes: what the models need, or all.")
    force: bool = Field(default=False, description="Fetch scenes again that are kept already.")
    tpi_outer_radius: float = Field(
        default=100.0, description="Metres, the radius that `preprocessed_tile` will use: chunks must reach as far."
    )
    dry_run: bool = Field(default=False, description="Only say what matches; nothing is registered or fetched.")
    scenes_per_step: int = Field(default=_SCENES_PER_STEP, description="Scenes that one step fetches.")
    chunks_per_step: int = Field(default=CHUNKS_PER_RUN, description="Chunks that one step fills.")

    def check_data(self) -> None:
        """Refuse what makes no sense.

        Raises:
            SettingsError: naming the fields.
        """
        if not (self.optical or self.auxiliary):
            raise SettingsError("optical and auxiliary are both off: there is nothing to prepare")
        for name in ("scenes_per_step", "chunks_per_step"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)}; expected at least 1")


class PrepareDataConfig(DataConfig, SceneChoice):
    """For which Sentinel-2 scenes, and which data."""

    registered_tiles: list[str] = Field(
        default=[], description="MGRS tiles: all their registered scenes, without a search and without filters."
    )

    @property
    def ways(self) -> tuple[str, ...]:
        """See `SceneChoice.ways`."""
        return (*super().ways, "registered_tiles")

    def check(self) -> str:
        """See `SceneChoice.check`."""
        self.check_data()
        return super().check()


class PreparePlanetConfig(DataConfig, PlanetChoice):
    """For which Planet images, and which data."""

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
    **how: Any,
) -> FoundScenes:
    """The scenes of the choice; `how` as of `find_and_register`, which see for what it raises."""
    choice: SceneChoice = config
    if config.check() == "registered_tiles":
        from darts_assets.sources.stac.scene_ids import tile_ids, tile_of_id

        tiles = set(tile_ids(config.registered_tiles))
        # Some ids have their zone without its zero.
        candidates = registered_containing(instance, SENTINEL2.partitions, [tile.lstrip("0") for tile in tiles])
        ids = [scene_id for scene_id in candidates if tile_of_id(scene_id) in tiles]
        if not ids:
            return FoundScenes()
        choice = SceneChoice(scene_ids=ids)
    return find_and_register(choice, instance=instance, scenes=scenes, catalogs=catalogs, **how)
