"""Selections of scenes, their filters, and the interface of catalogs that are searched for them."""

import datetime as dt
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from darts_assets.errors import SettingsError
from darts_assets.sources.stac.scene_ids import bare_id, by_provider, tile_ids

if TYPE_CHECKING:
    from collections import Counter

    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger(__name__)

Interval = tuple[dt.datetime | None, dt.datetime | None]
"""Half-open interval of times, UTC; None is open."""

Progress = Callable[[int, int | None], None]
"""Called with the number of items received, and of all matching items if the service reports it."""

_FIRST_YEAR = 2015  # Sentinel-2A was launched in June
_LAST_YEAR = 2100
_ALL = 100.0


@dataclass(frozen=True)
class SceneFilter:
    """Filter of the scenes of an area or of tiles; `start` and `end` override `months` and `years`, with a warning.

    Attributes:
        max_cloud_cover: percent; 100 disables the limit. Scenes of unknown cover pass only without limit.
        max_snow_cover: percent; likewise.
        start: first day, UTC.
        end: last day, UTC, inclusive.
        months: 1 to 12; without years, of every year until the current one.
        years: without months and quarters, all of each year.
        quarters: 1 to 4; for mosaics, which have neither covers nor days.
        baseline: processing baseline such as `05.10`; None for the newest of each acquisition.
        published_since: only items published since then, oldest first; for repeated searches.
    """

    max_cloud_cover: float = 10.0
    max_snow_cover: float = 10.0
    start: dt.date | None = None
    end: dt.date | None = None
    months: tuple[int, ...] = ()
    years: tuple[int, ...] = ()
    quarters: tuple[int, ...] = ()
    baseline: str | None = None
    published_since: dt.datetime | None = None

    def __post_init__(self) -> None:
        for name in ("max_cloud_cover", "max_snow_cover"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= _ALL):
                raise SettingsError(f"{name} is {value}; a percentage from 0 to 100 was expected (100 = off)")
        for name, first, last in (("months", 1, 12), ("years", _FIRST_YEAR, _LAST_YEAR), ("quarters", 1, 4)):
            if wrong := [value for value in getattr(self, name) if not first <= value <= last]:
                raise SettingsError(f"{name}: {wrong} out of range; numbers from {first} to {last} were expected")
        if self.months and self.quarters:
            raise SettingsError("months apply to scenes and quarters to mosaics: set only one of them")
        if self.start and self.end and self.start > self.end:
            raise SettingsError(f"start {self.start} is later than end {self.end}")
        if self.baseline is not None and not re.fullmatch(r"\d\d\.\d\d", self.baseline):
            raise SettingsError(f"baseline {self.baseline!r}: a processing baseline such as 05.10 was expected")
        if self.published_since is not None and self.published_since.tzinfo is None:
            raise SettingsError(f"published_since {self.published_since} has no time zone")
        if (self.start or self.end) and (self.months or self.years):
            logger.warning("start and end override months and years: %s and %s are ignored", self.months, self.years)

    def covers(self, cloud_cover: str | None, snow_cover: str | None) -> list[tuple[str, float]]:
        """The upper limits of cloud and snow cover, with the properties of items that they apply to."""
        limits = ((cloud_cover, self.max_cloud_cover), (snow_cover, self.max_snow_cover))
        return [(name, limit) for name, limit in limits if name is not None and limit < _ALL]

    def intervals(self, today: dt.date) -> tuple[Interval, ...]:
        """The selected times as few disjoint intervals, in order; empty for any time.

        Args:
            today: months and quarters without years end with the year of this day.
        """
        if self.start or self.end:
            last = self.end + dt.timedelta(days=1) if self.end else None
            return ((_midnight(self.start) if self.start else None, _midnight(last) if last else None),)
        if not (self.months or self.quarters or self.years):
            return ()
        quarter_months = [month for quarter in self.quarters for month in range(3 * quarter - 2, 3 * quarter + 1)]
        months = set(self.months or quarter_months or range(1, 13))
        years = set(self.years or range(_FIRST_YEAR, today.year + 1))
        numbers = sorted(12 * year + month - 1 for year in years for month in months)
        runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
        consecutive = [[number for _, number in run] for _, run in runs]
        return tuple((_month_start(run[0]), _month_start(run[-1] + 1)) for run in consecutive)


@dataclass(frozen=True)
class Selection:
    """Requested scenes: exactly one of ids, tiles and an area.

    Attributes:
        scene_ids: ids; the filter does not apply to them.
        tiles: MGRS tiles; normalized to `33UUP`.
        area: any geometry in EPSG:4326 between -180 and 180 degrees, cut at the antimeridian; see `lonlat_area`.
        filter: applies to tiles and area.
    """

    scene_ids: Sequence[str] = ()
    tiles: Sequence[str] = ()
    area: "BaseGeometry | None" = None
    filter: SceneFilter = field(default_factory=SceneFilter)

    def __post_init__(self) -> None:
        given = [name for name in ("scene_ids", "tiles") if getattr(self, name)]
        given += ["area"] if self.area is not None else []
        if len(given) != 1:
            raise SettingsError(
                f"set exactly one of scene ids, tiles and area, not {len(given)}: {', '.join(given) or '-'}"
            )
        by_provider(self.scene_ids)  # all are validated before the first request
        object.__setattr__(self, "scene_ids", tuple(dict.fromkeys(map(bare_id, self.scene_ids))))
        object.__setattr__(self, "tiles", tile_ids(self.tiles))
        if self.area is not None:
            _check_area(self.area)


class SceneCatalog(Protocol):
    """A catalog that can be searched for scenes."""

    def search(
        self, selection: Selection, progress: Progress | None = None, unknown: "Counter[str] | None" = None
    ) -> Iterator[dict[str, Any]]:
        """The STAC items of a selection, as they are received.

        Args:
            selection: requested scenes.
            progress: called after each response.
            unknown: counts the scenes left out because their cover is unknown, by the property they lack.

        Raises:
            UnknownScenesError: after the last item, if the service does not have all ids.
            SettingsError: if the selection does not apply to the catalog, or the service refuses the client.
            SceneError: if the service refuses the request.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """


def _check_area(area: "BaseGeometry") -> None:
    if area.is_empty:
        raise SettingsError("the area is empty; a geometry with at least one point was expected")
    if not area.is_valid:
        raise SettingsError("the area is invalid; it can be repaired by shapely.make_valid")
    west, south, east, north = area.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise SettingsError(
            f"the area spans longitudes {west:g}..{east:g} and latitudes {south:g}..{north:g}; EPSG:4326, cut at the "
            "antimeridian, was expected. Are longitude and latitude swapped?"
        )


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _month_start(number: int) -> dt.datetime:
    """The start of a month; months are numbered from year 0."""
    return dt.datetime(number // 12, number % 12 + 1, 1, tzinfo=dt.UTC)
