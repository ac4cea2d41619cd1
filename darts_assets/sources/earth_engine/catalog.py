"""Search for Sentinel-2 scenes in Earth Engine, which evaluates the filters and returns pages of matches."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import shapely
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from darts_assets.earth_engine import EarthEngine, EarthEngineError, EarthEngineOptions
from darts_assets.errors import SceneError, SettingsError
from darts_assets.sources.earth_engine.items import HARMONIZED, ORIGINAL, described, item_of
from darts_assets.sources.stac.acquisitions import newest, within_covers
from darts_assets.sources.stac.queries import request_area
from darts_assets.sources.stac.scene_ids import UnknownScenesError, by_provider
from darts_assets.sources.stac.scene_selection import Interval, Progress, Selection

_PAGE = 1000
"""Matches per page, which is Earth Engine's default; and ids per request."""

_FIRST, _LAST = dt.datetime(2015, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)

Filters = Callable[[Any], Sequence[Any]]
"""Creates filters with the initialized module `ee`."""

Page = list[dict[str, Any]]


class EarthEngineCatalog:
    """Sentinel-2 scenes in one collection of Earth Engine; a `SceneCatalog`.

    Args:
        options: connection to Earth Engine.
        collection: `COPERNICUS/S2_SR_HARMONIZED` or `COPERNICUS/S2_SR`.

    Raises:
        SettingsError: for another collection.
    """

    def __init__(self, options: EarthEngineOptions, collection: str = HARMONIZED) -> None:
        if collection not in (HARMONIZED, ORIGINAL):
            raise SettingsError(f"Earth Engine collection {collection!r}: {HARMONIZED} or {ORIGINAL} was expected")
        self._collection = collection
        self._engine = EarthEngine(options)

    def search(
        self, selection: Selection, progress: Progress | None = None, unknown: Counter[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The STAC items of a selection, page by page with a thousand items each.

        A search by tiles or area considers only the newest processing baseline of each acquisition.

        Args:
            selection: ids are those of images (`20230701T194909_20230701T195350_T11XNA`).
            progress: called after each request.
            unknown: counts the scenes left out because their cover is unknown, by the property they lack.

        Raises:
            UnknownScenesError: after all items were yielded, with the ids that the collection lacks.
            SettingsError: if there are no credentials or no project, the service rejects them, or the filter has
                quarters or a time of publication, which Earth Engine does not have.
            SceneError: if the service rejects the request itself.
            SourceUnavailableError: if the service does not answer, or quotas stay exceeded.
        """
        if selection.filter.published_since is not None:
            raise SettingsError("Earth Engine has no time of publication: use another catalog to find new scenes")
        if selection.filter.quarters:
            raise SettingsError("quarters select mosaics, and Earth Engine has scenes only: set months instead")
        if selection.scene_ids:
            return self._named(selection.scene_ids, progress)
        latest = newest(self._matching(selection, progress))
        covers = selection.filter.covers("eo:cloud_cover", "eo:snow_cover")
        return within_covers(_inside(latest, selection.area), covers, unknown)

    def _named(self, scene_ids: Sequence[str], progress: Progress | None) -> Iterator[dict[str, Any]]:
        unknown = dict.fromkeys(scene_ids)
        for item in _received(self._pages_of(scene_ids), len(unknown), progress):
            unknown.pop(item["id"], None)
            yield item
        if unknown:
            raise UnknownScenesError(list(unknown), f"Earth Engine's {self._collection}")

    def _pages_of(self, scene_ids: Sequence[str]) -> Iterator[Page]:
        # Sorted by time, so that a request covers as few days as possible.
        ids = sorted(name for name in by_provider(scene_ids).get("earth_engine", ()) if _day(name))
        for start in range(0, len(ids), _PAGE):
            yield from self._pages(partial(_with_ids, ids[start : start + _PAGE]))

    def _matching(self, selection: Selection, progress: Progress | None) -> Iterator[dict[str, Any]]:
        requested = None if selection.area is None else request_area(selection.area)
        return _received(self._pages(partial(_selected, selection, requested)), None, progress)

    def _pages(self, filters: Filters) -> Iterator[Page]:
        token: str | None = ""
        while token is not None:
            try:
                page = self._engine.call(f"scenes of {self._collection}", partial(self._request, filters, token))
                items = [item_of(self._collection, feature) for feature in page.get("features", ())]
            except EarthEngineError as error:
                raise SceneError(str(error)) from error
            yield items
            token = page.get("nextPageToken") or None

    def _request(self, filters: Filters, token: str, ee: Any) -> dict[str, Any]:
        # The only listing that evaluates all filters, returns selected properties, and has no limit of matches (others
        # end at 5000 elements or return 20 kB for each).
        images = ee.ImageCollection(self._collection).filter(ee.Filter.And(*filters(ee)))
        body = {"expression": images.map(lambda image: described(ee, image)), "pageSize": _PAGE}
        page: dict[str, Any] = ee.data.computeFeatures(body | ({"pageToken": token} if token else {}))
        return page


def _received(pages: Iterable[Page], total: int | None, progress: Progress | None) -> Iterator[dict[str, Any]]:
    received = 0
    for page in pages:
        received += len(page)
        if progress:
            progress(received, total)
        yield from page


def _inside(items: Iterable[dict[str, Any]], area: BaseGeometry | None) -> Iterator[dict[str, Any]]:
    """The items whose footprint intersects the area; requests cover slightly more."""
    if area is not None:
        shapely.prepare(area)
    for item in items:
        if area is None or (item["geometry"] is not None and area.intersects(shape(item["geometry"]))):
            yield item


def _selected(selection: Selection, area: BaseGeometry | None, ee: Any) -> Sequence[Any]:
    """The filters of a selection by tiles or by an area; `area` is the area to request instead of the selection's."""
    limits = selection.filter
    if area is None:
        filters = [ee.Filter.inList("MGRS_TILE", list(selection.tiles))]
    else:
        # Planar edges; the default of Earth Engine is great circles.
        filters = [ee.Filter.bounds(ee.Geometry(mapping(area), None, False))]
    if intervals := limits.intervals(dt.datetime.now(dt.UTC).date()):
        # Earth Engine indexes times, but uses the index for one interval only.
        filters.append(_sensed(ee, (intervals[0][0], intervals[-1][1])))
        filters.append(ee.Filter.Or(*(_sensed(ee, interval) for interval in intervals)))
    if limits.baseline:
        filters.append(ee.Filter.eq("PROCESSING_BASELINE", limits.baseline))
    return filters


def _with_ids(scene_ids: Sequence[str], ee: Any) -> Sequence[Any]:
    """The filters of sorted ids; without the days Earth Engine would scan the whole collection."""
    first, last = _day(scene_ids[0]), _day(scene_ids[-1])
    # The time in the id is the start of the datatake; the tile may be sensed on the next day.
    interval = (first, last + 2 * _DAY if last else None)
    return [_sensed(ee, interval), ee.Filter.inList("system:index", list(scene_ids))]


def _sensed(ee: Any, interval: Interval) -> Any:
    start, end = interval
    return ee.Filter.date(*(f"{time or edge:%Y-%m-%dT%H:%M:%S}" for time, edge in ((start, _FIRST), (end, _LAST))))


def _day(scene_id: str) -> dt.datetime | None:
    """The day in an id, None if it does not exist."""
    try:
        return dt.datetime.strptime(scene_id[:8], "%Y%m%d").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
