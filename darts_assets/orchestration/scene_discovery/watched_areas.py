"""The file of watched areas, which users keep under version control, and the reading position of each area."""

import datetime as dt
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.scene_discovery.selection import read_area
from darts_assets.redaction import revealed

if TYPE_CHECKING:
    from darts_assets.sources import S3Options
    from darts_assets.sources.stac.scene_selection import SceneFilter, Selection

VERSION = 1
_ENTRIES = ("version", "overlap_days", "areas")


Time = Annotated[
    AwareDatetime,
    Field(ge=dt.datetime(1970, 1, 1, tzinfo=dt.UTC), le=dt.datetime(9000, 1, 1, tzinfo=dt.UTC)),
]
"""Times of a cursor; days can be added to and subtracted from them."""


class WatchedArea(BaseModel):
    """An area, and the filter of its scenes.

    Attributes:
        name: unique name; the sensor's cursor stores the area's position under it.
        tiles: MGRS tiles; set either these or `aoi`.
        aoi: a vector file, relative to the file of areas.
        aoi_layer: the only layer of `aoi` to read; all by default.
        source: catalog of the scenes.
        since: first day (UTC) of publication; by default a week before the first tick that reads the area.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    tiles: tuple[str, ...] = ()
    aoi: str = ""
    aoi_layer: str = ""
    source: Literal["cdse", "earth_search"] = "cdse"
    since: dt.date | None = Field(None, ge=dt.date(1970, 1, 1), le=dt.date(9000, 1, 1))
    max_cloud_cover: float = 10.0
    max_snow_cover: float = 10.0
    start: dt.date | None = None
    end: dt.date | None = None
    months: tuple[int, ...] = ()
    years: tuple[int, ...] = ()
    baseline: str | None = None

    @model_validator(mode="after")
    def _require_one_place(self) -> "WatchedArea":
        if bool(self.tiles) == bool(self.aoi):
            raise ValueError("set either tiles or aoi")
        if self.aoi_layer and not self.aoi:
            raise ValueError("aoi_layer has no effect without aoi")
        return self

    def filter(self) -> "SceneFilter":
        """The filter; SettingsError if a value is invalid."""
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(**self.model_dump(exclude={"name", "tiles", "aoi", "aoi_layer", "source", "since"}))

    def selection(self, folder: str, s3: "S3Options") -> "Selection":
        """The area's scenes, of any publication time.

        Args:
            folder: folder of the file of areas, a path or URL.
            s3: options for `s3://`.

        Raises:
            DartsError: if `aoi` cannot be read, or `tiles` are malformed.
        """
        from darts_assets.remote.byte_reader import is_remote
        from darts_assets.sources.stac.scene_selection import Selection

        if self.tiles:
            return Selection(tiles=self.tiles, filter=self.filter())
        absolute = is_remote(self.aoi) or Path(self.aoi).is_absolute()
        path = self.aoi if absolute else f"{folder}/{self.aoi}"
        return Selection(area=read_area(path, s3, self.aoi_layer), filter=self.filter())


@dataclass(frozen=True)
class WatchedAreas:
    """Content of a file of areas.

    Attributes:
        areas: the valid areas.
        invalid: name, or number, of each other area -> problem.
        overlap: largest delay between a scene's stated publication time and its appearance in the catalog.
    """

    areas: tuple[WatchedArea, ...]
    invalid: dict[str, str]
    overlap: dt.timedelta


class Watch(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The file of areas, and the limits of a sensor tick.

    Attributes:
        path: a path, `http(s)://...` or `s3://bucket/key`; None watches nothing.
        runs: runs that a tick requests at most; Dagster creates about four per second.
        seconds: time limit of a tick's searches; Dagster allows 60 s in total.
    """

    path: str | None = None
    runs: int = 100
    seconds: float = 40.0

    @property
    def folder(self) -> str:
        """Folder of the file."""
        return revealed(self.path or "").rpartition("/")[0]

    def read(self, s3: "S3Options") -> WatchedAreas:
        """The current content of the file.

        Args:
            s3: options for `s3://`.

        Raises:
            SettingsError: if the file does not exist or is not a file of areas; a single invalid area is not an error.
            SourceUnavailableError: if a service does not answer after bounded retries.
        """
        from darts_assets.remote.byte_reader import read_bytes

        if self.path is None:
            raise SettingsError("No areas are watched: set DARTS_WATCH to a file of areas")
        try:
            return _parse(read_bytes(revealed(self.path), s3))
        except FileNotFoundError:
            problem = "there is no such file"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        except ValueError as error:
            problem = str(error)
        raise SettingsError(f"watched areas {self.path}: {problem}")


class Position(BaseModel):
    """The reading position in an area's scenes, in the order of their publication.

    Attributes:
        selection: fingerprint of the selection; another selection is read from its start.
        since: all scenes published before this time are processed.
        reached: time at which reading continues, if it stopped before the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    selection: str
    since: Time
    reached: Time | None = None

    @property
    def start(self) -> dt.datetime:
        """Time at which reading starts."""
        return self.reached or self.since

    def after(self, reached: dt.datetime, now: dt.datetime, overlap: dt.timedelta, *, ended: bool) -> "Position":
        """The position after reading up to `reached`, or to the end.

        A scene may appear up to `overlap` after its stated publication time. Therefore the overlap is read again; after
        a read over several ticks, all of it is read again.
        """
        since = self.since
        if self.start == self.since:
            since = max(since, reached - overlap if ended else min(reached, now - overlap))
        return self.model_copy(update={"since": since, "reached": None if ended else reached})


class Positions(BaseModel):
    """The sensor's cursor.

    Attributes:
        version: version of this format.
        areas: area name -> position.
        asked: area name -> time of the last search, successful or not.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    areas: dict[str, Position] = Field(default_factory=dict)
    asked: dict[str, Time] = Field(default_factory=dict)

    def only(self, names: Collection[str]) -> "Positions":
        """The cursor without other areas."""
        return Positions(
            areas={name: position for name, position in self.areas.items() if name in names},
            asked={name: time for name, time in self.asked.items() if name in names},
        )


def _parse(raw: bytes) -> WatchedAreas:
    """Raises ValueError, with the problem, if it is not a file of areas."""
    try:
        content = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a TOML file: {error}") from None
    if (version := content.get("version")) != VERSION:
        raise ValueError(f"version is {version!r}; expected 'version = {VERSION}'")
    if unknown := content.keys() - set(_ENTRIES):
        raise ValueError(f"unknown entry {', '.join(sorted(unknown))}; expected {', '.join(_ENTRIES)}")
    overlap, tables = content.get("overlap_days", 2), content.get("areas", [])
    if not isinstance(overlap, int | float) or not 0 <= overlap <= 365:
        raise ValueError(f"overlap_days is {overlap!r}; expected 0 to 365")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("expected areas as tables that start with [[areas]]")
    areas: dict[str, WatchedArea] = {}
    invalid: dict[str, str] = {}
    for number, table in enumerate(tables, 1):
        name = str(table.get("name") or f"number {number}")
        try:
            area = WatchedArea.model_validate(table)
            area.filter()
        except ValidationError as error:
            invalid[name] = "; ".join(": ".join(map(str, (*e["loc"], e["msg"]))) for e in error.errors())
        except DartsError as error:
            invalid[name] = str(error)
        else:
            if name in areas:
                invalid[f"{name} (number {number})"] = "another area has the same name"
            else:
                areas[name] = area
    return WatchedAreas(tuple(areas.values()), invalid, dt.timedelta(days=overlap))
