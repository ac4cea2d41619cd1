"""Polygons of vector files as one table, whatever the layout of the file: ids, dates and classes by known columns.

| layout | columns by which it is known | dates |
|---|---|---|
| ARTS | `BaseMapDate`, `TrainClass` | `BaseMapDate`: a day, or a range |
| DARTS database | `year`, `pval_...` | `year` |
| inventory of this package | `site_id`, `year` | `year` |
| label archive | `image_id`, `label` | `image_date`; if it is not a date, the one in `image_id` |
| products of this package | `scene_id`, `datetime` | `datetime` |
| catalog of this package | `id`, `scene`, `datetime` | `datetime` |
| others | | in the name of the layer or file (Runge 2022, Nicu 2021), or none |
"""

import datetime as dt
import logging
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from darts_assets.errors import SettingsError
from darts_assets.geo.antimeridian import crosses_antimeridian
from darts_assets.geo.aoi import check_coordinates, read_layers
from darts_assets.geo.equal_area import EQUAL_AREA, Geometries, polygonal, to_equal_area
from darts_assets.geo.vector_files import SUFFIXES
from darts_assets.remote.byte_reader import is_remote, local_path, shown
from darts_assets.remote.s3_auth import S3Options
from darts_assets.validation.accuracy_parameters import ObjectColumns

logger = logging.getLogger(__name__)

POSITIVE, NEGATIVE, IGNORED = "positive", "negative", "ignored"
"""Kinds of objects: slumps; ground that was inspected and has none; ground about which nothing is known."""

DATE = "datetime64[ms]"
OBJECT_COLUMNS = {"id": "str", "start": DATE, "end": DATE, "kind": "str", "source": "str"}
"""Columns of a table of objects, before `geometry` (EPSG:6931): `start` and `end` are the first and last day of the
imagery, NaT if they are not known; `source` is the file or layer."""

FOOTPRINTS = "ImageFootprints"
"""Begin of the names of files in a label archive with the footprints of the labelled images."""

_STEP = 0.01  # degrees between the points of an edge, which is straight in a geographic CRS; about a kilometre
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_YEARS = re.compile(r"(?<!\d)((?:19|20)\d\d)(?:-((?:19|20)\d\d))?(?!\d)")
_PARTS = re.compile(r"\s*(?:,|;|/|\bto\b)\s*")

Dates = tuple[dt.date, dt.date] | None
"""First and last day, None if they are not known."""


@dataclass(frozen=True)
class Layout:
    """A known layout.

    Attributes:
        name: for messages.
        columns: by which it is known.
        identify: ids of the rows of a table.
        dates: dates of a row, given as a mapping of its columns.
        kind: kind of a row.
    """

    name: str
    columns: tuple[str, ...]
    identify: Callable[[pd.DataFrame], Iterable[Any]]
    dates: Callable[[Any], Dates]
    kind: Callable[[Any], str] = lambda row: POSITIVE

    def fits(self, table: pd.DataFrame) -> bool:
        """Whether a table has all columns; one that ends with `_` stands for all that begin with it."""
        return all(
            any(str(have).startswith(name) for have in table) if name.endswith("_") else name in table
            for name in self.columns
        )


def _of_label(row: Any) -> str:
    """Classes of the label archive: 1 slump, 0 background, 2 ignored."""
    try:
        return {1: POSITIVE, 0: NEGATIVE, 2: IGNORED}[int(row["label"])]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"label is {row['label']!r}, expected 1 (slump), 0 (background) or 2 (ignored)") from None


def _of_train_class(row: Any) -> str:
    name = str(row["TrainClass"]).strip().lower()
    if name not in (POSITIVE, NEGATIVE):
        raise ValueError(f"TrainClass is {row['TrainClass']!r}, expected Positive or Negative")
    return name


def _archive_dates(row: Any) -> Dates:
    try:
        return dates_of(row.get("image_date")) or dates_in_name(str(row["image_id"]))
    except ValueError:
        return dates_in_name(str(row["image_id"]))


