"""Sensors: new scenes of watched areas are registered, and their chains requested."""

import datetime as dt
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import DartsError, SceneError
from darts_assets.orchestration.core.deadline import Call, in_time
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import SceneCatalogs, SourceAccess
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.sensor_base import Wanted, before, pages, request, sensor_of, taken
from darts_assets.orchestration.scene_discovery.watched_areas import (
    Position,
    Positions,
    Watch,
    WatchedArea,
    WatchedAreas,
)

if TYPE_CHECKING:
    from darts_assets.sources.stac.scene_selection import Selection

AREA_TAG = "darts/area"
PUBLISHED_TAG = "darts/published"

_INTERVAL = 15 * 60  # seconds
_PAGE = 100  # items that are looked up at a time
_FIRST = dt.timedelta(days=7)
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


def build_sensors(family: SceneFamily, interval: int = _INTERVAL) -> list[dg.SensorDefinition]:
    """The sensors of a family; between their ticks lie `interval` seconds at least."""

    @sensor_of(
        family,
        f"new_{family.name}_scenes",
        interval,
        "Registers new scenes of the watched areas (DARTS_WATCH) and requests a run of the chain for each.",
    )
    def new_scenes(
        context: dg.SensorEvaluationContext, scenes: SceneRegistry, catalogs: SceneCatalogs, watch: Watch
    ) -> dg.SensorResult | dg.SkipReason:
        """Request a run for each scene that was published in a watched area since the last tick.

        A scene that has a run of its own, whoever started it, or products, is left alone: one that two areas share, one
        that was seen before, one that was processed by hand. That it has a partition says nothing: partitions are added
        before Dagster notes the requests, and it may be killed in between. (A scene that was registered by hand and
        not processed is requested, then; and one that waits in a backfill may be processed twice, with one result.)
        Run keys are the scenes' ids: another processing of an acquisition has another.
        """
        try:
            with in_time(watch.seconds / 2) as call:
                watched = call(lambda: watch.read(scenes.access.options))
        except TimeoutError:
            return dg.SkipReason(f"watched areas {watch.path}: {watch.seconds / 2:g} s were too short to read the file")
        except DartsError as error:
            return dg.SkipReason(str(error))
        tick = _Tick(context, family, scenes.access, catalogs, watch, watched)
        said = [*tick.look(), *(f"{name}: not watched: {reason}" for name, reason in watched.wrong.items())]
        return request(context, scenes, family, tick.found, said or [f"{watch.path} has no areas"], tick.cursor())

    return [new_scenes]


@dataclass
class _Tick:
    """One look at the areas.

    Attributes:
        found: scenes to request, by their ids.
    """

    context: dg.SensorEvaluationContext
    family: SceneFamily
    access: SourceAccess
    catalogs: SceneCatalogs
    watch: Watch
    watched: WatchedAreas
    found: dict[str, Wanted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._now = dt.datetime.now(dt.UTC)
        self._positions = before(self.context, Positions, "all areas begin anew")

    def cursor(self) -> Positions:
        """Positions of the areas of the file, also of those that make no sense now."""
        names = {area.name for area in self.watched.areas} | self.watched.wrong.keys()
        return self._positions.only(names)

    def look(self) -> list[str]:
        """What was seen in each area, those first that have waited the longest."""
        said = []
        areas = sorted(self.watched.areas, key=lambda area: self._positions.asked.get(area.name, _NEVER))
        with in_time(self.watch.seconds) as call:
            for number, area in enumerate(areas):
                share = math.ceil((self.watch.runs - len(self.found)) / (len(areas) - number))
                try:
                    seen = self._look_at(area, share, call) if share else "no runs were left; it comes first next time"
                except TimeoutError:
                    seen = f"{self.watch.seconds:g} s were too short; it is tried again in the next tick"
                except DartsError as error:
                    seen = f"{error}; it is tried again in the next tick"
                said.append(f"{area.name}: {seen}")
        return said

    def _look_at(self, area: WatchedArea, share: int, call: "Call") -> str:
        selection = call(lambda: self._selection(area))
        position = self._position(area, selection)
        reached, rest = position.start, ""
        known = new = 0
        wrong: list[str] = []
        try:
            for item, is_taken in self._looked_up(self._items(area, selection, position.start), call):
                published = _published(item, area)
                if is_taken or item["id"] in self.found:
                    known += 1
                elif new == share:
                    rest = "; the next tick goes on"
                    break
                else:
                    try:
                        self.found[item["id"]] = self._wanted(item, area, published)
                        new += 1
                    except SceneError as error:
                        wrong.append(str(error))
                reached = published
        except TimeoutError:
            if not (known or new or wrong):
                raise
            rest = "; the time is up, and the next tick goes on"
        self._positions.areas[area.name] = position.after(reached, self._now, self.watched.overlap, ended=not rest)
        unusable = f", {len(wrong)} unusable, such as {wrong[0]}" if wrong else ""
        return (
            f"{known + new + len(wrong)} matched, published since {position.start:%Y-%m-%d %H:%M}: {known} known, "
            f"{new} new and requested{unusable}{rest}"
        )

    def _position(self, area: WatchedArea, selection: "Selection") -> Position:
        what = _fingerprint(area, selection)
        position = self._positions.areas.get(area.name)
        if position is not None and position.selection == what:
            return position
        since = dt.datetime.combine(area.since, dt.time(), dt.UTC) if area.since else self._now - _FIRST
        if position is not None:  # what was read under another selection is done for that one only
            since = min(since, position.since)
        return Position(selection=what, since=since)

    def _selection(self, area: WatchedArea) -> "Selection":
        self._positions.asked[area.name] = self._now  # whatever comes, it has had its turn
        return area.selection(self.watch.folder, self.access.options)

    def _items(self, area: WatchedArea, selection: "Selection", since: dt.datetime) -> Iterator[dict[str, Any]]:
        """Items of an area by the time of their publication; nothing is asked before the first is wanted."""
        wanted = replace(selection, filter=replace(selection.filter, published_since=since))
        yield from self.catalogs.open(area.source, earth_engine_collection="").search(wanted)

    def _looked_up(self, items: Iterator[dict[str, Any]], call: Call) -> Iterator[tuple[dict[str, Any], bool]]:
        """Items, and whether each is left alone because it has a run or products."""
        for page in pages(items, _PAGE, call):
            known = taken(self.context.instance, self.family, [item["id"] for item in page])
            for item in page:
                yield item, item["id"] in known

    def _wanted(self, item: dict[str, Any], area: WatchedArea, published: dt.datetime) -> Wanted:
        self.family.load_source().parse(item)
        return Wanted(item, {AREA_TAG: area.name, PUBLISHED_TAG: published.isoformat()})


def _published(item: dict[str, Any], area: WatchedArea) -> dt.datetime:
    from pystac.utils import str_to_datetime

    from darts_assets.sources.stac.services import SERVICES

    return str_to_datetime(item["properties"][SERVICES[area.source].published]).astimezone(dt.UTC)


def _fingerprint(area: WatchedArea, selection: "Selection") -> str:
    shape = selection.area.wkb_hex if selection.area is not None else ""
    said = repr((area.source, area.since, selection.tiles, shape, selection.filter))
    return hashlib.sha256(said.encode()).hexdigest()[:16]
