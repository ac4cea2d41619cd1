import datetime as dt
import io

import geopandas as gpd
import numpy as np
import pyogrio
import pytest

from darts_assets.detection.export import describe, export
from darts_assets.detection.vectorize import clear_polygons, extent_polygons, segments
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.geo.product_tables import Origin, product_tables
from darts_assets.tiles import geobox_of, on_grid
from tests.detection.conftest import detections_of

SENSED = dt.datetime(2023, 7, 15, 22, 9, 1, 24_000, tzinfo=dt.timezone(dt.timedelta(hours=2)))
ORIGIN = Origin("S2A_SCENE", SENSED, ["tcvis", "small"], "0.3.0+2")
DTYPES = {
    "area_m2": "float64", "scene_id": "str", "datetime": "datetime64[ms, UTC]", "model": "str", "code_version": "str"
}  # fmt: skip


def tables_of(mask: np.ndarray) -> dict[str, gpd.GeoDataFrame]:
    tile = detections_of(mask)
    tile = tile.assign({
        "probabilities-tcvis": tile["probabilities"], "binarized_segmentation-tcvis": tile["binarized_segmentation"]
    })  # fmt: skip
    return {
        "segments": segments(tile),
        "segments-tcvis": segments(tile, "tcvis"),
        "extent": extent_polygons(tile),
        "clear": clear_polygons(tile),
    }


def exported(tmp_path, tables: dict[str, gpd.GeoDataFrame]):
    grid = geobox_of(detections_of(np.zeros((40, 50), bool)))
    flat = on_grid({name: np.full((40, 50), 0.1, "float32") for name in ("red", "green", "blue")}, grid)
    export(
        tmp_path, ["polygonized", "extent"], probabilities=flat[["red"]].rename(red="probabilities"), features=flat,
        vectors=tables, metadata={},
    )  # fmt: skip
    return describe(tmp_path, grid, tables)


@pytest.mark.parametrize("objects", [0, 2])
def test_rows_carry_their_origin_in_both_formats(tmp_path, objects):
    mask = np.zeros((40, 50), bool)
    mask[4:12, 4:12] = mask[20:30, 20:24] = objects > 0
    before = tables_of(mask)
    after = product_tables(before, ORIGIN)
    described = exported(tmp_path, after)
    assert described["summary"]["clear_km2"] == 0.2  # planar, as the area of the valid area
    for name, stem in (("segments", "prediction_segments"), ("extent", "prediction_extent")):
        parquet = gpd.read_parquet(tmp_path / f"{stem}.parquet")
        assert parquet.dtypes.astype(str)[list(DTYPES)].to_dict() == DTYPES
        assert parquet.columns[-1] == "geometry"
        kept = [column for column in before[name].columns if column != "area_m2"]
        assert parquet[kept].equals(before[name][kept]), "the columns of the polygons are unchanged"
        np.testing.assert_array_equal(parquet["area_m2"], geodesic_area(parquet.geometry.to_numpy(), parquet.crs))
        rows = parquet[["scene_id", "model", "code_version"]].drop_duplicates().to_numpy().tolist()
        assert rows == ([["S2A_SCENE", "tcvis,small", "0.3.0+2"]] if len(parquet) else [])
        assert [str(time) for time in parquet["datetime"]] == ["2023-07-15 20:09:01.024000+00:00"] * len(parquet)
        assert len(parquet) == (objects if name == "segments" else 1)
        info = pyogrio.read_info(tmp_path / f"{stem}.gpkg")
        types = dict(zip(info["fields"], info["ogr_types"], strict=True))
        assert {column: types[column] for column in DTYPES} == {
            "area_m2": "OFTReal", "scene_id": "OFTString", "datetime": "OFTDateTime", "model": "OFTString",
            "code_version": "OFTString",
        }  # fmt: skip
        geopackage = pyogrio.read_dataframe(tmp_path / f"{stem}.gpkg")
        assert geopackage["scene_id"].tolist() == parquet["scene_id"].tolist()
        assert [time.isoformat() for time in geopackage["datetime"]] == [t.isoformat() for t in parquet["datetime"]]
    assert after["clear"] is before["clear"]


def test_the_table_of_one_model_names_only_it():
    after = product_tables(tables_of(np.pad(np.ones((8, 8), bool), 4)), ORIGIN)
    assert after["segments-tcvis"]["model"].tolist() == ["tcvis"]
    assert after["segments"]["model"].tolist() == ["tcvis,small"]


def test_the_extent_of_earlier_versions_gets_a_geodesic_area():
    before = tables_of(np.zeros((40, 50), bool))
    buffer = io.BytesIO()
    before["extent"].drop(columns="clear_fraction").to_parquet(buffer)
    old = {**before, "extent": gpd.read_parquet(buffer).assign(area_m2=200_000.0)}  # planar
    (area,) = product_tables(old, ORIGIN)["extent"]["area_m2"]
    assert old["extent"]["area_m2"].tolist() == [200_000.0]
    assert area == pytest.approx(200_000 / 0.9996**2, rel=1e-4), "50 km from the central meridian of the zone"