def _numbered(table: pd.DataFrame, column: str) -> Iterable[Any]:
    """Ids of a column, row numbers where it is empty or missing."""
    if column not in table:
        return range(len(table))
    return table[column].where(table[column].notna(), pd.Series(range(len(table)), index=table.index))


LAYOUTS = (
    Layout(
        "ARTS", ("BaseMapDate", "TrainClass"), lambda table: _numbered(table, "UID"),
        lambda row: dates_of(row["BaseMapDate"]), _of_train_class,
    ),
    Layout(
        "DARTS database", ("year", "pval_"), lambda table: _numbered(table, "id"), lambda row: dates_of(row["year"])
    ),
    Layout(
        "inventory", ("site_id", "year"), lambda table: _numbered(table, "site_id"), lambda row: dates_of(row["year"])
    ),
    Layout(
        "label archive", ("image_id", "label"),
        lambda table: [f"{image}-{n}" for image, n in zip(table["image_id"], _numbered(table, "id"), strict=True)],
        _archive_dates, _of_label,
    ),
    Layout(
        "products", ("scene_id", "datetime"),
        lambda table: [f"{id_}/{n}" for id_, n in zip(table["scene_id"], _numbered(table, "Region_ID"), strict=True)],
        lambda row: dates_of(row["datetime"]),
    ),
    Layout(
        "catalog", ("id", "scene", "datetime"), lambda table: _numbered(table, "id"),
        lambda row: dates_of(row["datetime"]),
    ),
)  # fmt: skip
"""Known layouts; the first one that fits is used."""


def read_objects(
    href: str, s3: S3Options, columns: ObjectColumns | None = None, layer: str = "", subject: str = "reference"
) -> gpd.GeoDataFrame:
    """The objects of a vector file, or of all vector files in a folder and its subfolders.

    Rows without a polygon are left out, invalid polygons are repaired, and ids that occur twice get a suffix `-2`, each
    with a warning. Footprints of label archives are not read.

    Args:
        href: a path of a file or folder, `http(s)://...` or `s3://bucket/key`.
        s3: access to `s3://`.
        columns: of a file in no known layout; given ones win over the layout.
        layer: name of the layer to read; "" for the only one of each file, or all files of a zip.
        subject: begins the messages; `SUBJECT_layer` is the name of the option in them.

    Returns:
        `OBJECT_COLUMNS` and polygons in EPSG:6931.

    Raises:
        SettingsError: if a file cannot be read, has no CRS or no such layer or column, or values that are neither dates
            nor known classes; with file, column and id.
        SourceUnavailableError: if a service does not answer after bounded retries.
    """
    columns = columns or ObjectColumns()
    layers = [entry for entry in _layers(href, s3, layer, subject) if not Path(entry[0]).name.startswith(FOOTPRINTS)]
    tables = [
        _objects(table, columns, (Path(file).stem, name), f"{subject} {shown(file)}", several=len(layers) > 1)
        for file, name, table in layers
    ]
    return unique_ids(together(tables), f"{subject} {shown(href)}")


def read_areas(href: str, s3: S3Options, region_column: str = "", layer: str = "", subject: str = "extent") -> Any:
    """Areas that were mapped or observed, with dates if the file has them; arguments and errors as `read_objects`.

    In a folder with footprints of a label archive, these are the areas. A column `start`, `end`, `date`, `image_date`,
    `datetime` or `year` gives the dates; without one, the areas apply to all years.

    Returns:
        `region` (of `region_column`, else ""), `start`, `end`, `source` and polygons in EPSG:6931.
    """
    layers = list(_layers(href, s3, layer, subject))
    footprints = [entry for entry in layers if Path(entry[0]).name.startswith(FOOTPRINTS)]
    tables = []
    for file, name, table in footprints or layers:
        what = f"{subject} {shown(file)}"
        if region_column and region_column not in table:
            raise SettingsError(f"{what}: {_no_column(region_column, table)}")
        polygons = _polygons(table, what)
        rows = _records(table.loc[polygons.index])
        dates = [_dated(_area_dates, row, number, what) for number, row in rows]
        regions = [str(row[region_column]) if region_column else "" for _, row in rows]
        tables.append(_table(regions, dates, POSITIVE, name, polygons))
    return together(tables).rename(columns={"id": "region"}).drop(columns="kind")


