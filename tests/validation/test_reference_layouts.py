"""Layouts of references: real files, known columns, explicit columns, dates in names, and unusable values."""

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from pyproj import Geod

from darts_assets.errors import SettingsError
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.remote.s3_auth import S3Options
from darts_assets.validation.accuracy_parameters import ObjectColumns
from darts_assets.validation.reference_layouts import dates_in_name, dates_of, read_areas, read_objects

SQUARES = [shapely.box(-135 + x, 68, -134.99 + x, 68.005) for x in (0, 0.02, 0.04)]


def read(path: Path, layer: str = "", **columns: Any) -> gpd.GeoDataFrame:
    return read_objects(str(path), S3Options(), ObjectColumns(**columns), layer)


def file(folder: Path, columns: dict[str, list[Any]], name: str = "reference.gpkg", crs: str = "EPSG:4326") -> Path:
    """A file with as many squares as the columns have rows."""
    count = len(next(iter(columns.values())))
    path = folder / name
    gpd.GeoDataFrame(columns, geometry=SQUARES[:count], crs=crs).to_file(path)
    return path


def days(table: gpd.GeoDataFrame) -> list[tuple[str, str]]:
    return [(str(start)[:10], str(end)[:10]) for start, end in zip(table["start"], table["end"], strict=True)]


def test_arts(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        table = read(shared / "data/arts_curated/ARTS_main_dataset_v.5.0.0.geojson")
    assert len(table) == 2276
    assert (table.crs, set(table["kind"]), table["id"].is_unique) == ("EPSG:6931", {"positive"}, True)
    assert set(days(table)) == {
        ("2018-01-01", "2021-01-01"),
        ("2017-01-01", "2017-12-31"),
        ("2020-07-05", "2020-08-20"),
        ("2020-07-07", "2020-08-09"),
        ("2011-01-01", "2017-01-01"),
    }
    assert table.geometry.is_valid.all()
    assert "layout ARTS" in caplog.text
    assert "3 invalid polygons are repaired" in caplog.text
    assert "43 rows repeat an id" in caplog.text


def test_runge_has_the_date_in_the_name_of_each_file(shared: Path) -> None:
    table = read(shared / "data/arts_curated/Runge2022/Lower_Lena")
    counts = table.groupby(table["start"].astype(str)).size().to_dict()
    assert counts == {"2013-07-27": 28, "2014-07-05": 25, "2016-07-18": 16, "2018-06-21": 18}
    assert table["id"].iloc[0] == "5171017_2013-07-27_RE3_3A_Analytic_clip-0"
    assert table["id"].is_unique
    # The file of 2018 has areas measured in the plane of UTM.
    (area,) = table.area[table["id"] == "5171017_2018-06-21_RE1_3A_Analytic_clip-0"]
    assert area == pytest.approx(11_765.925, rel=2e-3)


def test_the_label_archive_with_the_footprints_as_extent(shared: Path) -> None:
    folder = shared / "data/ml_training_labels/retrogressive_thaw_slumps"
    table, extent = read(folder), read_areas(str(folder), S3Options())
    assert len(table) == 2182 + 743 + 141 + 69
    assert len(extent) == 6 + 5 + 12
    assert extent["start"].notna().all()
    second = extent[extent["source"].str.contains("iteration002")]
    # One image_date is 202-00-722; the ids have the dates.
    assert {start for start, _ in days(second)} == {"2020-07-22", "2020-08-14", "2021-07-15"}
    assert (table["start"] >= "2017").all()


def test_outlines_of_experts_without_any_column(shared: Path) -> None:
    table = read(shared / "data/rts_digitization_experiment/experts/expert_01/Peel_digitized.shp")
    assert (table["id"].tolist(), table["start"].notna().sum()) == ([str(number) for number in range(10)], 0)


def test_known_columns(tmp_path: Path) -> None:
    darts = file(tmp_path, {"id": [7, 8], "year": [2021, 2022], "pval_mean": [0.7, 0.8]}, "darts.gpkg")
    assert read(darts)["id"].tolist() == ["7", "8"]
    assert days(read(darts)) == [("2021-01-01", "2021-12-31"), ("2022-01-01", "2022-12-31")]
    sites = file(tmp_path, {"site_id": ["rts-1"], "year": [2023]}, "sites.gpkg")
    assert (read(sites)["id"].tolist(), days(read(sites))) == (["rts-1"], [("2023-01-01", "2023-12-31")])
    time = pd.Timestamp("2023-08-01T20:31:49Z")
    scene = file(tmp_path, {"scene_id": ["S2A"], "datetime": [time], "Region_ID": [4]}, "scene.gpkg")
    assert (read(scene)["id"].tolist(), days(read(scene))) == (["S2A/4"], [("2023-08-01", "2023-08-01")])
    row = file(tmp_path, {"id": ["S2A/4"], "scene": ["S2A"], "datetime": [time]}, "catalog.gpkg")
    assert (read(row)["id"].tolist(), days(read(row))) == (["S2A/4"], [("2023-08-01", "2023-08-01")])
    images = ["20230801_201149_00_2465", "4737567_5268618_2021-07-28_2465", "20230801_201149_00_2465"]
    labels = file(tmp_path, {"image_id": images, "label": [1, 0, 2], "image_date": ["2023-08-01", "", "202-30-801"]})
    table = read(labels)
    assert table["kind"].tolist() == ["positive", "negative", "ignored"]
    assert days(table) == [("2023-08-01",) * 2, ("2021-07-28",) * 2, ("2023-08-01",) * 2]
    arts = {
        "UID": ["u", None],
        "BaseMapDate": ["2019-07-01", "2018-07-01,2019-08-01"],
        "TrainClass": ["Positive", "Negative"],
    }
    table = read(file(tmp_path, arts, "arts.geojson"))
    assert table[["id", "kind"]].to_numpy().tolist() == [["u", "positive"], ["1", "negative"]]


def test_explicit_columns(tmp_path: Path) -> None:
    columns = {
        "nr": ["x", "y", "z"],
        "from": ["2019", "2020-07", None],
        "to": ["2021", "2020-08-03", None],
        "art": ["RTS", "ALD", "?"],
    }
    table = read(
        file(tmp_path, columns), id_column="nr", start_column="from", end_column="to",
        class_column="art", positive=["rts"], ignored=["?"],
    )  # fmt: skip
    assert table["id"].tolist() == ["x", "y", "z"]
    assert days(table) == [("2019-01-01", "2021-12-31"), ("2020-07-01", "2020-08-03"), ("NaT", "NaT")]
    assert table["kind"].tolist() == ["positive", "negative", "ignored"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2019-07-01", ("2019-07-01", "2019-07-01")),
        (2019, ("2019-01-01", "2019-12-31")),
        (2019.0, ("2019-01-01", "2019-12-31")),
        ("2020-02", ("2020-02-01", "2020-02-29")),
        ("20190701", ("2019-07-01", "2019-07-01")),
        ("2019/07/01", ("2019-07-01", "2019-07-01")),
        ("2019-07-01T20:00:00Z", ("2019-07-01", "2019-07-01")),
        ("2018,2020-08-03", ("2018-01-01", "2020-08-03")),
        ("2018-07-01/2019-08-03", ("2018-07-01", "2019-08-03")),
        ("2019 to 2018", ("2018-01-01", "2019-12-31")),
        (dt.date(2019, 7, 1), ("2019-07-01", "2019-07-01")),
    ],
)
def test_dates(value: Any, expected: tuple[str, str]) -> None:
    assert tuple(map(str, dates_of(value) or ())) == expected


