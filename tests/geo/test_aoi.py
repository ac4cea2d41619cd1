"""Areas of interest, as users have them."""

import logging
import zipfile
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import SettingsError
from darts_assets.geo.aoi import read_aoi
from darts_assets.sources import S3Options
from tests.servers.network.file_server import serve_folder

S3 = S3Options()
BOX = shapely.box(-139, 69, -138, 69.5)
BOWTIE = shapely.Polygon([(0, 70), (1, 71), (1, 70), (0, 71)])


def written(path: Path, shapes: list[shapely.Geometry | None], crs: str | None = "EPSG:4326") -> str:
    table = gpd.GeoDataFrame({"name": range(len(shapes))}, geometry=shapes, crs=crs)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return str(path)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.parquet"])
def test_any_format(tmp_path: Path, name: str) -> None:
    area = read_aoi(written(tmp_path / name, [BOX]), S3)
    assert area.geometry.equals_exact(BOX.normalize(), 1e-9) or area.geometry.symmetric_difference(BOX).area < 1e-9
    assert area.crs.to_epsg() == 4326
    assert area.features == 1


def test_many_parts_in_any_crs(tmp_path: Path) -> None:
    shapes = [shapely.MultiPolygon([BOX, shapely.box(10, 70, 11, 71)]), shapely.box(10.5, 70, 12, 71), None]
    polar = gpd.GeoDataFrame(geometry=shapes, crs="EPSG:4326").to_crs(3413)
    polar.to_file(tmp_path / "a.gpkg")
    area = read_aoi(str(tmp_path / "a.gpkg"), S3)
    assert area.crs.to_epsg() == 3413
    assert area.features == 3
    assert len(shapely.get_parts(area.geometry)) == 2, "what overlaps is one part"
    assert area.geometry.area == pytest.approx(shapely.union_all(polar.geometry.dropna().to_numpy()).area)


def test_third_dimensions_and_points_are_fine(tmp_path: Path) -> None:
    shapes = [shapely.Point(10, 70, 500), shapely.LineString([(10, 70, 1), (11, 70, 2)])]
    area = read_aoi(written(tmp_path / "a.geojson", shapes), S3)
    assert not area.geometry.has_z
    assert area.geometry.bounds == (10, 70, 11, 70)


def test_invalid_geometries_are_repaired_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "darts_assets"):
        area = read_aoi(written(tmp_path / "a.gpkg", [BOWTIE, BOX]), S3)
    assert area.geometry.is_valid
    assert area.geometry.area == pytest.approx(0.5 + BOX.area)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "a.gpkg: 1 invalid geometries repaired" in said
    assert "Self-intersection" in said


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (shapely.Polygon([(179, 70), (-179, 70), (-179, 71), (179, 71)]), shapely.box(179, 70, 181, 71)),
        (
            shapely.Polygon(
                [(170, 70), (-170, 70), (-170, 72), (170, 72)],
                [[(175, 70.5), (-175, 70.5), (-175, 71.5), (175, 71.5)]],
            ),
            shapely.box(170, 70, 190, 72).difference(shapely.box(175, 70.5, 185, 71.5)),
        ),
        (shapely.LineString([(179, 70), (-179, 71)]), shapely.LineString([(179, 70), (181, 71)])),
    ],
)
def test_short_ways_across_the_antimeridian(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: shapely.Geometry, expected: shapely.Geometry
) -> None:
    with caplog.at_level(logging.WARNING, "darts_assets"):
        area = read_aoi(written(tmp_path / "a.gpkg", [shape]), S3)
    assert area.geometry.equals(expected)
    assert "assumed to cross the antimeridian" in caplog.text


@pytest.mark.parametrize("shape", [shapely.box(-180, 60, 180, 90), shapely.box(179, 70, 181, 71), BOX])
def test_other_areas_stay_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: shapely.Geometry
) -> None:
    with caplog.at_level(logging.WARNING, "darts_assets"):
        assert read_aoi(written(tmp_path / "a.gpkg", [shape]), S3).geometry.equals(shape)
    assert not caplog.records


def test_what_cannot_be_used_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.gpkg: there is no such file"):
        read_aoi(str(tmp_path / "nowhere.gpkg"), S3)
    for name in ("text.gpkg", "text.parquet", "text.geojson"):
        (tmp_path / name).write_text("no area")
        with pytest.raises(SettingsError, match=rf"{name} cannot be read as a vector file"):
            read_aoi(str(tmp_path / name), S3)
    with pytest.raises(SettingsError, match=r"placeless\.gpkg has no CRS"):
        read_aoi(written(tmp_path / "placeless.gpkg", [BOX], crs=None), S3)
    with pytest.raises(SettingsError, match=r"empty\.gpkg has 0 features and no geometry"):
        read_aoi(written(tmp_path / "empty.gpkg", []), S3)
    with pytest.raises(SettingsError, match=r"null\.gpkg has 1 features and no geometry"):
        read_aoi(written(tmp_path / "null.gpkg", [None]), S3)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"table\.csv"):
        read_aoi(str(tmp_path / "table.csv"), S3)


