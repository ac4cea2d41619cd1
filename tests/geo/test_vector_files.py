"""Vector files of others: what is read, and what would read something else."""

import json
import logging
import socket
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from darts_assets.geo import vector_files
from darts_assets.geo.vector_files import read_vector, vector_layers
from tests.servers.network.file_server import serve_folder

BOX = shapely.box(-139, 69, -138, 69.5)
SECRET = "secret of another folder"


def written(path: Path, crs: int = 4326, layer: str | None = None) -> Path:
    table = gpd.GeoDataFrame({"name": [SECRET]}, geometry=[BOX], crs=4326).to_crs(crs)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path, layer=layer)
    return path


@pytest.mark.parametrize("crs", [4326, 3413])
@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.parquet"])
def test_formats_whatever_the_suffix(tmp_path: Path, name: str, crs: int) -> None:
    written(tmp_path / name, crs)
    path = tmp_path / name if name == "a.shp" else (tmp_path / name).rename(tmp_path / "a.gpkg")
    table = read_vector(path)
    assert table.crs.to_epsg() == crs
    assert list(table["name"]) == [SECRET]
    assert table.to_crs(4326).geometry[0].symmetric_difference(BOX).area < 1e-9


def test_all_files_of_a_zip(tmp_path: Path) -> None:
    written(tmp_path / "a.shp")
    written(tmp_path / "b.geojson")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for path in (*tmp_path.glob("a.*"), tmp_path / "b.geojson"):
            archive.write(path, f"folder/{path.name}")
    assert sorted(name for name, _ in vector_layers(tmp_path / "both.zip")) == ["a", "b"]


def test_other_layers_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for layer in ("first", "second"):
        written(tmp_path / "a.gpkg", layer=layer)
    assert [name for name, _ in vector_layers(tmp_path / "a.gpkg")] == ["first", "second"]
    with caplog.at_level(logging.WARNING, "darts_assets"):
        read_vector(tmp_path / "a.gpkg")
    assert "its first layer, first, is read; it also has second" in caplog.text


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.parquet"])
def test_rows_of_a_box(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    assert len(read_vector(path, lonlat_box=(-180, 69.2, 180, 80))) == 1
    assert len(read_vector(path, lonlat_box=(-180, 10, 180, 20))) == 0


VRT = '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{other}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
WFS = "<OGRWFSDataSource><URL>{url}/other</URL></OGRWFSDataSource>"
ENTITY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file://{other}">]><gml:FeatureCollection>&e;</gml:FeatureCollection>'
GDALG = json.dumps({"type": "gdal_streamed_alg", "command_line": "gdal vector reproject {other} --dst-crs EPSG:4326"})
LINK = json.dumps(
    {"type": "FeatureCollection", "features": [], "crs": {"type": "link", "properties": {"href": "{url}/other"}}}
)


@pytest.mark.parametrize("suffix", [".gpkg", ".vrt", ".geojson", ".xml", ".gdalg.json"])
@pytest.mark.parametrize("text", [VRT, WFS, ENTITY, GDALG, LINK], ids=["vrt", "wfs", "gml", "gdalg", "crs link"])
def test_files_and_urls_behind_a_file_are_not_read(tmp_path: Path, text: str, suffix: str) -> None:
    other = written(tmp_path / "other.gpkg")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (path := tmp_path / f"a{suffix}").write_text(text.replace("{other}", str(other)).replace("{url}", url))
        with pytest.raises(ValueError, match=r"its format is none of GeoPackage|it is not GeoJSON") as error:
            read_vector(path)
        assert SECRET not in str(error.value)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_url_is_not_a_file(tmp_path: Path) -> None:
    written(tmp_path / "a.gpkg")
    with serve_folder(tmp_path) as url, pytest.raises(FileNotFoundError):
        read_vector(Path(f"/vsicurl/{url}/a.gpkg"))


def test_a_geopackage_that_is_also_a_zip(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg").rename(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.vrt", VRT.replace("{other}", str(written(tmp_path / "other.gpkg"))))
    with pytest.raises(ValueError, match="the form of an archive"):
        read_vector(path)


def endless(path: Path) -> None:
    written(path, layer="areas")
    with sqlite3.connect(path) as database:
        database.executescript("""
            CREATE VIEW endless AS WITH RECURSIVE n(fid) AS (SELECT 1 UNION ALL SELECT fid + 1 FROM n)
                SELECT n.fid, areas.geom FROM n, areas;
            INSERT INTO gpkg_contents(table_name, data_type, identifier, srs_id)
                VALUES ('endless', 'features', 'e', 4326);
            INSERT INTO gpkg_geometry_columns VALUES ('endless', 'geom', 'POLYGON', 4326, 0, 0);
        """)


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE a (b)")


def inside(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (endless, "its layer endless is a view"),
        (database, "SQLite database but no GeoPackage"),
        (inside('{"type": "Point", "coordinates": [1, NaN]}'), "NaN is not a number in JSON"),
        (inside('{"type": "Point", "coordinates": [1, 1e999]}'), "feature 1 has coordinates that are not finite"),
        (inside('{"a":' * 100_000), "nested too deeply"),
        (inside('{"type": "FeatureCollection", "features": [3]}'), "not GeoJSON"),
        (inside('{"type": "Point", "coordinates": [1, 2], "crs": {"type": "name"}}'), "urn:ogc:def:crs:EPSG::3413 was"),
        (inside(""), "its format is none of GeoPackage, GeoJSON"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and nothing else"), "damaged or encrypted zip"),
        (lambda path: path.write_bytes(b"PAR1 and nothing else PAR1"), "Parquet|Thrift|footer"),
    ],
)
def test_damaged_and_hostile_files(tmp_path: Path, write: Callable[[Path], object], problem: str) -> None:
    write(tmp_path / "a.gpkg")
    with pytest.raises(ValueError, match=problem):
        read_vector(tmp_path / "a.gpkg")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "MAX_FEATURES", 0)
    for name in ("a.gpkg", "a.parquet"):
        with pytest.raises(ValueError, match="it has 1 features, more than 0"):
            read_vector(written(tmp_path / name))
    monkeypatch.setattr(vector_files, "MAX_TEXT_BYTES", 10)
    with pytest.raises(ValueError, match="convert it to a GeoPackage"):
        read_vector(written(tmp_path / "a.geojson"))
    monkeypatch.setattr(vector_files, "MAX_TABLE_BYTES", 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.geojson")
    with pytest.raises(ValueError, match="it holds more than"):
        read_vector(tmp_path / "a.zip")
