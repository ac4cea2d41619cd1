"""Tables of vector files, in a few formats.

GDAL opens dozens of formats. Some refer to other files, URLs or programs (OGR-VRT, GDALG, WFS, a GeoJSON whose CRS is a
link), and pyogrio cannot restrict the drivers. Here the first bytes decide, never the name: binary formats, which no
other driver claims, are left to pyogrio; GeoJSON, a text that other drivers might claim, is parsed without GDAL.
"""

import json
import logging
import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import geopandas as gpd

logger = logging.getLogger(__name__)

FORMATS = "GeoPackage, GeoJSON, Shapefile (also zipped), FlatGeobuf or GeoParquet"

MAX_TEXT_BYTES = 256 * 2**20
MAX_TABLE_BYTES = 2 * 2**30
MAX_FEATURES = 5_000_000

SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet")
"""Suffixes of the vector files in a zip or a folder; of a single file the first bytes decide."""

_DRIVERS = {"GPKG", "ESRI Shapefile", "FlatGeobuf"}
_GEOPACKAGE, _GEOPACKAGE_IDS = b"SQLite format 3\0", {b"GPKG", b"GP10", b"GP11"}
_GEOPACKAGE_ID_AT = 68
_SHAPEFILE, _FLATGEOBUF, _PARQUET, _ZIP = b"\0\0\x27\x0a", b"fgb\x03fgb", b"PAR1", b"PK\x03\x04"
_CRS_NAME = re.compile(r"(urn:ogc:def:crs:)?(EPSG|OGC|ESRI)(:{1,2}|:[\w.]+:)[A-Za-z\d]{1,12}", re.IGNORECASE)

Box = tuple[float, float, float, float]


def read_vector(path: Path, *, lonlat_box: Box | None = None) -> "gpd.GeoDataFrame":
    """The table of a file, the first with a warning if there are several; see `vector_layers`."""
    tables = vector_layers(path, lonlat_box=lonlat_box)
    name, table = next(tables)
    if others := [other for other, _ in tables]:
        logger.warning("%s: its first layer, %s, is read; it also has %s", path, name, ", ".join(others))
    return table


def vector_layers(path: Path, *, lonlat_box: Box | None = None) -> Iterator[tuple[str, "gpd.GeoDataFrame"]]:
    """The layers with geometries of a file, as name and table; at least one.

    Args:
        path: a file in one of `FORMATS`, whatever its suffix. All vector files in a zip are read.
        lonlat_box: west, south, east and north; rows elsewhere may be left out if the CRS is geographic.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it has another format, is damaged or too large, or has coordinates that are not finite.
    """
    with path.open("rb") as file:
        head = file.read(128)
    if head.startswith(_ZIP):
        yield from _zipped(path, lonlat_box)
    elif head.startswith((_SHAPEFILE, _FLATGEOBUF, _GEOPACKAGE)):
        yield from _by_gdal(path, head, lonlat_box)
    elif head.startswith(_PARQUET):
        yield path.stem, _checked(_parquet(path), lonlat_box)
    elif head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        yield path.stem, _checked(_geojson(path), lonlat_box)
    else:
        raise ValueError(f"its format is none of {FORMATS}")