@pytest.mark.parametrize("value", [None, float("nan"), pd.NaT, "", "  "])
def test_no_date(value: Any) -> None:
    assert dates_of(value) is None


@pytest.mark.parametrize("value", ["summer 2019", "202-00-722", "2019-13-01", 19, "01.07.2019"])
def test_other_values_are_no_dates(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a date; expected YYYY-MM-DD"):
        dates_of(value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("5171017_2016-07-18_RE5_3A_Analytic_clip", ("2016-07-18", "2016-07-18")),
        ("20200722_081437_1032", ("2020-07-22", "2020-07-22")),
        ("Nordenskiöld_Land_thaw_slumps_2009-2011", ("2009-01-01", "2011-12-31")),
        ("slumps_2018", ("2018-01-01", "2018-12-31")),
        ("change_2018_2020", ()),
        ("5171017_outlines", ()),
    ],
)
def test_dates_in_names(name: str, expected: tuple[str, ...]) -> None:
    assert tuple(map(str, dates_in_name(name) or ())) == expected


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"year": [2021], "pval_1": ["x"]},
            {"start_column": "when"},
            "there is no column 'when'; columns are year, pval_1",
        ),
        ({"image_id": ["a"], "label": [5]}, {}, r"feature 1: label is 5, expected 1 \(slump\)"),
        ({"BaseMapDate": ["2019", "?"], "TrainClass": ["Positive"] * 2}, {}, "feature 2: '[?]' is not a date"),
        ({"BaseMapDate": ["2019"], "TrainClass": ["Maybe"]}, {}, "feature 1: TrainClass is 'Maybe', expected Positive"),
        ({"a": [2021], "b": [2020]}, {"start_column": "a", "end_column": "b"}, "feature 1: a is after b"),
    ],
)
def test_unusable_values_are_given_with_file_and_feature(
    tmp_path: Path, columns: dict[str, list[Any]], options: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=rf"reference .*reference\.gpkg: {message}"):
        read(file(tmp_path, columns), **options)


def test_missing_files_and_layers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file"):
        read(tmp_path / "none.gpkg")
    with pytest.raises(SettingsError, match="the folder has no file with one of"):
        read(tmp_path)
    with pytest.raises(SettingsError, match="has no layer 'b'; it has reference"):
        read(file(tmp_path, {"a": [1]}), "b")
    with pytest.raises(SettingsError, match=r"extent .*: there is no column 'name'"):
        read_areas(str(tmp_path / "reference.gpkg"), S3Options(), "name")


def test_of_several_layers_one_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "slumps.gpkg"
    for layer, squares in (("segments", SQUARES), ("extent", SQUARES[:1])):
        gpd.GeoDataFrame({"id": range(len(squares))}, geometry=squares, crs="EPSG:4326").to_file(path, layer=layer)
    with pytest.raises(SettingsError, match="has the layers segments, extent: choose one with reference_layer"):
        read(path)
    assert (len(read(path, "segments")), len(read(path, "extent"))) == (3, 1)


def test_points_are_left_out_and_longitudes_may_cross_the_antimeridian(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crossing = shapely.Polygon([(179.99, 70), (-179.99, 70), (-179.99, 70.01), (179.99, 70.01)])
    shapes = [shapely.Point(0, 70), crossing, None]
    path = tmp_path / "reference.geojson"
    gpd.GeoDataFrame({"id": ["p", "c", "n"]}, geometry=shapes, crs="EPSG:4326").to_file(path)
    table = read(path)
    assert table["id"].tolist() == ["c"]
    assert "2 of 3 features have no polygon and are left out" in caplog.text
    expected = abs(Geod(ellps="WGS84").geometry_area_perimeter(crossing)[0])
    assert table.area.iloc[0] == pytest.approx(expected, rel=1e-3)
    assert geodesic_area(table.geometry.to_numpy(), table.crs)[0] == pytest.approx(table.area.iloc[0], rel=1e-6)
