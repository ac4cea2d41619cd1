"""Which scenes somebody wants, as typed config: one of four ways, with filters; and which catalogs are asked."""

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.errors import DartsError, SceneError, SettingsError, SourceUnavailableError
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.core.resources import Provider, SceneCatalogs, SourceAccess

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.sources.stac.scene_selection import SceneFilter, Selection

logger = logging.getLogger(__name__)

_WAYS = ("scene_ids", "ids_file", "tiles", "aoi")


class SceneFilters(dg.Config):
    """Which catalog, and which scenes of tiles or of an area."""

    source: Literal["auto", "cdse", "earth_search", "earth_engine", "cdse_mosaic"] = Field(
        default="auto",
        description="Who is asked. auto: scene ids decide by their form; for tiles and areas CDSE where there are keys "
        "to it, else Earth Search, and CDSE's mosaics where quarters are given.",
    )
    max_cloud_cover: float = Field(default=10.0, description="Percent; 100 is off.")
    max_snow_cover: float = Field(default=10.0, description="Percent; 100 is off.")
    start: str = Field(default="", description="First day, such as 2023-07-01; wins over months and years.")
    end: str = Field(default="", description="Last day, all of it; wins over months and years.")
    months: list[int] = Field(default=[], description="1 to 12.")
    years: list[int] = Field(default=[], description="Such as 2022, 2023. Default: all.")
    quarters: list[int] = Field(default=[], description="1 to 4: mosaics instead of scenes.")
    baseline: str = Field(
        default="", description="Exactly this processing baseline, such as 05.10. Default: the newest."
    )
    earth_engine_collection: str = Field(
        default="COPERNICUS/S2_SR_HARMONIZED", description="Or COPERNICUS/S2_SR; only for Earth Engine."
    )

    def as_filter(self, published_since: dt.datetime | None = None) -> "SceneFilter":
        """The filter.

        Raises:
            SettingsError: naming what makes no sense.
        """
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(
            max_cloud_cover=self.max_cloud_cover,
            max_snow_cover=self.max_snow_cover,
            start=day("start", self.start),
            end=day("end", self.end),
            months=tuple(self.months),
            years=tuple(self.years),
            quarters=tuple(self.quarters),
            baseline=self.baseline or None,
            published_since=published_since,
        )

    def provider(self, catalogs: SceneCatalogs) -> Provider:
        """Who is asked for tiles and areas; the log says why where the config does not."""
        if self.source != "auto":
            return self.source
        chosen: Provider
        if self.quarters:
            chosen, why = "cdse_mosaic", "quarters are given"
        else:
            chosen, why = catalogs.default()
        logger.info("source auto: %s is asked, because %s", chosen, why)
        return chosen


class SceneChoice(SceneFilters):
    """Which scenes: by exactly one of `scene_ids`, `ids_file`, `tiles` and `aoi`."""

    scene_ids: list[str] = Field(default=[], description="Ids; filters say nothing about them.")
    ids_file: str = Field(
        default="", description="JSON file with a list of scene ids, as write_ids makes it: a path, or s3://."
    )
    tiles: list[str] = Field(default=[], description="MGRS tiles, such as 08WNB, with the filters.")
    aoi: str = Field(default="", description="Vector file (path or URL) in any format and CRS, with the filters.")

    @property
    def ways(self) -> tuple[str, ...]:
        """Fields that choose; one of them must be given."""
        return _WAYS

    def check(self) -> str:
        """The field that chooses.

        Raises:
            SettingsError: if it is none, or more than one; or if a filter makes no sense.
        """
        given = [name for name in self.ways if getattr(self, name)]
        if len(given) != 1:
            said = f"given are {' and '.join(given)}" if given else "none is given"
            raise SettingsError(f"scenes are chosen by exactly one of {', '.join(self.ways)}; {said}")
        self.as_filter()
        return given[0]


@dataclass(frozen=True)
class Search:
    """What one catalog is asked for."""

    provider: Provider
    selection: "Selection"


@dataclass
class Searches:
    """What is asked for a choice.

    Attributes:
        searches: one for each catalog.
        problems: sentences about what was wrong; everything else goes on.
        area: what the choice is about, EPSG:4326, where it is an area.
    """

    searches: list[Search] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    area: "BaseGeometry | None" = None

    def items(self, catalogs: SceneCatalogs, earth_engine_collection: str) -> Iterator[dict[str, Any]]:
        """The STAC items that match, as they come; what is wrong with one search is noted, the others go on.

        Raises:
            SourceUnavailableError: if a service does not answer after bounded retries.
            SettingsError, SceneError: if the one search that there is is refused.
        """
        from darts_assets.sources.stac.scene_ids import UnknownScenesError

        for search in self.searches:
            try:
                catalog = catalogs.open(search.provider, earth_engine_collection)
                yield from catalog.search(search.selection, _telling(search.provider))
            except UnknownScenesError as error:
                self.problems.append(str(error))
            except SourceUnavailableError:
                raise
            except DartsError as error:
                if len(self.searches) == 1:
                    raise
                self.problems.append(str(error))


def by_ids(scene_ids: Sequence[str], source: str) -> Searches:
    """Searches for scenes by their ids, in the catalogs that their form (or `source`) names."""
    from darts_assets.sources.stac.scene_ids import MalformedIdsError, by_provider
    from darts_assets.sources.stac.scene_selection import Selection

    found = Searches()
    try:
        known: Any = by_provider(scene_ids)
    except MalformedIdsError as error:
        found.problems.append(str(error))
        known = error.understood
    if source != "auto" and known:
        known = {source: [scene_id for ids in known.values() for scene_id in ids]}
    found.searches = [Search(provider, Selection(scene_ids=tuple(ids))) for provider, ids in known.items()]
    return found


def by_place(choice: SceneChoice, catalogs: SceneCatalogs, access: SourceAccess) -> Searches:
    """The search for scenes by tiles or an area.

    Raises:
        SettingsError: if the area cannot be read, or a filter makes no sense.
        SceneError: if no tile is one.
    """
    from darts_assets.sources.stac.scene_selection import Selection

    wanted, found = choice.as_filter(), Searches()
    if choice.tiles:
        selection = Selection(tiles=_tiles(choice.tiles, found.problems), filter=wanted)
    else:
        from darts_assets.geo.antimeridian import lonlat_area

        area = read_aoi(choice.aoi, access.options)
        logger.info("%s: %d features, %s", choice.aoi, area.features, area.crs.name)
        found.area = lonlat_area(area.geometry, area.crs)
        selection = Selection(area=found.area, filter=wanted)
    found.searches = [Search(choice.provider(catalogs), selection)]
    return found


def _tiles(given: Sequence[str], problems: list[str]) -> list[str]:
    from darts_assets.sources.stac.scene_ids import tile_ids

    tiles: list[str] = []
    wrong: list[str] = []
    for tile in given:
        try:
            tiles += tile_ids([tile])
        except SceneError:
            wrong.append(tile)
    if wrong:
        try:
            tile_ids(wrong)
        except SceneError as error:
            if not tiles:
                raise
            problems.append(str(error))
    return tiles


def day(name: str, text: str) -> dt.date | None:
    """A day of the config, None where it is empty; raises SettingsError for what is none."""
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise SettingsError(f"{name} {text!r}: a day such as 2023-07-01 was expected") from None


def _telling(provider: str) -> Any:
    def progress(received: int, matched: int | None) -> None:
        logger.info("%s: %d%s items received", provider, received, f" of {matched}" if matched is not None else "")

    return progress