def layered(path: Path, **layers: tuple[shapely.Geometry, int]) -> str:
    for name, (shape, epsg) in layers.items():
        gpd.GeoDataFrame(geometry=[shape], crs=4326).to_crs(epsg).to_file(path, layer=name)
    return str(path)


def test_all_layers_are_read_or_the_chosen_one(tmp_path: Path) -> None:
    other = shapely.box(10, 70, 11, 71)
    path = layered(tmp_path / "a.gpkg", first=(BOX, 4326), second=(other, 4326))
    area = read_aoi(path, S3)
    assert area.geometry.equals(BOX | other)
    assert area.features == 2
    assert read_aoi(path, S3, "second").geometry.equals(other)
    with pytest.raises(
        SettingsError, match=r"a\.gpkg has no layer 'third'; it has first, second: set aoi_layer to one"
    ):
        read_aoi(path, S3, "third")


def test_layers_with_different_crss(tmp_path: Path) -> None:
    path = layered(tmp_path / "a.gpkg", first=(BOX, 4326), polar=(BOX, 3413))
    with pytest.raises(
        SettingsError, match=r"different CRSs, first \(WGS 84\), polar \(.*Polar.*\): choose one .*aoi_lay"
    ):
        read_aoi(path, S3)
    assert read_aoi(path, S3, "polar").crs.to_epsg() == 3413


def test_files_of_a_zip_may_have_the_same_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, shape in enumerate((BOX, shapely.box(10, 70, 11, 71))):
            archive.write(written(tmp_path / "area.geojson", [shape]), f"{number}/area.geojson")
    assert len(shapely.get_parts(read_aoi(str(tmp_path / "a.zip"), S3).geometry)) == 2


SWAPPED, METRES = shapely.box(68.47, -137.41, 68.49, -137.38), shapely.box(399960, 7_590_000, 403800, 7_600_020)


@pytest.mark.parametrize(
    ("shapes", "crs", "message"),
    [
        ([SWAPPED], 4326, r"a\.gpkg: feature 1 has latitude -137\.\d+, outside -90\.\.90\. Are longitude and lat"),
        ([BOX, None, SWAPPED], 4326, r"a\.gpkg: feature 3 has latitude -137"),
        ([BOX, METRES], 4326, r"feature 2 has coordinates such as 403800, 7590000, apparently metres, but the CRS WGS"),
        ([METRES], None, r"a\.gpkg has coordinates such as 403800, 7590000, apparently metres, and no CRS; store it"),
        ([SWAPPED], None, r"a\.gpkg has no CRS; store it in the file"),
        ([shapely.Point(400, 50)], 4326, r"feature 1 has coordinates such as 400, 50, apparently metres"),
    ],
)  # fmt: skip
def test_coordinates_out_of_range(
    tmp_path: Path, shapes: list[shapely.Geometry | None], crs: str | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        read_aoi(written(tmp_path / "a.gpkg", shapes, crs), S3)


def test_the_layer_with_coordinates_out_of_range(tmp_path: Path) -> None:
    path = layered(tmp_path / "a.gpkg", first=(BOX, 4326), second=(SWAPPED, 4326))
    with pytest.raises(SettingsError, match=r"a\.gpkg, layer second: feature 1 has latitude"):
        read_aoi(path, S3)
    assert read_aoi(path, S3, "first").geometry.equals(BOX)


def test_no_part_of_nested_collections_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    across = shapely.Polygon([(179, 70), (-179, 70), (-179, 71), (179, 71)])
    inner = shapely.GeometryCollection([shapely.MultiPolygon([BOX, across]), shapely.Point(10, 60)])
    path = written(tmp_path / "a.geojson", [shapely.GeometryCollection([shapely.GeometryCollection([inner])]), None])
    with caplog.at_level(logging.WARNING, "darts_assets"):
        area = read_aoi(path, S3).geometry
    expected = shapely.union_all([BOX, shapely.box(179, 70, 181, 71), shapely.Point(10, 60)])
    assert area.equals(expected)
    assert "a.geojson: 1 of 2 features have no geometry" in caplog.text


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.parquet"])
def test_areas_behind_a_url(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, [BOX])
    with serve_folder(tmp_path) as url:
        assert read_aoi(f"{url}/{name}", S3).geometry.symmetric_difference(BOX).area < 1e-9
        with pytest.raises(SettingsError, match=r"other\.gpkg: there is no such file"):
            read_aoi(f"{url}/other.gpkg", S3)