def _zipped(path: Path, box: Box | None) -> Iterator[tuple[str, "gpd.GeoDataFrame"]]:
    """The layers of the files in a zip, which GDAL and Python might read differently: Python's reading counts."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in members) > MAX_TABLE_BYTES:
                _refuse_size(MAX_TABLE_BYTES)
            files = []
            for number, info in enumerate(members):
                parent = str(Path(info.filename).parent)
                target = Path(folder, re.sub(r"\W", "_", parent), Path(info.filename).name or str(number))
                target.parent.mkdir(exist_ok=True)
                with archive.open(info) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                files.append(target)
            vectors = [file for file in files if file.suffix.lower() in SUFFIXES]
            if not vectors:
                raise ValueError(f"it contains no file with one of {', '.join(SUFFIXES)}")
            for file in vectors:
                yield from vector_layers(file, lonlat_box=box)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is a damaged or encrypted zip: {error}") from error


def _by_gdal(path: Path, head: bytes, box: Box | None) -> Iterator[tuple[str, "gpd.GeoDataFrame"]]:
    import geopandas as gpd
    import pyogrio
    from pyogrio.util import vsi_path
    from pyproj import CRS

    if vsi_path(str(path)) != str(path):
        raise ValueError("its name has the form of an archive or a URL; rename it")
    if head.startswith(_GEOPACKAGE):
        _check_geopackage(path, head)
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        for layer in layers:
            info = pyogrio.read_info(path, layer=layer, force_feature_count=True)
            if info["driver"] not in _DRIVERS:
                raise ValueError(f"GDAL takes it for {info['driver']}, expected {FORMATS}")
            if info["features"] > MAX_FEATURES:
                _refuse_features(info["features"])
            is_geographic = info["crs"] and CRS.from_user_input(info["crs"]).is_geographic
            table = gpd.read_file(path, layer=layer, bbox=box if is_geographic else None, engine="pyogrio")
            yield layer, _checked(table, None)
    except (OSError, ValueError):
        raise
    # The errors of pyogrio and pyproj have no common base.
    except Exception as error:
        raise ValueError(str(error)) from error
    if not layers:
        raise ValueError("it has no layer with geometries")


def _check_geopackage(path: Path, head: bytes) -> None:
    """Refuse other SQLite databases, which may refer to files, and layers that are computed, perhaps without end."""
    if head[_GEOPACKAGE_ID_AT:][:4] not in _GEOPACKAGE_IDS:
        raise ValueError(f"it is a SQLite database but no GeoPackage; expected {FORMATS}")
    query = "SELECT c.table_name FROM gpkg_contents c JOIN sqlite_master m ON lower(m.name) = lower(c.table_name) "
    query += "WHERE m.type != 'table' OR m.sql NOT LIKE 'create table%'"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            computed = database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"it is a damaged GeoPackage: {error}") from error
    if computed:
        raise ValueError(f"its layer {computed[0][0]} is a view; layers must be tables")


def _parquet(path: Path) -> "gpd.GeoDataFrame":
    import geopandas as gpd
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            facts = file.metadata
            if facts.num_rows > MAX_FEATURES:
                _refuse_features(facts.num_rows)
            if sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups)) > MAX_TABLE_BYTES:
                _refuse_size(MAX_TABLE_BYTES)
        return gpd.read_parquet(path)
    except (OSError, ValueError):
        raise
    # The errors of pyarrow, pyproj and shapely have no common base.
    except Exception as error:
        raise ValueError(f"it is not GeoParquet, or damaged: {error}") from error


def _geojson(path: Path) -> "gpd.GeoDataFrame":
    import geopandas as gpd

    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"GeoJSON of more than {MAX_TEXT_BYTES >> 20} MiB is not read; convert it to a GeoPackage")
    try:
        with path.open(encoding="utf-8-sig") as file:
            document = json.load(file, parse_constant=_refuse_constant)
        kind = document.get("type")
        if kind == "FeatureCollection":
            features = document["features"]
        else:
            features = [document if kind == "Feature" else {"type": "Feature", "geometry": document, "properties": {}}]
        return gpd.GeoDataFrame.from_features(
            [{**feature, "properties": feature.get("properties") or {}} for feature in features], crs=_crs(document)
        )
    # A malformed document can raise anything: RecursionError, the errors of shapely, TypeError, ...
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"it is not GeoJSON: {reason}") from error


def _crs(document: dict[str, Any]) -> str:
    """The CRS of a GeoJSON document, EPSG:4326 unless it names another; a link to a CRS is not followed."""
    crs = document.get("crs")
    if crs is None:
        return "EPSG:4326"
    name = (crs.get("properties") or {}).get("name")
    if crs.get("type") != "name" or not isinstance(name, str) or not _CRS_NAME.fullmatch(name):
        raise ValueError(f"its CRS is {crs}; a name such as urn:ogc:def:crs:EPSG::3413 was expected")
    return "EPSG:4326" if name.upper().endswith("CRS84") else name


def _checked(table: "gpd.GeoDataFrame", box: Box | None) -> "gpd.GeoDataFrame":
    """The table, or its rows in the box; its coordinates must be finite."""
    import numpy as np
    import shapely

    geometry = getattr(table, "geometry", None)
    if geometry is None:
        return table
    shapes = geometry.to_numpy()
    points, feature = shapely.get_coordinates(shapes, return_index=True)
    if len(wrong := feature[~np.isfinite(points).all(axis=1)]):
        raise ValueError(f"feature {wrong[0] + 1} has coordinates that are not finite")
    if box is None or table.crs is None or not table.crs.is_geographic:
        return table
    return table[geometry.intersects(shapely.box(*box)) | geometry.isna()]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _refuse_size(most: int) -> NoReturn:
    raise ValueError(f"it holds more than {most >> 30} GiB")


def _refuse_features(count: int) -> NoReturn:
    raise ValueError(f"it has {count} features, more than {MAX_FEATURES}")
