"""Selection of scenes by ids, tiles or area: the config fields, files of ids, and searches in catalogs."""

import datetime as dt
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import dagster as dg
import obstore
from pydantic import Field

from darts_assets.errors import DartsError, SceneError, SettingsError, SourceUnavailableError, StoreError
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.core.resources import Provider, SceneCatalogs, SourceAccess, Store
from darts_assets.redaction import shown
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.sources import S3Options
    from darts_assets.sources.stac.scene_selection import SceneFilter, Selection

logger = logging.getLogger(__name__)


class SelectionConfig(dg.Config):
    """Fields that select scenes of any family."""

    scene_ids: list[str] = Field(
        default=[], description="Scene ids, without filters; registered scenes are not searched for."
    )
    ids_file: str = Field(
        default="", description="JSON file with scene ids, as written by write_ids: a path, or s3://."
    )
    aoi: str = Field(default="", description="Vector file (path or URL) in any CRS: scenes that intersect it.")
    aoi_layer: str = Field(default="", description="The only layer of aoi to read. Default: all layers.")
    start: str = Field(default="", description="First day, such as 2023-07-01; overrides months and years.")
    end: str = Field(default="", description="Last day (inclusive); overrides months and years.")
    months: list[int] = Field(default=[], description="Months, 1 to 12.")
    years: list[int] = Field(default=[], description="Years, such as 2022, 2023. Default: all.")

    def requested_ids(self, store: Store) -> list[str]:
        """The ids of `scene_ids` or `ids_file`, without duplicates; SettingsError if the file is unusable."""
        from darts_assets.sources.stac.scene_ids import bare_id

        return list(dict.fromkeys(map(bare_id, self.scene_ids or read_ids(self.ids_file, store))))

    def check_layer(self) -> None:
        """Raise SettingsError if `aoi_layer` is set without `aoi`."""
        if self.aoi_layer and not self.aoi:
            raise SettingsError("aoi_layer has no effect without aoi: remove it")

    def time_filter(self) -> dict[str, Any]:
        """Arguments of `SceneFilter` that select by time; SettingsError if a day is malformed."""
        return {
            "start": _day("start", self.start),
            "end": _day("end", self.end),
            "months": tuple(self.months),
            "years": tuple(self.years),
        }


class SceneChoice(SelectionConfig):
    """Sentinel-2 scenes: set exactly one of `scene_ids`, `ids_file`, `tiles` and `aoi`."""

    source: Literal["auto", "cdse", "earth_search", "earth_engine", "cdse_mosaic", "planetary_computer", "eopf"] = (
        Field(
            default="auto",
            description="Catalog to search. auto: by the form of the scene ids; for tiles and areas, CDSE if its "
            "credentials are configured, otherwise Earth Search; CDSE's mosaics if quarters are set.",
        )
    )
    further_sources: list[str] = Field(
        default=[], description="Catalogs to search after source, for tiles and areas; names as in source."
    )
    repeat_acquisitions: bool = Field(
        default=False,
        description="Register scenes whose acquisition is registered from another source, too.",
    )
    tiles: list[str] = Field(default=[], description="MGRS tiles, such as 08WNB.")
    max_cloud_cover: float = Field(default=10.0, description="Percent; 100 disables the filter.")
    max_snow_cover: float = Field(default=10.0, description="Percent; 100 disables the filter.")
    quarters: list[int] = Field(default=[], description="Quarters, 1 to 4: selects mosaics instead of scenes.")
    baseline: str = Field(default="", description="Only this processing baseline, such as 05.10. Default: the newest.")
    earth_engine_collection: str = Field(
        default="COPERNICUS/S2_SR_HARMONIZED", description="Or COPERNICUS/S2_SR; only for Earth Engine."
    )

    @property
    def ways(self) -> tuple[str, ...]:
        """The fields of which exactly one must be set."""
        return ("scene_ids", "ids_file", "tiles", "aoi")

    def check(self) -> str:
        """The name of the field that selects the scenes.

        Raises:
            SettingsError: if none or several are set, or if a filter is invalid.
        """
        given = [name for name in self.ways if getattr(self, name)]
        if len(given) != 1:
            problem = f"{' and '.join(given)} are set" if given else "No scenes selected"
            raise SettingsError(f"{problem}: set exactly one of {', '.join(self.ways)}")
        self.check_layer()
        if unknown := [name for name in self.further_sources if name not in get_args(Provider)]:
            raise SettingsError(f"further_sources {unknown}: expected some of {', '.join(get_args(Provider))}")
        self.as_filter()
        return given[0]

    def as_filter(self) -> "SceneFilter":
        """The filter; SettingsError if a value is invalid."""
        from darts_assets.sources.stac.scene_selection import SceneFilter

        return SceneFilter(
            max_cloud_cover=self.max_cloud_cover,
            max_snow_cover=self.max_snow_cover,
            quarters=tuple(self.quarters),
            baseline=self.baseline or None,
            **self.time_filter(),
        )

    def provider(self, catalogs: SceneCatalogs) -> Provider:
        """The catalog to search for tiles and areas; the reason for an automatic choice is logged."""
        if self.source != "auto":
            return self.source
        provider: Provider
        if self.quarters:
            provider, reason = "cdse_mosaic", "quarters are set"
        else:
            provider, reason = catalogs.default()
        logger.info("source auto: searching %s, because %s", provider, reason)
        return provider


