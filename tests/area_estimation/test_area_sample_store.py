"""Samples and reports as files of a store."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from darts_assets.area_estimation.area_estimate import AREA_COLUMNS, area_report
from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.area_sample_store import read_sample, write_estimate, write_sample
from darts_assets.area_estimation.sample_points import draw_sample
from darts_assets.area_estimation.strata import strata_of
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.area_estimation.simulated import Landscape, simulated, verdicts_by


def test_what_is_written_comes_back_and_opens_elsewhere(tmp_path: Path) -> None:
    observed, truth, sites = simulated(np.random.default_rng(0), Landscape(side=3000, slumps=10))
    parameters = SampleParameters(points=60, min_points=10)
    points, strata = draw_sample(strata_of(observed, sites, parameters), 2023, parameters)
    place = Place(StoreLocation(str(tmp_path)).child("sample"))
    manifest = write_sample(place, points, strata, {"inventory_version": "v7"})
    again, same = read_sample(place, manifest)
    assert again.equals(points)
    assert same.equals(strata)
    folder = next((tmp_path / "sample").glob("2*Z-*"))
    form = gpd.read_file(folder / "to_review.gpkg")
    assert len(form) == 60
    assert set(form["inventory_version"]) == {"v7"}
    assert not {"stratum", "map_class"} & set(form.columns), "reviewers do not know what the map has"
    assert gpd.read_file(folder / "strata.gpkg")["stratum"].tolist() == strata["stratum"].tolist()

    report = area_report(points, strata, verdicts_by(truth, points))
    written = write_estimate(Place(StoreLocation(str(tmp_path)).child("estimate")), report, {})
    assert set(written.contents) == {
        "area.csv", "accuracy.csv", "strata.csv", "error_matrix.csv", "points.gpkg", "points.parquet"
    }  # fmt: skip
    (folder,) = (tmp_path / "estimate").glob("2*Z-*")
    area = pd.read_csv(folder / "area.csv")
    assert list(area.columns) == list(AREA_COLUMNS)
    assert area["area_ha"].tolist() == report.areas["area_ha"].round(6).tolist()
    judged = gpd.read_file(folder / "points.gpkg")
    assert judged["result"].value_counts().to_dict() == report.points["result"].value_counts().to_dict()
