"""The table of detections: right values, files that others read in part, updates that touch what has changed."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from pystac.validation import JsonSchemaSTACValidator, set_validator

from darts_assets.catalog import detection_rows as rows
from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.catalog.detections import DetectionsUpdate, update_detections
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.catalog.stac_schemas import offline_validator

from .conftest import ANTIMERIDIAN, MACKENZIE, PEEL, YAMAL, clone, publish, written

FAMILIES = ["sentinel2", "planet"]
PEEL_2023 = "year=2023/region=08W/part.parquet"
YAMAL_2021 = "year=2021/region=42W/part.parquet"


@pytest.fixture
def update(root: StoreLocation) -> Callable[..., DetectionsUpdate]:
    return lambda **more: update_detections(root, FAMILIES, licence="CC-BY-4.0", **more)


def files(root: StoreLocation) -> Path:
    return root.path / "catalog" / "detections"


def table(root: StoreLocation) -> gpd.GeoDataFrame:
    return gpd.read_parquet(files(root))


def test_rows_are_the_detections_of_all_scenes(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    counts = {
        "scene-a": put("scene-a"),
        "scene-b": put("scene-b", MACKENZIE, seed=1),
        "scene-c": put("scene-c", YAMAL, when="2021-08-01T07:00:00.5+00:00"),
        "image-1": publish(root, "image-1", seed=2, family="planet"),
    }
    put("rasters", products=("probabilities",))
    done = update()
    assert done.rows == sum(counts.values())
    assert done.left_out == ["rasters"]
    assert {part: facts["rows"] for part, facts in done.parts.items()} == {
        YAMAL_2021: counts["scene-c"],
        PEEL_2023: counts["scene-a"] + counts["scene-b"] + counts["image-1"],
    }
    published = table(root)
    assert published.crs == "EPSG:4326"
    assert published.groupby("scene").size().to_dict() == counts
    assert set(published.columns) == (COLUMNS.keys() - {"bbox"}) | {"year", "region"}
    assert published["id"].is_unique
    (path,) = (root.path / "products" / "sentinel2" / "scene-a").rglob("prediction_segments.parquet")
    source = gpd.read_parquet(path).set_index("Region_ID")
    mine = published[published["scene"] == "scene-a"].set_index("Region_ID").sort_index()
    assert mine["id"].tolist() == [f"scene-a/{number}" for number in source.index]
    np.testing.assert_allclose(mine["area_m2"], source["area_m2"])
    np.testing.assert_allclose(mine["area_m2"], source.area / 0.9996**2, rtol=1e-4)  # scale on the central meridian
    np.testing.assert_allclose(mine["mean"], source["mean"])
    back = mine.to_crs("EPSG:32608").geometry
    assert (shapely.hausdorff_distance(back, source.geometry) < 1e-3).all()
    row = published[published["scene"] == "scene-c"].iloc[0]
    assert str(row["datetime"]) == "2021-08-01 07:00:00.500000+00:00"
    assert (row["crs"], row["family"], row["models"], row["config_hash"]) == (
        "EPSG:32642", "sentinel2", "demo=abababab", "cafe"
    )  # fmt: skip
    assert row["data_version"].startswith("scene-c-")


def test_the_schema_is_what_it_says(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    update()
    parquet = pq.ParquetFile(files(root) / PEEL_2023)
    schema = parquet.schema_arrow
    assert schema.names == list(COLUMNS)
    for name, (kind, _) in COLUMNS.items():
        assert str(schema.field(name).type).removeprefix("large_").partition("<xmin")[0] == kind.partition("<xmin")[0]
    geo = json.loads(schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    first = parquet.read().slice(0, 1).to_pylist()[0]
    assert tuple(first["bbox"].values()) == shapely.from_wkb(first["geometry"]).bounds
    assert b"PANDAS_ATTRS" not in schema.metadata


def test_polygons_of_an_earlier_version_have_an_area_and_neither_clear_fraction_nor_spread(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    put("scene-b", MACKENZIE, standalone=False)
    (path,) = (root.path / "products" / "sentinel2" / "scene-b").rglob("prediction_segments.parquet")
    old = gpd.read_parquet(path).drop(columns=["clear_fraction", "model_spread"])
    assert "area_m2" not in old
    old.to_parquet(path)
    (path,) = (root.path / "products" / "sentinel2" / "scene-a").rglob("prediction_segments.parquet")
    gpd.read_parquet(path).assign(model_spread=0.125).to_parquet(path)
    update()
    published = table(root)
    areas = published[published["scene"] == "scene-b"].set_index("Region_ID")["area_m2"].sort_index()
    np.testing.assert_array_equal(areas, geodesic_area(old.geometry.to_numpy(), old.crs))
    clear = table(root).groupby("scene")["clear_fraction"]
    assert clear.min()["scene-a"] == 1
    assert clear.count()["scene-b"] == 0
    assert clear.size()["scene-b"] > 0
    spread = published.groupby("scene")["model_spread"]
    assert (spread.min()["scene-a"], spread.max()["scene-a"], spread.count()["scene-b"]) == (0.125, 0.125, 0)


def test_the_collection_names_the_files(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    rows_ = put("scene-a") + put("scene-c", YAMAL, when="2021-08-01T07:00:00+00:00")
    update()
    set_validator(offline_validator())
    catalog = pystac.Catalog.from_file(str(root.path / "catalog" / "catalog.json"))
    catalog.validate_all()
    set_validator(JsonSchemaSTACValidator())
    collection = catalog.get_child("detections")
    assert isinstance(collection, pystac.Collection)
    assert collection.extra_fields["table:row_count"] == rows_
    hrefs = {asset.get_absolute_href() for asset in collection.assets.values()}
    assert hrefs == {str(files(root) / part) for part in (PEEL_2023, YAMAL_2021)}
    assert [interval[0].year for interval in collection.extent.temporal.intervals] == [2021]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two years, 6000 outlines in 9 x 9 degrees each, in row groups of 500."""
    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(3)
    for year in (2022, 2023):
        lon, lat = rng.uniform(-138, -129, 6000), rng.uniform(66, 75, 6000)
        frame = gpd.GeoDataFrame(
            {"id": [f"{year}/{number}" for number in range(6000)], "scene": "s"},
            geometry=shapely.box(lon, lat, lon + 0.002, lat + 0.001), crs="EPSG:4326",
        )  # fmt: skip
        path = folder / f"year={year}" / "region=08W" / "part.parquet"
        path.parent.mkdir(parents=True)
        merged = rows.merged(None, [], [frame])
        assert merged is not None
        rows.write_part(merged, path, row_group=500)
    return folder