def searches_by_id(scene_ids: Sequence[str], source: str, problems: list[str]) -> "dict[Provider, Selection]":
    """The selection in each catalog, by the form of the ids or as `source` says; malformed ids go to `problems`."""
    from darts_assets.sources.stac.scene_ids import MalformedIdsError, by_provider
    from darts_assets.sources.stac.scene_selection import Selection

    try:
        ids: Any = by_provider(scene_ids)
    except MalformedIdsError as error:
        problems.append(str(error))
        ids = error.understood
    if source != "auto" and ids:
        ids = {source: [scene_id for of_provider in ids.values() for scene_id in of_provider]}
    return {provider: Selection(scene_ids=tuple(of_provider)) for provider, of_provider in ids.items()}


def search_by_place(
    config: SceneChoice, catalogs: SceneCatalogs, access: SourceAccess, problems: list[str]
) -> "dict[Provider, Selection]":
    """The selection by tiles or area in each catalog; malformed tiles go to `problems`.

    Raises:
        SettingsError: if the area cannot be read, or a filter is invalid.
        SceneError: if all tiles are malformed.
    """
    from darts_assets.sources.stac.scene_selection import Selection

    if config.tiles:
        selection = Selection(tiles=_tiles(config.tiles, problems), filter=config.as_filter())
    else:
        selection = Selection(area=read_area(config.aoi, access.options, config.aoi_layer), filter=config.as_filter())
    further = cast("list[Provider]", config.further_sources)  # see `check`
    return dict.fromkeys((config.provider(catalogs), *further), selection)


def search_items(
    searches: "Mapping[Provider, Selection]",
    catalogs: SceneCatalogs,
    earth_engine_collection: str,
    problems: list[str],
    unknown: Counter[str],
) -> Iterator[dict[str, Any]]:
    """The STAC items that match, one catalog after the other; unknown ids and refused searches go to `problems`.

    `unknown` counts the scenes left out because their cloud or snow cover is unknown.

    Raises:
        SourceUnavailableError: if a service does not answer after bounded retries.
        SettingsError, SceneError: if there is only one search and the catalog refuses it.
    """
    from darts_assets.sources.stac.scene_ids import UnknownScenesError

    for provider, selection in searches.items():
        try:
            catalog = catalogs.open(provider, earth_engine_collection)
            yield from catalog.search(selection, _progress(provider), unknown)
        except UnknownScenesError as error:
            problems.append(str(error))
        except SourceUnavailableError:
            raise
        except DartsError as error:
            if len(searches) == 1:
                raise
            problems.append(str(error))


def read_area(href: str, s3: "S3Options", layer: str = "") -> "BaseGeometry":
    """The features of a vector file, or of one of its layers, as one geometry in EPSG:4326, split at the antimeridian.

    Raises:
        SettingsError, SourceUnavailableError: see `read_aoi`.
    """
    from darts_assets.geo.antimeridian import lonlat_area

    area = read_aoi(href, s3, layer)
    logger.info("%s: %d features, %s", shown(href), area.features, area.crs.name)
    return lonlat_area(area.geometry, area.crs)


def read_ids(href: str, store: Store) -> list[str]:
    """The scene ids in a JSON file on a path or on the store's S3.

    Raises:
        SettingsError: if the file does not exist, or is not a JSON list of at least one id.
    """
    folder, name = _id_file("ids_file", href, store)
    try:
        if folder.is_local and not (folder.path / name).is_file():
            raise FileNotFoundError  # opening the folder with obstore would create it
        ids = json.loads(bytes(obstore.get(folder.objects(), name).bytes()))
    except FileNotFoundError:
        raise SettingsError(f"ids_file {href}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"ids_file {href} is not JSON: {error}") from None
    if not (isinstance(ids, list) and ids and all(isinstance(scene_id, str) for scene_id in ids)):
        raise SettingsError(f"ids_file {href}: expected a list of at least one scene id")
    return ids


def write_ids(href: str, scene_ids: Sequence[str], store: Store) -> None:
    """Write scene ids to a JSON file, atomically; SettingsError if `href` is not a usable location."""
    folder, name = _id_file("write_ids", href, store)
    obstore.put(folder.objects(), name, json.dumps(list(scene_ids), indent=0).encode())


def _id_file(field: str, href: str, store: Store) -> tuple[StoreLocation, str]:
    parent, _, name = href.rpartition("/")
    try:
        folder = StoreLocation(parent or ("/" if href.startswith("/") else "."), store.root.endpoint, store.region)
    except StoreError as error:
        raise SettingsError(f"{field}: {error}") from None
    if not name:
        raise SettingsError(f"{field} {href}: expected a file, not a folder")
    return folder, name


def _tiles(texts: Sequence[str], problems: list[str]) -> list[str]:
    """Well-formed tile ids; the others go to `problems`, or raise SceneError if there are no well-formed ones."""
    from darts_assets.sources.stac.scene_ids import tile_ids

    tiles: list[str] = []
    malformed: list[str] = []
    for text in texts:
        try:
            tiles += tile_ids([text])
        except SceneError:
            malformed.append(text)
    try:
        tile_ids(malformed)
    except SceneError as error:
        if not tiles:
            raise
        problems.append(str(error))
    return tiles


def _day(name: str, text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise SettingsError(f"{name} {text!r}: expected a day such as 2023-07-01") from None


def _progress(provider: str) -> Any:
    def progress(received: int, matched: int | None) -> None:
        logger.info("%s: %d%s items received", provider, received, f" of {matched}" if matched is not None else "")

    return progress
