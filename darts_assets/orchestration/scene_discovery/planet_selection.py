"""Which Planet images somebody wants, as typed config, and finding them in the folders that Planet delivers to."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceDependency
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import SourceAccess
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import FoundScenes, items_of_ids, kept_item, wanted_ids
from darts_assets.orchestration.scene_discovery.registration import register_found
from darts_assets.orchestration.scene_discovery.selection import day

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.sources import S3Options
    from darts_assets.sources.stac.scene_selection import SceneFilter

logger = logging.getLogger(__name__)


class DeliveryFolders(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where Planet's deliveries arrive.

    Attributes:
        folders: paths, or `s3://bucket/prefix`; they are watched, and searched where nobody names others.
        offline: whether only those on a disk may be looked at.
        quiet_seconds: nothing of a delivery may have been written for so long before it counts as complete.
        runs: requested in a tick of the sensor at most; Dagster creates about four in a second.
        seconds: that a tick may take; Dagster gives it a minute for everything.
        remembered: images that are waited for at a time, and broken ones that are not looked at again; what is beyond
            has to wait for these.
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
        """How `s3://` is reached."""
        return self.access.options

    def check(self, folders: Sequence[str]) -> None:
        """Raise SettingsError offline, if a folder is not on a disk."""
        from darts_assets.remote.byte_reader import is_remote

        if self.offline and (remote := [folder for folder in folders if is_remote(folder)]):
            raise SettingsError(f"offline (DARTS_OFFLINE), {', '.join(remote)} cannot be searched: name other folders")


class PlanetChoice(dg.Config):
    """Which Planet images: those below some folders, by ids, an area and days."""

    folders: list[str] = Field(
        default=[], description="Folders, or s3://bucket/prefix, with images at any depth. Default: DARTS_PLANET."
    )
    scene_ids: list[str] = Field(default=[], description="Only these; registered ones are not searched for.")
    ids_file: str = Field(
        default="", description="JSON file with a list of ids, as write_ids makes it: a path, or s3://."
    )
    aoi: str = Field(
        default="", description="Vector file (path or URL) in any format and CRS: only images that meet it."
    )
    start: str = Field(default="", description="First day, such as 2023-07-01; wins over months and years.")
    end: str = Field(default="", description="Last day, all of it; wins over months and years.")
    months: list[int] = Field(default=[], description="1 to 12.")
    years: list[int] = Field(default=[], description="Such as 2022, 2023. Default: all.")

    def check(self) -> None:
        """Refuse what contradicts itself or makes no sense.

        Raises:
            SettingsError: naming the fields.
        """
        if self.scene_ids and self.ids_file:
            raise SettingsError("scene_ids and ids_file both name images: give one of them")
        if self.scene_ids or self.ids_file:
            filters = ("aoi", "start", "end", "months", "years")
            if given := [name for name in filters if getattr(self, name)]:
                raise SettingsError(f"{', '.join(given)}: images that are named by their ids are not filtered")
        self._filter()

    @property
    def by_id(self) -> bool:
        """Whether images are named."""
        return bool(self.scene_ids or self.ids_file)

    def intervals(self) -> Any:
        """The stretches of time that are wanted; none: any."""
        return self._filter().intervals(dt.datetime.now(dt.UTC).date())

    def _filter(self) -> "SceneFilter":
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(
            start=day("start", self.start), end=day("end", self.end), months=tuple(self.months), years=tuple(self.years)
        )


def find_images(
    choice: PlanetChoice,
    *,
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    deliveries: DeliveryFolders,
    dry_run: bool,
    log: Callable[[str], None],
) -> FoundScenes:
    """Find the images of a choice and register them; what is wrong with some does not keep others from it.

    Raises:
        SettingsError: if the choice makes no sense, its file or area cannot be read, or no folder can.
        SourceUnavailableError: if a service does not answer; no partition is added then.
    """
    choice.check()
    found = FoundScenes()
    if choice.by_id:
        from darts_assets.sources.planet.names import check_ids

        ids, wrong = check_ids(wanted_ids(choice.scene_ids, choice.ids_file, scenes))
        found.problems += [str(wrong)] if wrong else []
        items = items_of_ids(
            ids, family=PLANET, instance=instance, scenes=scenes,
            search=lambda asked: _search(choice, deliveries, found, ids=asked),
        )  # fmt: skip
    else:
        found.area = _area(choice.aoi, deliveries.s3) if choice.aoi else None
        is_partition = partial(instance.has_dynamic_partition, str(PLANET.partitions.name))
        items = _search(
            choice, deliveries, found, intervals=choice.intervals(), area=found.area,
            kept=lambda image: kept_item(PLANET, scenes, image) if is_partition(image) else None,
        )  # fmt: skip
    found.registered = register_found(instance, scenes, PLANET, items, dry_run=dry_run, seen=found.see, log=log)
    found.problems += found.registered.unusable.values()
    return found


def _search(
    choice: PlanetChoice, deliveries: DeliveryFolders, found: FoundScenes, **wanted: Any
) -> Iterator[dict[str, Any]]:
    from darts_assets.sources.planet import PlanetFolders

    folders = choice.folders or deliveries.folders
    if not folders:
        missing = f" (not registered: {', '.join(wanted['ids'][:10])})" if "ids" in wanted else ""
        raise SettingsError(f"there is no folder to look in: name some in folders, or in DARTS_PLANET{missing}")
    deliveries.check(folders)
    search = PlanetFolders(folders, deliveries.s3)
    found.providers = list(search.roots)
    yield from search.items(**wanted)
    found.problems += search.problems


def _area(aoi: str, s3: "S3Options") -> "BaseGeometry":
    from darts_assets.geo.antimeridian import lonlat_area

    area = read_aoi(aoi, s3)
    logger.info("%s: %d features, %s", aoi, area.features, area.crs.name)
    return lonlat_area(area.geometry, area.crs)