def together(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """Tables of objects as one, also if there are none."""
    empty = _table([], [], [], "", gpd.GeoSeries([], crs=EQUAL_AREA))
    filled = [table for table in tables if len(table)] or [empty]
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry="geometry", crs=EQUAL_AREA)


def objects_table(
    ids: Iterable[Any], dates: Iterable[Dates], kind: str | Iterable[str], source: str, polygons: gpd.GeoSeries
) -> gpd.GeoDataFrame:
    """A table of objects.

    Args:
        ids: of the objects.
        dates: of the objects.
        kind: of all, or of each.
        source: of all.
        polygons: in any CRS.
    """
    return _table(ids, dates, kind, source, gpd.GeoSeries(_projected(polygons), crs=EQUAL_AREA))


def dates_of(value: Any) -> Dates:
    """First and last day of a value: a date or time, a year, or two of them separated by a comma, `/`, `;` or `to`.

    Raises:
        ValueError: for other values.
    """
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, dt.date):  # also datetime and Timestamp
        day = dt.date(value.year, value.month, value.day)
        return day, day
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    if not text:
        return None
    parts = _PARTS.split(text)
    if re.fullmatch(r"\d{4}/\d\d?/\d\d?", text):
        parts = [text.replace("/", "-")]
    spans = [_span(part) for part in parts]
    start, end = min(first for first, _ in spans), max(last for _, last in spans)
    return start, end


def dates_in_name(name: str) -> Dates:
    """The day, the year or the range of years in the name of a file, layer or image; None if there is none, or several.

    `5171017_2016-07-18_RE5`, `20200722_081437_1032` and `thaw_slumps_2009-2011` have one.
    """
    days = {match.groups() for match in _DAY.finditer(name)}
    if len(days) == 1:
        (day,) = days
        try:
            one = dt.date(*map(int, day))
        except ValueError:
            return None
        return one, one
    years = {match.groups() for match in _YEARS.finditer(name)} if not days else set()
    if len(years) != 1:
        return None
    ((first, last),) = years
    return dt.date(int(first), 1, 1), dt.date(int(last or first), 12, 31)


def unique_ids(table: gpd.GeoDataFrame, subject: str) -> gpd.GeoDataFrame:
    """The table with suffixes `-2`, `-3` at ids that occur again, and a warning with their number."""
    again = table.groupby("id").cumcount()
    if (again > 0).any():
        first = table.loc[again > 0, "id"].iloc[0]
        logger.warning(
            "%s: %d rows repeat an id, such as %s; a suffix distinguishes them", subject, (again > 0).sum(), first
        )
        suffix = np.where(again > 0, "-" + (again + 1).astype(str), "")
        table = table.assign(id=table["id"] + suffix)
    return table


def _span(text: str) -> tuple[dt.date, dt.date]:
    if re.fullmatch(r"(19|20)\d\d", text):
        return dt.date(int(text), 1, 1), dt.date(int(text), 12, 31)
    try:
        if match := re.fullmatch(r"(\d{4})-(\d\d?)", text):
            first = dt.date(int(match[1]), int(match[2]), 1)
            following = (first + dt.timedelta(days=31)).replace(day=1)
            return first, following - dt.timedelta(days=1)
        if not re.match(r"(19|20)\d\d-?\d\d?-?\d\d?($|[T ])", text):
            raise ValueError(text)
        day = pd.Timestamp(text).date()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a date; expected YYYY-MM-DD, YYYY-MM or YYYY, or two of them") from error
    return day, day