AREA = "bbox.xmax >= -135.2 AND bbox.xmin <= -134.7 AND bbox.ymax >= 68 AND bbox.ymin <= 68.5"


def _touched(path: Path) -> int:
    """Row groups whose statistics say that they may hold something of the area."""
    metadata = pq.ParquetFile(path).metadata
    count = 0
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(index) for index in range(metadata.num_columns)]
        stats = {column.path_in_schema: column.statistics for column in columns}
        count += (
            stats["bbox.xmax"].max >= -135.2 and stats["bbox.xmin"].min <= -134.7
            and stats["bbox.ymax"].max >= 68 and stats["bbox.ymin"].min <= 68.5
        )  # fmt: skip
    return count


def test_duckdb_reads_the_row_groups_it_needs(wide: Path) -> None:
    pattern = f"{wide}/year=*/region=*/part.parquet"
    path = wide / "year=2023" / "region=08W" / "part.parquet"
    groups = pq.ParquetFile(path).metadata.num_row_groups
    assert groups == 12
    touched = _touched(path)
    assert 1 <= touched <= 4, "rows that lie together stand together"

    query = f"SELECT id FROM read_parquet('{pattern}', hive_partitioning=true) WHERE year = 2023 AND {AREA}"
    connection = duckdb.connect()
    published = {row[0] for row in connection.sql(query).fetchall()}
    frame = gpd.read_parquet(path)
    assert published == set(frame.cx[-135.2:-134.7, 68:68.5]["id"])
    assert published

    profile = json.loads(connection.sql(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()[0][1])
    scan = _scan(profile["operator"])
    assert scan["extra_info"]["Total Files Read"] == "1", "of two years, one is opened"
    assert (scan["row_groups_scanned"], scan["total_row_groups_to_scan"]) == (touched, groups)


def _scan(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The operator of a plan that reads files."""
    for node in nodes:
        published = node if node["type"] == "TABLE_SCAN" else _scan(node.get("children", []))
        if published:
            return published
    return {}


def test_geopandas_reads_by_area_and_year(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    counts = put("scene-a"), put("scene-b", MACKENZIE, when="2022-07-15T20:09:01+00:00")
    update()
    west = gpd.read_parquet(files(root), bbox=(-137, 69, -136, 70))
    assert set(west["scene"]) == {"scene-a"}
    assert len(west) == counts[0]
    later = gpd.read_parquet(files(root), filters=[("year", "==", 2022)])
    assert set(later["scene"]) == {"scene-b"}
    assert len(later) == counts[1]


def test_only_files_with_changed_scenes_are_written(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    put("scene-y", YAMAL, when="2021-08-01T07:00:00+00:00")
    clone(root, "scene-a", "scene-b")
    update()
    first = written(root.path / "catalog")
    again = update()
    assert (again.written, again.deleted) == ([], [])
    assert written(root.path / "catalog") == first, "nothing has changed, nothing is written"

    clone(root, "scene-a", "scene-c")
    done = update()
    assert done.written == [PEEL_2023]
    assert done.rows == len(table(root))
    assert set(table(root)["scene"]) == {"scene-a", "scene-b", "scene-c", "scene-y"}
    second = written(files(root))
    assert second[YAMAL_2021] == first[f"detections/{YAMAL_2021}"]

    # Published again with the same polygons: that is remembered, but no file is written.
    clone(root, "scene-c", "scene-c")
    assert update().written == []
    assert written(files(root)) == second

    put("scene-a", seed=5, objects=2)
    assert update().written == [PEEL_2023]
    published = table(root)
    assert (published["scene"] == "scene-a").sum() == 2
    assert published["id"].is_unique

    shutil.rmtree(root.path / "products" / "sentinel2" / "scene-y")
    done = update()
    assert (done.written, done.deleted) == ([], [YAMAL_2021])
    assert [path.name for path in files(root).iterdir()] == ["year=2023"]
    assert set(table(root)["scene"]) == {"scene-a", "scene-b", "scene-c"}


def test_the_order_in_which_scenes_come_does_not_matter(root: StoreLocation, tmp_path: Path) -> None:
    for number, spot in enumerate((PEEL, MACKENZIE, PEEL)):
        publish(root, f"scene-{number}", spot, seed=number)
    update_detections(root, FAMILIES, licence="other")
    other = StoreLocation(str(tmp_path / "other"))
    for number in (2, 0, 1):
        name = f"products/sentinel2/scene-{number}"
        shutil.copytree(root.path / name, other.path / name)
        update_detections(other, FAMILIES, licence="other")
    assert (files(other) / PEEL_2023).read_bytes() == (files(root) / PEEL_2023).read_bytes()
    before = (files(root) / PEEL_2023).read_bytes()
    assert update_detections(root, FAMILIES, licence="other", rebuild=True).written == [PEEL_2023]
    assert (files(root) / PEEL_2023).read_bytes() == before


def test_outlines_over_the_antimeridian_are_cut(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    count = put("scene-a", ANTIMERIDIAN, objects=60)
    done = update()
    (part,) = done.parts
    assert part in ("year=2023/region=60W/part.parquet", "year=2023/region=01W/part.parquet")
    published = table(root)
    assert len(published) == count
    assert published.geometry.is_valid.all()
    bounds = published.bounds
    cut = bounds["maxx"] - bounds["minx"] > 300
    assert 0 < cut.sum() < count
    assert (published[cut].geometry.geom_type == "MultiPolygon").all()
    areas = published.to_crs("EPSG:6931").area
    np.testing.assert_allclose(areas, published["area_m2"], rtol=1e-6)  # equal-area
    west, _, east, _ = done.parts[part]["bbox"]
    assert 179.9 < west < 180
    assert -180 < east < -179.9


def test_no_detections_at_all(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    assert update().rows == 0
    put("clouded", objects=0)
    done = update()
    assert (done.scenes, done.rows, done.parts, done.written) == (1, 0, {}, [])
    put("clouded", objects=3)
    assert update().written == [PEEL_2023]
    put("clouded", objects=0)
    done = update()
    assert (done.rows, done.deleted) == (0, [PEEL_2023])


@pytest.mark.slow
def test_a_killed_update_is_healed_by_the_next(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    update()
    known = (root.path / "catalog/stac/detections/collection.json").read_text()
    for year in range(2014, 2023):
        clone(root, "scene-a", f"scene-{year}", datetime=f"{year}-07-15T20:09:01+00:00")
    # It dies after its third file, by what it logs.
    script = (
        "import logging, os, signal\n"
        "from darts_assets.catalog.detections import update_detections\n"
        "from darts_assets.stores.location import StoreLocation\n"
        "class Dies(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        if ': 3 of 9 files' in record.getMessage(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "logging.basicConfig(level='INFO', handlers=[Dies()])\n"
        f"update_detections(StoreLocation({str(root.path)!r}), {FAMILIES!r}, licence='CC-BY-4.0')\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    published = table(root)
    assert len(set(published["scene"])) == 4, "each that is there is there as a whole"
    assert published.groupby("scene").size().nunique() == 1
    collection = json.loads((root.path / "catalog/stac/detections/collection.json").read_text())
    assert collection["assets"] == json.loads(known)["assets"]

    # One of the scenes that the killed run has written is gone before the next one.
    gone = sorted(set(published["scene"]) - {"scene-a"})[0]
    shutil.rmtree(root.path / "products" / "sentinel2" / gone)
    done = update()
    assert set(table(root)["scene"]) == {path.name for path in (root.path / "products" / "sentinel2").iterdir()}
    assert done.scenes == 9
    assert not list((root.path / "catalog").glob("**/.*")), "neither marks nor files of the killed run are left"


def test_polygons_that_go_while_they_are_read_are_left_to_the_next_update(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    clone(root, "scene-a", "scene-b")
    update()
    clone(root, "scene-a", "scene-b", data_version="2")
    path = Path(Place(root.child("products", "sentinel2", "scene-b")).current_url()) / "prediction_segments.parquet"
    content = path.read_bytes()
    path.unlink()
    before = table(root)
    update()
    assert table(root)["id"].tolist() == before["id"].tolist()
    path.write_bytes(content)
    assert update().written == [PEEL_2023]
    assert table(root).query("scene == 'scene-b'")["data_version"].str.contains("2").all()
