"""Outlines of several experts: who drew what, their share, and how far they agree."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.errors import TrainingError
from darts_assets.training.expert_outlines import Agreement, agreement_on, pairs_on, read_area, read_outlines
from darts_assets.training.patches import cut
from darts_assets.training.sample_parameters import PatchParameters

from .conftest import make_tile, outlines, pixels

EXPERTS = ("anna", "ben", "cleo", "dora")


def drawn() -> gpd.GeoDataFrame:
    """Anna and Ben drew squares that overlap by half, Cleo left pixels out, Dora saw nothing."""
    rows = [
        ("anna", 1, pixels(slice(10, 20), slice(10, 20))),
        ("ben", 1, pixels(slice(10, 20), slice(15, 25))),
        ("cleo", 2, pixels(slice(40, 50), slice(10, 20))),
    ]
    return gpd.GeoDataFrame(rows, columns=["expert", "label", "geometry"], crs="EPSG:32608")


def test_y_is_the_share_of_experts_and_nan_where_nothing_is_known() -> None:
    tile = make_tile()
    tile["quality_data_mask"][0, :5] = 1
    parameters = PatchParameters(patch_size=64, overlap=0)
    patch = next(cut(tile, drawn(), None, parameters, experts=EXPERTS))
    assert patch.y.dtype == np.float32
    assert patch.empty, "no majority"
    assert np.isnan(patch.y[0, :5]).all()
    assert np.isnan(patch.y[40:50, 10:20]).all()
    assert patch.ignored.sum() == 105
    expected = np.zeros((10, 15), np.float32)
    expected[:] = 0.25
    expected[:, 5:10] = 0.5
    np.testing.assert_array_equal(patch.y[10:20, 10:25], expected)
    assert np.nansum(patch.y) == expected.sum()
    two = next(cut(tile, drawn(), None, parameters, experts=("anna", "ben")))
    assert np.nanmax(two.y) == 1
    assert not two.empty


def test_pairs_are_compared_by_pixels() -> None:
    agreement = agreement_on(make_tile(), drawn(), None, EXPERTS)
    assert agreement.joint.tolist() == [[100, 50, 0, 0], [50, 100, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    pairs = agreement.pairs().set_index(["expert", "other"])
    assert len(pairs) == 6
    assert pairs.loc[("anna", "ben"), "iou"] == pytest.approx(50 / 150)
    assert pairs.loc[("anna", "dora"), "iou"] == 0
    assert np.isnan(pairs.loc[("cleo", "dora"), "iou"])
    half = gpd.GeoSeries([pixels(slice(10, 15), slice(0, 130))], crs="EPSG:32608")
    assert agreement_on(make_tile(), drawn(), half, EXPERTS).joint[0, :2].tolist() == [50, 25]


def test_images_of_other_experts_are_added() -> None:
    one = Agreement(("anna", "ben"), np.array([[10, 5], [5, 10]]))
    other = Agreement(("ben", "cleo"), np.array([[4, 2], [2, 2]]))
    again = Agreement(("anna", "ben"), np.array([[2, 0], [0, 3]]))
    pairs = pairs_on([one, other, again])
    assert pairs.to_numpy().tolist() == [["anna", "ben", 5 / 20, 5, 20], ["ben", "cleo", 0.5, 2, 4]], (
        "anna and cleo never labelled the same image"
    )
    nothing = pairs_on([Agreement(("anna", "ben"), np.zeros((2, 2), np.int64))])
    assert np.isnan(nothing["iou"]).all()
    assert pairs_on([]).empty
    assert list(pairs_on([])) == list(pairs)


def test_a_file_or_a_folder_of_files(tmp_path: Path) -> None:
    square = outlines(shapely.box(500_000, 7_599_000, 500_100, 7_599_100)).drop(columns="label")
    for name in ("anna", "ben"):
        (tmp_path / "experts" / name).mkdir(parents=True)
        square.to_file(tmp_path / "experts" / name / "Peel.shp")
    read = read_outlines(tmp_path / "experts")
    assert read.experts == ("anna", "ben")
    assert read.outlines[["expert", "label", "scene_id"]].to_numpy().tolist() == [["anna", 1, ""], ["ben", 1, ""]]
    assert read.outlines.crs == "EPSG:4326"
    square.assign(expert="cleo", scene_id="s1", label="2").to_file(tmp_path / "all.gpkg")
    one = read_outlines(tmp_path / "all.gpkg")
    assert (one.experts, one.outlines["label"].tolist()) == (("cleo",), [2])
    assert (len(one.of_scene("s1")), len(one.of_scene("s2"))) == (1, 0)
    square.to_file(tmp_path / "experts" / "anna" / "Other.gpkg")
    square.to_file(tmp_path / "experts" / "ben" / "Other.gpkg")
    with pytest.raises(TrainingError, match="folders contain several: 'anna', 'ben'"):
        read_outlines(tmp_path / "experts")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="expected a vector file for each expert"):
        read_outlines(tmp_path / "empty")


def test_the_labelled_area_has_polygons(tmp_path: Path) -> None:
    gpd.GeoSeries([shapely.Point(0, 70)], crs=4326).to_file(tmp_path / "points.gpkg")
    with pytest.raises(TrainingError, match="has no polygons"):
        read_area(tmp_path / "points.gpkg")
    gpd.GeoSeries([shapely.box(0, 70, 1, 71)], crs=4326).to_file(tmp_path / "area.gpkg")
    assert read_area(tmp_path / "area.gpkg").area.tolist() == [1.0]
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "table.csv")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_area(tmp_path / "table.csv")
