"""Sensor that registers new scenes of watched areas and requests their chains."""

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
from darts_assets.orchestration.core.resources import SceneCatalogs
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.sensor_base import (
    RETRY,
    SceneRequest,
    chain_sensor,
    pages,
    processed,
    read_cursor,
    request_runs,
)
from darts_assets.orchestration.scene_discovery.twin_scenes import TwinScenes
from darts_assets.orchestration.scene_discovery.watched_areas import (
    Position,
    Positions,
    Watch,
    WatchedArea,
    WatchedAreas,
)
from darts_assets.redaction import shown

if TYPE_CHECKING:
    from darts_assets.sources.stac.scene_selection import Selection

AREA_TAG = "darts/area"
PUBLISHED_TAG = "darts/published"

_INTERVAL = 15 * 60  # seconds
_PAGE = 100  # items per query of the Dagster instance
_FIRST = dt.timedelta(days=7)
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


def build_sensors(family: SceneFamily, interval: int = _INTERVAL) -> list[dg.SensorDefinition]:
    """The sensors of a family, evaluated at most every `interval` seconds."""

    @chain_sensor(
        family,
        f"new_{family.name}_scenes",
        interval,
        "Registers new scenes of the watched areas (DARTS_WATCH) and requests a run of the chain for each.",
    )
    def new_scenes(
        context: dg.SensorEvaluationContext, scenes: SceneRegistry, catalogs: SceneCatalogs, watch: Watch
    ) -> dg.SensorResult | dg.SkipReason:
        """Request a run for each scene that was published in a watched area since the last tick.

        Scenes that have a run of their own or products are skipped: scenes in two areas, scenes of earlier ticks,
        scenes processed by hand. A partition alone does not mean that the scene was processed, because partitions are
        added before Dagster records the run requests, and the daemon may be killed in between. Therefore a scene that
        was only registered is requested, and one that waits in a backfill may be processed twice, with the same
        result. Run keys are scene ids, so another processing of the same acquisition has its own run.
        """
        try:
            with in_time(watch.seconds / 2) as call:
                watched = call(lambda: watch.read(scenes.access.options))
        except TimeoutError:
            return dg.SkipReason(
                f"watched areas {shown(str(watch.path))}: reading timed out after {watch.seconds / 2:g} s"
            )
        except DartsError as error:
            return dg.SkipReason(str(error))
        tick = _Tick(context, family, scenes, catalogs, watch, watched)
        report = [*tick.search(), *(f"{name}: not watched: {reason}" for name, reason in watched.invalid.items())]
        return request_runs(
            context, scenes, family, tick.requests, report or [f"{watch.path} contains no areas"], tick.cursor()
        )

    return [new_scenes]


@dataclass
class _Tick:
    """One search of the watched areas.

    Attributes:
        requests: scene id -> request.
    """

    context: dg.SensorEvaluationContext
    family: SceneFamily
    scenes: SceneRegistry
    catalogs: SceneCatalogs
    watch: Watch
    watched: WatchedAreas
    requests: dict[str, SceneRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._now = dt.datetime.now(dt.UTC)
        self._twins = TwinScenes(self.context.instance, self.scenes, self.family)
        self._positions = read_cursor(self.context, Positions, "all areas are read from their start")

    def cursor(self) -> Positions:
        """The positions of the file's areas; invalid areas keep theirs."""
        return self._positions.only({area.name for area in self.watched.areas} | self.watched.invalid.keys())

    def search(self) -> list[str]:
        """Search each area, the longest unread first, and share the runs equally; returns a sentence per area."""
        report = []
        areas = sorted(self.watched.areas, key=lambda area: self._positions.asked.get(area.name, _NEVER))
        with in_time(self.watch.seconds) as call:
            for number, area in enumerate(areas):
                share = math.ceil((self.watch.runs - len(self.requests)) / (len(areas) - number))
                try:
                    result = self._search_area(area, share, call) if share else "no runs left; next tick starts here"
                except TimeoutError:
                    result = f"timed out after {self.watch.seconds:g} s; {RETRY}"
                except DartsError as error:
                    result = f"{error}; {RETRY}"
                report.append(f"{area.name}: {result}")
        return report

    def _search_area(self, area: WatchedArea, share: int, call: "Call") -> str:
        selection = call(lambda: self._selection(area))
        position = self._position(area, selection)
        reached, stopped = position.start, ""
        known = new = twins = 0
        unusable: list[str] = []
        try:
            for item, is_processed in self._with_status(self._items(area, selection, position.start), call):
                published = _published(item, area)
                if is_processed or item["id"] in self.requests:
                    known += 1
                elif new == share:
                    stopped = "; run limit reached, the next tick continues"
                    break
                else:
                    try:
                        scene = self.family.load_source().parse(item)
                        if self._twins.twin_of(scene) is None:
                            self._twins.add(scene)
                            tags = {AREA_TAG: area.name, PUBLISHED_TAG: published.isoformat()}
                            self.requests[item["id"]] = SceneRequest(item, tags)
                            new += 1
                        else:
                            twins += 1
                    except SceneError as error:
                        unusable.append(str(error))
                reached = published
        except TimeoutError:
            if not (known or new or twins or unusable):
                raise
            stopped = "; time limit reached, the next tick continues"
        ended = not stopped
        self._positions.areas[area.name] = position.after(reached, self._now, self.watched.overlap, ended=ended)
        same = f", {twins} registered from another source" if twins else ""
        problem = f", {len(unusable)} unusable (such as {unusable[0]})" if unusable else ""
        return (
            f"{known + new + twins + len(unusable)} scenes published since {position.start:%Y-%m-%d %H:%M} match: "
            f"{known} known, {new} requested{same}{problem}{stopped}"
        )

    def _position(self, area: WatchedArea, selection: "Selection") -> Position:
        fingerprint = _fingerprint(area, selection)
        position = self._positions.areas.get(area.name)
        if position is not None and position.selection == fingerprint:
            return position
        since = dt.datetime.combine(area.since, dt.time(), dt.UTC) if area.since else self._now - _FIRST
        if position is not None:  # the earlier selection may have excluded scenes from here on
            since = min(since, position.since)
        return Position(selection=fingerprint, since=since)

    def _selection(self, area: WatchedArea) -> "Selection":
        self._positions.asked[area.name] = self._now  # first, so that an area that fails comes last in the next tick
        return area.selection(self.watch.folder, self.scenes.access.options)

    def _items(self, area: WatchedArea, selection: "Selection", since: dt.datetime) -> Iterator[dict[str, Any]]:
        """Items of an area in the order of publication; a generator, so that opening the catalog is timed as well."""
        unread = replace(selection, filter=replace(selection.filter, published_since=since))
        yield from self.catalogs.open(area.source, earth_engine_collection="").search(unread)

    def _with_status(self, items: Iterator[dict[str, Any]], call: Call) -> Iterator[tuple[dict[str, Any], bool]]:
        """Items, each with whether it has a run or products."""
        for page in pages(items, _PAGE, call):
            known = processed(self.context.instance, self.family, [item["id"] for item in page])
            for item in page:
                yield item, item["id"] in known


def _published(item: dict[str, Any], area: WatchedArea) -> dt.datetime:
    from pystac.utils import str_to_datetime

    from darts_assets.sources.stac.services import SERVICES

    return str_to_datetime(item["properties"][SERVICES[area.source].published]).astimezone(dt.UTC)


def _fingerprint(area: WatchedArea, selection: "Selection") -> str:
    shape = selection.area.wkb_hex if selection.area is not None else ""
    text = repr((area.source, area.since, selection.tiles, shape, selection.filter))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