def _layers(href: str, s3: S3Options, layer: str, subject: str) -> Iterator[tuple[str, str, gpd.GeoDataFrame]]:
    """File, name and table of each layer."""
    folder = None if is_remote(href) else local_path(href).expanduser()
    if folder is not None and folder.is_dir():
        files = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise SettingsError(f"{subject} {shown(href)}: the folder has no file with one of {', '.join(SUFFIXES)}")
    else:
        files = [href]
    matched = False
    for file in files:
        layers = read_layers(file, s3, f"{subject} {shown(file)}")
        if len(layers) > 1 and not layer and not file.lower().endswith(".zip"):
            raise SettingsError(
                f"{subject} {shown(file)} has the layers {', '.join(layers)}: choose one with {subject}_layer"
            )
        for name, table in layers.items():
            if not layer or layer == name:
                matched = True
                yield file, name, table
        if layer and not matched and len(files) == 1:
            raise SettingsError(f"{subject} {shown(file)} has no layer {layer!r}; it has {', '.join(layers)}")
    if not matched:
        raise SettingsError(f"{subject} {shown(href)}: none of its {len(files)} files has a layer {layer!r}")


def _objects(
    table: gpd.GeoDataFrame, columns: ObjectColumns, names: tuple[str, str], subject: str, *, several: bool
) -> gpd.GeoDataFrame:
    """The objects of one layer; `names` are those of the file and the layer."""
    for column in (columns.id_column, columns.start_column, columns.end_column, columns.class_column):
        if column and len(table) and column not in table:
            raise SettingsError(f"{subject}: {_no_column(column, table)}")
    polygons = _polygons(table, subject)
    rows = table.loc[polygons.index]
    layout = next((each for each in LAYOUTS if each.fits(rows)), None) or _in_name(rows, names, several)
    ids = rows[columns.id_column] if columns.id_column and len(rows) else layout.identify(rows)
    records = _records(rows)
    dates_of_row = _given_dates(columns) if columns.start_column else layout.dates
    kind_of_row = _given_kinds(columns) if columns.class_column else layout.kind
    dates = [_dated(dates_of_row, row, number, subject) for number, row in records]
    kinds = [_dated(kind_of_row, row, number, subject) for number, row in records]
    known = sum(each is not None for each in dates)
    logger.info("%s: %d objects, layout %s, %d of them dated", subject, len(rows), layout.name, known)
    return _table(ids, dates, kinds, names[1], polygons)


def _in_name(rows: pd.DataFrame, names: tuple[str, str], several: bool) -> Layout:
    """The layout of outlines without dates, whose file or layer may have one in its name; ids of several layers repeat.

    Runge's `label` is 1 for slumps.
    """
    file, layer = names
    dates = dates_in_name(layer) or dates_in_name(file)
    kind = _of_label if "label" in rows else (lambda row: POSITIVE)
    named = (
        f"of outlines without dates (in the name: {dates[0]} to {dates[1]})" if dates else "of outlines without dates"
    )
    begin = f"{layer}-" if several else ""
    return Layout(
        named,
        (),
        lambda table: [f"{begin}{_plain(number)}" for number in _numbered(table, "id")],
        lambda row: dates,
        kind,
    )


def _given_dates(columns: ObjectColumns) -> Callable[[Any], Dates]:
    def dates(row: Any) -> Dates:
        first = dates_of(row[columns.start_column])
        last = dates_of(row[columns.end_column]) if columns.end_column else first
        given = [each for each in (first, last) if each is not None]
        if not given:
            return None
        if given[0][0] > given[-1][1]:
            raise ValueError(f"{columns.start_column} is after {columns.end_column}")
        return given[0][0], given[-1][1]

    return dates


def _given_kinds(columns: ObjectColumns) -> Callable[[Any], str]:
    positive, ignored = ({name.strip().lower() for name in names} for names in (columns.positive, columns.ignored))

    def kind(row: Any) -> str:
        value = row[columns.class_column]
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip().lower()
        return POSITIVE if text in positive else IGNORED if text in ignored else NEGATIVE

    return kind


