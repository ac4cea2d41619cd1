"""Selection of Planet images in delivery folders: the resource, the config fields, and the search."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceDependency
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import SourceAccess
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, items_of_ids, stored_item
from darts_assets.orchestration.scene_discovery.registration import register_stac_items
from darts_assets.orchestration.scene_discovery.selection import SelectionConfig, read_area

if TYPE_CHECKING:
    from darts_assets.sources import S3Options
    from darts_assets.sources.stac.scene_selection import SceneFilter

_SHOWN = 10  # ids in a message


class DeliveryFolders(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folders that receive Planet's deliveries.

    Attributes:
        folders: paths, or `s3://bucket/prefix`; the sensor watches them, and jobs search them by default.
        offline: only local folders may be read.
        quiet_seconds: a delivery counts as complete only if its files are older than this.
        runs: runs that a sensor tick requests at most; Dagster creates about four per second.
        seconds: time limit of a sensor tick; Dagster allows 60 s in total.
        remembered: images in the sensor's cursor at most, incomplete and unusable ones each; further ones wait.
    """

    access: ResourceDependency[SourceAccess]
    folders: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    offline: bool = False
    quiet_seconds: float = 120.0
    runs: int = 100
    seconds: float = 40.0
    remembered: int = 1000

    @property
    def s3(self) -> "S3Options":
        """Options for `s3://`."""
        return self.access.options

    def check(self, folders: Sequence[str]) -> None:
        """Raise SettingsError if offline and a folder is not local."""
        from darts_assets.remote.byte_reader import is_remote

        if self.offline and (remote := [folder for folder in folders if is_remote(folder)]):
            raise SettingsError(f"offline (DARTS_OFFLINE): {', '.join(remote)} cannot be searched; set local folders")


class PlanetChoice(SelectionConfig):
    """Planet images in folders, selected by ids, or by area and time; all images by default."""

    folders: list[str] = Field(
        [], description="Folders, or s3://bucket/prefix, searched recursively. Default: DARTS_PLANET."
    )

    def check(self) -> None:
        """Raise SettingsError, with the names of the fields, if fields contradict each other or are invalid."""
        if self.scene_ids and self.ids_file:
            raise SettingsError("scene_ids and ids_file both select images: set one of them")
        if self.by_id:
            filters = ("aoi", "aoi_layer", "start", "end", "months", "years")
            if given := [name for name in filters if getattr(self, name)]:
                raise SettingsError(f"{', '.join(given)}: filters do not apply to images selected by id; remove them")
        self.check_layer()
        self._filter()

    @property
    def by_id(self) -> bool:
        """Whether images are selected by id."""
        return bool(self.scene_ids or self.ids_file)

    def intervals(self) -> Any:
        """The requested time intervals; empty for any time."""
        return self._filter().intervals(dt.datetime.now(dt.UTC).date())

    def _filter(self) -> "SceneFilter":
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(**self.time_filter())


def find_images(
    config: PlanetChoice,
    *,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    deliveries: DeliveryFolders,
    dry_run: bool,
    log: Callable[[str], None],
) -> DiscoveredScenes:
    """Search for the selected images and register them; problems with single images are listed in the result.

    Raises:
        SettingsError: if the config is invalid, its file or area cannot be read, or no folder can.
        SourceUnavailableError: if a service does not answer; no partition is added.
    """
    config.check()
    result = DiscoveredScenes()
    if config.by_id:
        from darts_assets.sources.planet.names import check_ids

        ids, malformed = check_ids(config.requested_ids(scenes.store))
        result.problems += [str(malformed)] if malformed else []
        items = items_of_ids(
            ids, family=PLANET, instance=instance, scenes=scenes,
            search=lambda unregistered: _search(config, deliveries, result, ids=unregistered),
        )  # fmt: skip
    else:
        result.area = read_area(config.aoi, deliveries.s3, config.aoi_layer) if config.aoi else None
        is_partition = partial(instance.has_dynamic_partition, str(PLANET.partitions.name))
        items = _search(
            config, deliveries, result, intervals=config.intervals(), area=result.area,
            kept=lambda image: stored_item(PLANET, scenes, image) if is_partition(image) else None,
        )  # fmt: skip
    result.registered = register_stac_items(
        instance, scenes, PLANET, items, dry_run=dry_run, on_scene=result.add, log=log
    )
    result.problems += result.registered.unusable.values()
    return result


def _search(
    config: PlanetChoice, deliveries: DeliveryFolders, result: DiscoveredScenes, **criteria: Any
) -> Iterator[dict[str, Any]]:
    from darts_assets.sources.planet import PlanetFolders

    folders = config.folders or deliveries.folders
    if not folders:
        missing = f" (not registered: {', '.join(criteria['ids'][:_SHOWN])})" if "ids" in criteria else ""
        raise SettingsError(f"No folders to search: set folders or DARTS_PLANET{missing}")
    deliveries.check(folders)
    search = PlanetFolders(folders, deliveries.s3)
    result.searched = list(search.roots)
    yield from search.items(**criteria)
    result.problems += search.problems
