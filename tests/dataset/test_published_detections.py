"""Level 1 and Level 2 from the catalog and the inventory of a world of three years."""

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from darts_assets.dataset.published_detections import LEVEL1_DESCRIPTIONS, LEVEL2_DESCRIPTIONS, level1, level2
from darts_assets.errors import NotReadableError


def detections(**columns: object) -> gpd.GeoDataFrame:
    table = {
        "id": ["a/2", "b/1", "a/1"], "scene": ["a", "b", "a"], "Region_ID": [2, 1, 1], "data_version": ["1", "1", "1"],
        "datetime": pd.to_datetime(["2023-07-02", "2023-07-01", "2023-07-02"], utc=True), **columns,
    }  # fmt: skip
    shapes = [shapely.box(x, 68, x + 0.01, 68.01) for x in (-135, -134, -133)]
    return gpd.GeoDataFrame(table, geometry=shapes, crs=4326)


MEMBERS = pd.DataFrame({"scene_id": ["a", "b"], "region_id": [2, 1], "data_version": ["1", "1"], "site_id": ["s", "s"]})
SITES = pd.DataFrame({"site_id": ["s"], "slump_id": ["slump"], "year": [2023]})


def test_level1_has_the_detections_of_the_sites_with_their_slumps() -> None:
    table = level1(detections(), MEMBERS, SITES)
    assert table["id"].tolist() == ["b/1", "a/2"]
    assert list(table)[:6] == ["id", "year", "site_id", "slump_id", "reviewed", "verdict"]
    assert table[["year", "slump_id", "reviewed", "verdict"]].drop_duplicates().to_numpy().tolist() == [
        [2023, "slump", False, ""]
    ]
    assert table.geometry.iloc[0].bounds[0] == -134
    assert set(table.columns) - {"geometry"} <= LEVEL1_DESCRIPTIONS.keys()
    judged = level1(detections(), MEMBERS, SITES.assign(reviewed=True, verdict="yes"))
    assert judged["verdict"].tolist() == ["yes", "yes"]


def test_a_catalog_or_slumps_of_another_time_are_refused() -> None:
    with pytest.raises(
        NotReadableError, match=r"does not have the detections of the inventory in 1 scene\(s\), such as b"
    ):
        level1(detections(data_version=["1", "2", "1"]), MEMBERS, SITES)
    with pytest.raises(NotReadableError, match=r"inventory/slumps does not have 1 site\(s\) of the years, such as s"):
        level1(detections(), MEMBERS, SITES.assign(site_id="other"))


def test_level2_has_geodesic_areas_and_is_cut_at_the_antimeridian() -> None:
    across = gpd.GeoSeries([shapely.box(622_000, 7_603_000, 632_000, 7_604_000)], crs=32660).to_crs(6931)
    sites = gpd.GeoDataFrame({"site_id": ["b"], "year": [2023], "area_ha": [1000.0]}, geometry=across, crs=6931)
    table = level2(sites)
    assert table.columns.tolist() == ["site_id", "year", "area_m2", "reviewed", "verdict", "geometry"]
    assert table["area_m2"].tolist() == pytest.approx([1e7], rel=2e-3)
    west, _, east, _ = table.total_bounds
    assert (west, east) == (-180, 180)
    assert set(table) - {"geometry"} <= LEVEL2_DESCRIPTIONS.keys()