def _area_dates(row: Any) -> Dates:
    first = next((row[name] for name in ("start", "date", "image_date", "datetime", "year") if name in row), None)
    last = row.get("end")
    try:
        both = [each for each in (dates_of(first), dates_of(last)) if each is not None]
    except ValueError:
        if "image_id" in row and (dates := dates_in_name(str(row["image_id"]))):
            return dates
        raise
    return (both[0][0], both[-1][1]) if both else None


def _dated(function: Callable[[Any], Any], row: Any, number: Hashable, subject: str) -> Any:
    """The result for a row; its ValueError as SettingsError with the number of the feature, from 1."""
    try:
        return function(row)
    except ValueError as error:
        raise SettingsError(f"{subject}: feature {number}: {error}") from None


def _records(rows: pd.DataFrame) -> list[tuple[int, Any]]:
    """Number from 1 and columns of each row."""
    plain = pd.DataFrame(rows.drop(columns="geometry", errors="ignore"))
    return [(int(at) + 1, row) for at, row in zip(plain.index, plain.to_dict("records"), strict=True)]


def _polygons(table: gpd.GeoDataFrame, subject: str) -> gpd.GeoSeries:
    """The polygons of a table in `EQUAL_AREA`, with the numbers of their rows from 0."""
    geometry = getattr(table, "geometry", None)
    if geometry is None:
        raise SettingsError(f"{subject} has no geometries; polygons were expected")
    table.index = pd.RangeIndex(len(table))
    shapes = table.geometry[table.geometry.notna() & ~table.geometry.is_empty]
    kept = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
    if len(kept) < len(table):
        logger.warning(
            "%s: %d of %d features have no polygon and are left out", subject, len(table) - len(kept), len(table)
        )
    if not len(kept):
        return gpd.GeoSeries([], crs=EQUAL_AREA, index=kept.index)
    check_coordinates(kept.set_axis(kept.index + 1), table.crs, subject)
    if invalid := int((~kept.is_valid).sum()):
        logger.warning("%s: %d invalid polygons are repaired", subject, invalid)
    return gpd.GeoSeries(_projected(kept), index=kept.index, crs=EQUAL_AREA)


def _projected(shapes: gpd.GeoSeries) -> Geometries:
    flat = shapely.force_2d(shapely.make_valid(shapes.to_numpy()))
    mixed = shapely.get_type_id(flat) == shapely.GeometryType.GEOMETRYCOLLECTION
    flat[mixed] = [polygonal(shape) for shape in flat[mixed]]
    if CRS.from_user_input(shapes.crs).is_geographic:
        crossing = [any(crosses_antimeridian(part) for part in shapely.get_parts(shape)) for shape in flat]
        if any(crossing):
            flat = np.where(crossing, shapely.transform(flat, _continued), flat)
        flat = shapely.segmentize(flat, _STEP)
    return to_equal_area(gpd.GeoDataFrame(geometry=flat, crs=shapes.crs))


def _continued(points: Any) -> Any:
    return np.stack([np.where(points[:, 0] < 0, points[:, 0] + 360, points[:, 0]), points[:, 1]], axis=1)


def _table(
    ids: Iterable[Any], dates: Iterable[Dates], kind: str | Iterable[str], source: str, polygons: gpd.GeoSeries
) -> gpd.GeoDataFrame:
    days = list(dates)
    columns = {
        "id": [_plain(name) for name in ids],
        "start": [pd.Timestamp(each[0]) if each else pd.NaT for each in days],
        "end": [pd.Timestamp(each[1]) if each else pd.NaT for each in days],
        "kind": kind if isinstance(kind, str) else list(kind),
        "source": source,
    }
    table = pd.DataFrame(columns, index=range(len(polygons))).astype(OBJECT_COLUMNS)
    return gpd.GeoDataFrame(table, geometry=polygons.to_numpy(), crs=EQUAL_AREA)


def _plain(name: Any) -> str:
    """An id as text; numbers of a column with gaps are floats."""
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


def _no_column(column: str, table: pd.DataFrame) -> str:
    return f"there is no column {column!r}; columns are {', '.join(map(str, table.columns))}"
