"""What somebody wants of a catalog of scenes: a selection, its filter, and what a catalog makes of them."""

import datetime as dt
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from darts_assets.errors import SettingsError
from darts_assets.sources.stac.scene_ids import by_provider, tile_ids

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger(__name__)

Interval = tuple[dt.datetime | None, dt.datetime | None]
"""From a time (UTC) until just before another; None is open."""

Progress = Callable[[int, int | None], None]
"""Called with the number of items received so far, and of all that match where the service tells."""

_FIRST_YEAR = 2015  # Sentinel-2A was launched in June
_LAST_YEAR = 2100
_ALL = 100.0


@dataclass(frozen=True)
class SceneFilter:
    """Which scenes of an area or of tiles; `start` and `end` win over `months` and `years`, with a warning.

    Attributes:
        max_cloud_cover: percent; 100 is off. A scene whose cover is unknown passes only when it is off.
        max_snow_cover: percent; the same.
        start: first day, UTC.
        end: last day, UTC, all of it.
        months: 1 to 12; without years: of every year until this one.
        years: without months and quarters: all of each year.
        quarters: 1 to 4; they choose mosaics, which have neither covers nor days.
        baseline: exactly this processing baseline, such as `05.10`; None: the newest of each acquisition.
        published_since: only what the service has published since, oldest first; for those who look repeatedly.
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
                raise SettingsError(f"{name}: {wrong} make no sense; numbers from {first} to {last} were expected")
        if self.months and self.quarters:
            raise SettingsError("months choose scenes and quarters choose mosaics: give one of the two")
        if self.start and self.end and self.start > self.end:
            raise SettingsError(f"start {self.start} lies after end {self.end}")
        if self.baseline is not None and not re.fullmatch(r"\d\d\.\d\d", self.baseline):
            raise SettingsError(f"baseline {self.baseline!r}: a processing baseline such as 05.10 was expected")
        if self.published_since is not None and self.published_since.tzinfo is None:
            raise SettingsError(f"published_since {self.published_since} does not say its time zone")
        if (self.start or self.end) and (self.months or self.years):
            logger.warning("start and end win over months and years: %s and %s are ignored", self.months, self.years)

    def intervals(self, today: dt.date) -> tuple[Interval, ...]:
        """The fewest stretches of time in which scenes are wanted, in order; none at all: any time.

        Args:
            today: months and quarters without years are those until the year of this day.
        """
        if self.start or self.end:
            last = self.end + dt.timedelta(days=1) if self.end else None
            return ((_midnight(self.start) if self.start else None, _midnight(last) if last else None),)
        if not (self.months or self.quarters or self.years):
            return ()
        of_quarters = [month for quarter in self.quarters for month in range(3 * quarter - 2, 3 * quarter + 1)]
        months = set(self.months or of_quarters or range(1, 13))
        years = set(self.years or range(_FIRST_YEAR, today.year + 1))
        counted = sorted(12 * year + month - 1 for year in years for month in months)
        runs = itertools.groupby(enumerate(counted), key=lambda pair: pair[1] - pair[0])
        stretches = [[count for _, count in run] for _, run in runs]
        return tuple((_month_start(run[0]), _month_start(run[-1] + 1)) for run in stretches)


@dataclass(frozen=True)
class Selection:
    """Scenes that are wanted: exactly one of ids, tiles and an area.

    Attributes:
        scene_ids: ids; the filter says nothing about them.
        tiles: MGRS tiles; kept as `33UUP`.
        area: any geometry in EPSG:4326 between -180 and 180 degrees, cut at the antimeridian; see `lonlat_area`.
        filter: which scenes of the tiles or of the area.
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
                f"give one of scene ids, tiles and an area, not {len(given)}: {', '.join(given) or '-'}"
            )
        by_provider(self.scene_ids)  # all are looked at before any is asked for
        object.__setattr__(self, "scene_ids", tuple(dict.fromkeys(self.scene_ids)))
        object.__setattr__(self, "tiles", tile_ids(self.tiles))
        if self.area is not None:
            _check_area(self.area)


class SceneCatalog(Protocol):
    """Where scenes can be found."""

    def search(self, selection: Selection, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
        """The STAC items of a selection, as they come.

        Raises:
            UnknownScenesError: after all items were given: naming the ids that the service does not know.
            SettingsError: if the catalog cannot be asked so, or refuses.
            SceneError: if the service refuses the request itself.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """


def _check_area(area: "BaseGeometry") -> None:
    if area.is_empty or not area.is_valid:
        raise SettingsError("the area is empty or invalid")
    west, south, east, north = area.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise SettingsError(
            f"the area spans longitudes {west:g}..{east:g} and latitudes {south:g}..{north:g}; EPSG:4326, cut at the "
            "antimeridian, was expected"
        )


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _month_start(count: int) -> dt.datetime:
    """The start of a month that is counted from year 0."""
    return dt.datetime(count // 12, count % 12 + 1, 1, tzinfo=dt.UTC)
