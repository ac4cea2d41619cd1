"""Areas that are watched for new scenes: a file that users keep under version control, and how far each was read."""

import datetime as dt
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from darts_assets.errors import DartsError, SettingsError
from darts_assets.geo.aoi import read_aoi

if TYPE_CHECKING:
    from darts_assets.sources import S3Options
    from darts_assets.sources.stac.scene_selection import SceneFilter, Selection

VERSION = 1
_ENTRIES = ("version", "overlap_days", "areas")


class WatchedArea(BaseModel):
    """Where new scenes are wanted, and which.

    Attributes:
        name: what users call it; how far it has been read is kept under this name.
        tiles: MGRS tiles; either these or `aoi`.
        aoi: a vector file, relative to the file of areas.
        source: provider of the scenes.
        since: first day (UTC) of publication; by default a week before the area is seen for the first time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    tiles: tuple[str, ...] = ()
    aoi: str = ""
    source: Literal["cdse", "earth_search"] = "cdse"
    since: dt.date | None = None
    max_cloud_cover: float = 10.0
    max_snow_cover: float = 10.0
    start: dt.date | None = None
    end: dt.date | None = None
    months: tuple[int, ...] = ()
    years: tuple[int, ...] = ()
    baseline: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "WatchedArea":
        if bool(self.tiles) == bool(self.aoi):
            raise ValueError("give either tiles or aoi")
        return self

    def filter(self) -> "SceneFilter":
        """Which of its scenes.

        Raises:
            SettingsError: if an entry makes no sense.
        """
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(
            max_cloud_cover=self.max_cloud_cover,
            max_snow_cover=self.max_snow_cover,
            start=self.start,
            end=self.end,
            months=self.months,
            years=self.years,
            baseline=self.baseline,
        )

    def selection(self, folder: str, s3: "S3Options") -> "Selection":
        """Its scenes, whenever published.

        Args:
            folder: of the file of areas, a path or URL.
            s3: how `s3://` is reached.

        Raises:
            DartsError: if `aoi` cannot be read, or `tiles` are none.
        """
        from darts_assets.geo.antimeridian import lonlat_area
        from darts_assets.remote.byte_reader import is_remote
        from darts_assets.sources.stac.scene_selection import Selection

        if self.tiles:
            return Selection(tiles=self.tiles, filter=self.filter())
        absolute = is_remote(self.aoi) or Path(self.aoi).is_absolute()
        aoi = read_aoi(self.aoi if absolute else f"{folder}/{self.aoi}", s3)
        return Selection(area=lonlat_area(aoi.geometry, aoi.crs), filter=self.filter())


@dataclass(frozen=True)
class WatchedAreas:
    """What a file of areas says.

    Attributes:
        areas: those that make sense.
        wrong: name, or number, of each other one -> what is wrong with it.
        overlap: how much later than others a scene may appear, by the time of publication that it tells.
    """

    areas: tuple[WatchedArea, ...]
    wrong: dict[str, str]
    overlap: dt.timedelta


class Watch(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the file of areas is, and how much a tick may do.

    Attributes:
        path: a path, `http(s)://...` or `s3://bucket/key`; None watches nothing.
        runs: requested in a tick at most; Dagster creates about four in a second.
        seconds: that a tick may search for; Dagster gives a tick a minute for everything.
    """

    path: str | None = None
    runs: int = 100
    seconds: float = 40.0

    @property
    def folder(self) -> str:
        """Folder of the file."""
        return (self.path or "").rpartition("/")[0]

    def read(self, s3: "S3Options") -> WatchedAreas:
        """The areas, as the file has them now.

        Args:
            s3: how `s3://` is reached.

        Raises:
            SettingsError: if there is no such file, or it is no file of areas; one area that makes no sense is none.
            SourceUnavailableError: if a service does not answer after bounded retries.
        """
        from darts_assets.remote.byte_reader import read_bytes

        if self.path is None:
            raise SettingsError("nothing is watched: DARTS_WATCH names no file of areas")
        try:
            content = tomllib.loads(read_bytes(self.path, s3).decode())
        except FileNotFoundError:
            raise SettingsError(f"watched areas {self.path}: there is no such file") from None
        except OSError as error:
            raise SettingsError(f"watched areas {self.path}: it cannot be read: {error.strerror}") from None
        except ValueError as error:  # not TOML, or not even text
            raise SettingsError(f"watched areas {self.path}: it is not TOML: {error}") from None
        if (version := content.get("version")) != VERSION:
            raise SettingsError(
                f"watched areas {self.path}: version is {version!r}; 'version = {VERSION}' was expected"
            )
        if unknown := content.keys() - set(_ENTRIES):
            raise SettingsError(
                f"watched areas {self.path}: {', '.join(sorted(unknown))}: expected {', '.join(_ENTRIES)}"
            )
        overlap, tables = content.get("overlap_days", 2), content.get("areas", [])
        if not isinstance(overlap, int | float) or not 0 <= overlap <= 365:
            raise SettingsError(f"watched areas {self.path}: overlap_days is {overlap!r}; 0 to 365 days were expected")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise SettingsError(f"watched areas {self.path}: areas are tables that begin with [[areas]]")
        return WatchedAreas(*_areas(tables), dt.timedelta(days=overlap))


class Position(BaseModel):
    """How far the scenes of an area have been read, by the times of their publication.

    Attributes:
        selection: fingerprint of what is selected; another selection is read from its start.
        since: all that appeared before is done; where reading begins.
        reached: where reading goes on, if it stopped before the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    selection: str
    since: dt.datetime
    reached: dt.datetime | None = None

    @property
    def start(self) -> dt.datetime:
        """Where reading begins."""
        return self.reached or self.since

    def after(self, reached: dt.datetime, now: dt.datetime, overlap: dt.timedelta, *, ended: bool) -> "Position":
        """The position after reading up to `reached`, or to the end.

        Scenes may appear later than others that tell a later time, by the overlap. What was read in one go is read
        again by that much; what was not, from where it began, so that nothing is missed in between.
        """
        since = self.since
        if self.start == self.since:
            since = max(since, reached - overlap if ended else min(reached, now - overlap))
        return self.model_copy(update={"since": since, "reached": None if ended else reached})


class Positions(BaseModel):
    """The sensor's cursor.

    Attributes:
        version: of this form.
        areas: position of each area, by its name.
        asked: when it was looked at last, with or without success.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    areas: dict[str, Position] = Field(default_factory=dict)
    asked: dict[str, dt.datetime] = Field(default_factory=dict)

    def only(self, names: Collection[str]) -> "Positions":
        """The same without areas of other names."""
        return Positions(
            areas={name: position for name, position in self.areas.items() if name in names},
            asked={name: time for name, time in self.asked.items() if name in names},
        )


def _areas(tables: list[dict[str, object]]) -> tuple[tuple[WatchedArea, ...], dict[str, str]]:
    areas: dict[str, WatchedArea] = {}
    wrong: dict[str, str] = {}
    for number, table in enumerate(tables, 1):
        name = str(table.get("name") or f"number {number}")
        try:
            area = WatchedArea.model_validate(table)
            area.filter()
        except ValidationError as error:
            wrong[name] = "; ".join(_said(*e["loc"], e["msg"]) for e in error.errors())
        except DartsError as error:
            wrong[name] = str(error)
        else:
            if name in areas:
                wrong[f"{name} (number {number})"] = "there is an area of this name"
            else:
                areas[name] = area
    return tuple(areas.values()), wrong


def _said(*parts: object) -> str:
    return ": ".join(str(part) for part in parts)
