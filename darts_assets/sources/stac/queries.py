"""Selections as requests to a STAC API, and as tests of the returned items: some services ignore filters."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import shapely
from pystac.utils import str_to_datetime
from shapely.geometry.base import BaseGeometry

from darts_assets.errors import SceneError, SettingsError
from darts_assets.geo.antimeridian import footprint
from darts_assets.sources.sentinel2.offset_evidence import processing_baseline
from darts_assets.sources.stac.acquisitions import sensing_time
from darts_assets.sources.stac.scene_ids import by_provider, listed, quarter_of_id, tile_of_id
from darts_assets.sources.stac.scene_selection import Interval, Selection
from darts_assets.sources.stac.services import StacService

Condition = tuple[str, str, Any]  # property, operator of CQL2, value

_TILES = 5000  # in a request: some 70 kB
_IDS = 1000  # in a request: some 70 kB
_VERTICES = 1000  # of an area in a request: some 40 kB
_TICK = dt.timedelta(milliseconds=1)
_QUERY_OPERATORS = {"=": "eq", "<=": "lte", ">=": "gte", "in": "in"}
_NEAR_ANTIMERIDIAN = 10.0  # degrees; largest width of a tile up to latitude 84
_TILT = 0.2  # degrees of latitude between the two ends of a tile's upper edge


@dataclass(frozen=True)
class Query:
    """A selection for one service.

    Attributes:
        service: the service.
        selection: the requested scenes.
        today: see `SceneFilter.intervals`.
    """

    service: StacService
    selection: Selection
    today: dt.date

    def __post_init__(self) -> None:
        limits = self.selection.filter
        if self.service.quarterly and (limits.months or limits.start or limits.end or limits.baseline):
            raise SettingsError("mosaics are selected by years and quarters: leave out start, end, months and baseline")
        if not self.service.quarterly and limits.quarters:
            raise SettingsError(f"quarters apply to mosaics; {self.service} has scenes: set months instead")
        for provider, ids in by_provider(self.selection.scene_ids).items():
            if provider != (self.service.id_form or self.service.provider):
                raise SceneError(f"{listed(ids)}: ids of {provider}, which {self.service} does not have")

    @property
    def is_feed(self) -> bool:
        """Whether items are sorted by the time of their publication, the oldest first."""
        return self.selection.filter.published_since is not None

    @cached_property
    def intervals(self) -> tuple[Interval, ...]:
        """See `SceneFilter.intervals`."""
        return self.selection.filter.intervals(self.today)

    @property
    def _envelope(self) -> Interval | None:
        return (self.intervals[0][0], self.intervals[-1][1]) if self.intervals else None

    @property
    def _requested_intervals(self) -> Sequence[Interval]:
        """Intervals of the requests; a feed is one search, so without "or" it covers all intervals at once."""
        as_one = self.is_feed and self.service.language == "query"
        return [self._envelope] if as_one and self._envelope else self.intervals

    def bodies(self) -> Iterator[dict[str, Any]]:
        """The bodies of the searches, as few as possible, each for a first page."""
        common = {"collections": [self.service.collection], "limit": self.service.page}
        if self.selection.scene_ids:
            for ids in _batches(self.selection.scene_ids, min(_IDS, self.service.page)):
                yield {**common, "ids": ids, "limit": len(ids)}
            return
        time, direction = (self.service.published, "asc") if self.is_feed else ("datetime", "desc")
        common["sortby"] = [{"field": name, "direction": direction} for name in (f"properties.{time}", "id")]
        if self.selection.area is not None:
            common["intersects"] = shapely.geometry.mapping(request_area(self.selection.area))
        batches = _batches(self.selection.tiles, _TILES) if not self.is_feed else [self.selection.tiles]
        for tiles in batches or [[]]:
            yield from self._filtered(common, tiles)

    def _filtered(self, common: Mapping[str, Any], tiles: Sequence[str]) -> Iterator[dict[str, Any]]:
        conditions = self._conditions(tiles)
        if self.service.language == "query":
            query: dict[str, Any] = {name: {_QUERY_OPERATORS[operator]: value} for name, operator, value in conditions}
            extra = {"query": query} if query else {}
            for interval in reversed(self._requested_intervals) if self._requested_intervals else [None]:
                yield {**common, **_datetime(interval), **extra}
            return
        filters = [{"op": op, "args": [{"property": name}, value]} for name, op, value in conditions]
        if len(self.intervals) > 1 or (self.intervals and self.service.quarterly):  # a quarter touches the next one
            filters.append({"op": "or", "args": [_within(interval) for interval in self.intervals]})
        yield {**common, **_datetime(self._envelope), **_cql2(filters)}

    def _conditions(self, tiles: Sequence[str]) -> list[Condition]:
        limits, service = self.selection.filter, self.service
        conditions: list[Condition] = [(service.tile, "in", _tile_codes(tiles, service.tile_prefix))] if tiles else []
        # Otherwise the newest processing of an acquisition is found first, which may have another cover.
        conditions += [(name, "<=", limit) for name, limit in self.covers] if self.is_feed else []
        if service.baseline is not None and limits.baseline is not None:
            conditions.append((service.baseline, "=", limits.baseline))
        if limits.published_since is not None:
            # Not a CQL2 timestamp: a property that is not declared as a time is compared as text.
            conditions.append((service.published, ">=", _text(limits.published_since, "microseconds")))
        return conditions

    @property
    def covers(self) -> list[tuple[str, float]]:
        """Properties with a cover and their upper limits, for `within_covers`."""
        return self.selection.filter.covers(self.service.cloud_cover, self.service.snow_cover)

    def mismatch(self, item: Mapping[str, Any]) -> str | None:
        """The first field of an item that does not match the request, None if all match."""
        limits, properties = self.selection.filter, item["properties"]
        if self.selection.scene_ids:
            return None if item["id"] in self._ids else "its id"
        if self.selection.tiles and tile_of_id(item["id"]) not in self._tiles:
            return "its tile"
        if limits.baseline is not None and processing_baseline(item) != limits.baseline:
            return f"processing baseline {processing_baseline(item)}"
        try:
            time = self._time(item)
            published = str_to_datetime(properties[self.service.published]) if self.is_feed else None
        except (KeyError, ValueError, TypeError):
            return "a missing or invalid time"
        if self.intervals and not any(_is_in(time, interval) for interval in self._requested_intervals):
            return f"time {time}"
        if limits.published_since is not None and published is not None and published < limits.published_since:
            return f"{self.service.published} {published}"
        return None

    def is_selected(self, item: Mapping[str, Any]) -> bool:
        """Whether an item that matches the request is in the area and time; requests cover slightly more."""
        if self.intervals and not any(_is_in(self._time(item), interval) for interval in self.intervals):
            return False
        if self._area is None:
            return True
        geometry = footprint(item.get("geometry"))
        return geometry is not None and bool(shapely.intersects(self._area, geometry))

    def _time(self, item: Mapping[str, Any]) -> dt.datetime:
        if not self.service.quarterly:
            return sensing_time(item)
        year, quarter = quarter_of_id(item["id"]) or (0, 0)
        return dt.datetime(year, 3 * quarter - 2, 1, tzinfo=dt.UTC)

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self.selection.scene_ids)

    @cached_property
    def _tiles(self) -> frozenset[str]:
        return frozenset(self.selection.tiles)

    @cached_property
    def _area(self) -> BaseGeometry | None:
        area = self.selection.area
        if area is not None:
            shapely.prepare(area)
        return area


def request_area(area: BaseGeometry) -> BaseGeometry:
    """The area of a request: slightly larger than `area`, with few vertices."""
    simple, tolerance = area, 0.001
    while shapely.get_num_coordinates(simple) > _VERTICES:
        # An octagon is up to 8 % inside of its circle, and the simplified line within the tolerance.
        simple = simple.buffer(2 * tolerance, quad_segs=2).simplify(tolerance) & shapely.box(-180, -90, 180, 90)
        tolerance *= 2
    near = simple - shapely.box(_NEAR_ANTIMERIDIAN - 180, -90, 180 - _NEAR_ANTIMERIDIAN, 90)
    if near.is_empty:
        return simple
    # For services, an uncut footprint that crosses the antimeridian spans the rest of the globe. It is found at
    # Greenwich, where the Arctic is sea, without other scenes.
    south, north = max(near.bounds[1] - _TILT, -90), min(near.bounds[3] + _TILT, 90)
    return simple | shapely.box(0, south, 1e-6, north)


def _cql2(filters: list[dict[str, Any]]) -> dict[str, Any]:
    if not filters:
        return {}
    return {"filter-lang": "cql2-json", "filter": {"op": "and", "args": filters} if len(filters) > 1 else filters[0]}


def _within(interval: Interval) -> dict[str, Any]:
    bounds = [
        {"op": operator, "args": [{"property": "datetime"}, {"timestamp": _text(bound)}]}
        for operator, bound in zip((">=", "<"), interval, strict=True)
        if bound is not None
    ]
    return {"op": "and", "args": bounds}


def _datetime(interval: Interval | None) -> dict[str, str]:
    if interval is None:
        return {}
    start, end = interval
    # The end of the parameter is inclusive, unlike that of an Interval; times of scenes are milliseconds.
    return {"datetime": f"{_text(start) if start else '..'}/{_text(end - _TICK, 'milliseconds') if end else '..'}"}


def _is_in(time: dt.datetime, interval: Interval) -> bool:
    start, end = interval
    return (start is None or start <= time) and (end is None or time < end)


def _tile_codes(tiles: Sequence[str], prefix: str) -> list[str]:
    """MGRS codes with and without the leading zero of zones below 10: catalogs use both."""
    bare = [tile.removeprefix("0") for tile in tiles if tile.startswith("0")]
    return [f"{prefix}{tile}" for tile in (*tiles, *bare)]


def _text(time: dt.datetime, precision: str = "seconds") -> str:
    return time.astimezone(dt.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _batches(names: Sequence[str], size: int) -> list[list[str]]:
    return [list(names[first : first + size]) for first in range(0, len(names), size)]
