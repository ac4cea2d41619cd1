"""What a store contains, opened without this package: by xarray, geopandas, DuckDB and Debian's GDAL."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import s3fs
import xarray as xr
from pandas.testing import assert_frame_equal

import darts_assets
from darts_assets.api.opened_store import OpenedStore
from darts_assets.demo import World
from darts_assets.errors import NotReadableError, SceneError, StoreError
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS, build_inventory
from darts_assets.settings import Settings
from darts_assets.stores.tiles import read_tile
from tests.e2e.harness import DEMO_MODEL, QUIET, Site, metadata_of, reason
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

ZARR = ("raw_scene", "preprocessed_tile", "segmentation")
READER = Path(__file__).with_name("plain_reader.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Site]:
    """A scene from its item to its products, in the catalog and the inventory."""
    folder = tmp_path_factory.mktemp("opened")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
        yield Site(folder, settings, instance)


@pytest.fixture(scope="module")
def chain(site: Site, world: World) -> dg.ExecuteInProcessResult:
    (scene,) = site.register(world.items[0])
    result = site.run(scene, products={"products": ["probabilities", "binarized", "polygonized", "extent"]})
    assert result.success, reason(result)
    publish = site.defs.resolve_job_def("publish_catalog")
    assert publish.execute_in_process(instance=site.instance, run_config=QUIET).success
    for key, year in ((RTS, "2023"), (SLUMPS, None)):
        (asset,) = [asset for asset in build_inventory() if asset.key == key]
        resources = {name: site.resource(name) for name in ("store", "scenes")}
        assert dg.materialize(
            [asset], partition_key=year, instance=site.instance, resources=resources, run_config=QUIET
        ).success
    return result


@pytest.fixture(scope="module")
def scene(world: World) -> str:
    return world.items[0].stem


def opened(environment: dict[str, str], **asked: list[str]) -> dict[str, Any]:
    """What `plain_reader.py` opens, in a process that has only the given environment variables."""
    done = subprocess.run(
        [sys.executable, "-I", READER], input=json.dumps(asked), env={"PATH": os.defpath, **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ours"] == [], "the reader has only public libraries"
    return answer


def printed_paths(scene: str, **environment: str) -> dict[str, str]:
    """What `darts-assets path SCENE` prints: step -> path."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DARTS_STORE", "AWS_"))}
    done = subprocess.run(
        [Path(sys.executable).parent / "darts-assets", "path", scene], env={**clean, **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def stored(site: Site, scene: str, step: str) -> xr.Dataset:
    """The tile of a step, as this package reads it."""
    source = site.resource("scenes").scene(site.family, scene).source
    parts = ("raw", source) if step == "raw_scene" else ("tiles", site.family.name, step)
    return read_tile(site.place(*parts, scene))


def assert_same(seen: dict[str, Any], tile: xr.Dataset) -> None:
    assert seen["lazy"]
    assert {"x", "y", "spatial_ref"} <= set(seen["coordinates"])
    geobox = tile.odc.geobox
    assert seen["crs"] == str(geobox.crs)
    assert seen["transform"] == list(geobox.transform)[:6]
    assert (seen["sizes"]["y"], seen["sizes"]["x"]) == geobox.shape
    assert seen["x"] == [float(tile["x"][0]), float(tile["x"][-1])]
    assert seen["y"] == [float(tile["y"][0]), float(tile["y"][-1])]
    assert seen["bands"].keys() == set(map(str, tile.data_vars))
    for name, band in tile.data_vars.items():
        values = band.values.astype("f8")
        assert seen["bands"][name]["valid"] == np.isfinite(values).sum(), name
        assert seen["bands"][name]["mean"] == pytest.approx(np.nanmean(values), rel=1e-4, abs=1e-4), name


def test_xarray_opens_raw_scenes_and_tiles(site: Site, chain: dg.ExecuteInProcessResult, scene: str) -> None:
    paths = {step: metadata_of(chain, step)["path"] for step in ZARR}
    printed = printed_paths(scene, DARTS_STORE=site.settings.store)
    assert {step: printed[step] for step in ZARR} == paths
    places = [str(Path(path).parent) for path in paths.values()]
    answer = opened({}, zarr=list(paths.values()), empty=places)
    for step, path in paths.items():
        assert_same(answer["zarr"][path], stored(site, scene, step))
    assert {"red", "s2_scl"} <= answer["zarr"][paths["raw_scene"]]["bands"].keys()
    assert {"slope", "tc_wetness", "ndvi"} <= answer["zarr"][paths["preprocessed_tile"]]["bands"].keys()
    assert all(answer["empty"].values()), "the folder around the versions is no empty dataset"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def bucket(site: Site, chain: dg.ExecuteInProcessResult, server: S3Server) -> str:
    """The root of a copy of the store on S3."""
    server.client.create_bucket(Bucket="darts")
    bucket = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=server.endpoint)
    for room in ("scenes", "raw", "aux", "tiles", "vectors", "products", "inventory"):
        bucket.put(f"{site.settings.store}/{room}/", f"darts/root/{room}/", recursive=True)
    return "s3://darts/root"


def test_xarray_opens_them_on_s3(site: Site, scene: str, bucket: str, server: S3Server) -> None:
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": server.endpoint}
    printed = printed_paths(scene, DARTS_STORE=bucket, DARTS_STORE_ENDPOINT=server.endpoint, **CREDENTIALS)
    paths = {step: printed[step] for step in ZARR}
    answer = opened(environment, zarr=list(paths.values()), empty=[path.rpartition("/")[0] for path in paths.values()])
    for step, path in paths.items():
        assert path.startswith(f"{bucket}/")
        assert_same(answer["zarr"][path], stored(site, scene, step))
    assert all(answer["empty"].values())


def test_the_api_on_s3_equals_the_api_on_a_path(
    site: Site, scene: str, world: World, bucket: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (CREDENTIALS | {"DARTS_STORE_ENDPOINT": server.endpoint}).items():
        monkeypatch.setenv(name, value)
    here, there = darts_assets.open_store(site.settings.store), darts_assets.open_store(bucket)
    assert_frame_equal(there.scenes(), here.scenes())
    assert here.scenes()["scene_id"].tolist() == [scene]
    for read in (OpenedStore.raw, OpenedStore.tile, OpenedStore.probabilities):
        remote, local = read(there, scene), read(here, scene)
        assert all(remote.chunks[dim] for dim in ("y", "x")), "lazy"
        xr.testing.assert_identical(remote.load(), local.load())
    tables, kept = there.polygons(scene), here.polygons(scene)
    assert tables.keys() == kept.keys() >= {"segments", "extent", "clear"}
    for name in kept:
        assert_frame_equal(tables[name], kept[name])
    assert_frame_equal(there.inventory(2023), here.inventory(2023))
    assert_frame_equal(there.slumps(), here.slumps())
    assert len(here.slumps()) > 3
    assert there.paths(scene) == {
        step: path.replace(str(here.root.path), bucket) for step, path in here.paths(scene).items()
    }
    with pytest.raises(SceneError, match=rf"{bucket} has no scene S2X; it has {scene}"):
        there.tile("S2X")
    with pytest.raises(NotReadableError, match="there is no inventory of 1999; it has 2023"):
        there.inventory(1999)
    with pytest.raises(StoreError, match=r"s3://nowhere/root/raw cannot be listed: .*NoSuchBucket"):
        darts_assets.open_store("s3://nowhere/root").scenes()

    grid = here.tile(scene).odc.geobox
    vintage = darts_assets.vintage_for(2023)
    for root, offline in ((bucket, True), ("s3://darts/own", False)):
        elevations = darts_assets.load_arcticdem(grid, root, source=str(world.arcticdem), offline=offline)
        trends = darts_assets.load_tcvis(grid, root, vintage=vintage, source=world.tcvis, offline=offline)
        expected = (
            darts_assets.load_arcticdem(grid, site.settings.store, offline=True),
            darts_assets.load_tcvis(grid, site.settings.store, vintage=vintage, offline=True),
        )
        for loaded, local in zip((elevations, trends), expected, strict=True):
            xr.testing.assert_equal(loaded.load(), local.load())


def test_geopandas_and_duckdb_open_the_tables(site: Site, chain: dg.ExecuteInProcessResult, scene: str) -> None:
    store = Path(site.settings.store)
    segments = site.load("polygons", scene)["segments"]
    area = pytest.approx(segments.to_crs("EPSG:6933").area.sum(), rel=1e-6)
    printed = printed_paths(scene, DARTS_STORE=str(store))
    between, product = (
        str(Path(printed[step]) / name)
        for step, name in (("polygons", "segments.parquet"), ("products", "prediction_segments"))
    )
    rts, slumps = str(store / "inventory/rts/2023/latest/rts_2023"), str(store / "inventory/slumps/latest/rts_slumps")
    detections = str(store / "catalog/detections/year=*/region=*/part.parquet")
    files = [between, *(f"{name}.{kind}" for name in (product, rts, slumps) for kind in ("parquet", "gpkg"))]
    parquet = [between, f"{product}.parquet", f"{rts}.parquet", f"{slumps}.parquet", detections]
    answer = opened({}, tables=files, parquet=parquet)
    tables = answer["tables"]
    assert len(segments) > 3
    for path in (between, f"{product}.parquet", f"{product}.gpkg"):
        assert tables[path]["rows"] == len(segments), path
        assert tables[path]["crs"] == segments.crs.to_string()
        assert tables[path]["area"] == area
    assert answer["parquet"][detections] == len(segments)
    for path in (rts, slumps):
        assert tables[f"{path}.parquet"]["rows"] == tables[f"{path}.gpkg"]["rows"] > 0
    for path in parquet[:-1]:
        assert answer["parquet"][path] == tables[path]["rows"], path


@pytest.mark.skipif(not all(map(shutil.which, ("gdalinfo", "ogrinfo"))), reason="needs Debian's gdal-bin")
def test_gdal_opens_the_products(site: Site, chain: dg.ExecuteInProcessResult, scene: str) -> None:
    latest = Path(metadata_of(chain, "products")["path"])

    def gdal(*command: str) -> str:
        done = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name in ("probabilities", "binarized"):
        seen = json.loads(gdal("gdalinfo", "-json", "-mm", str(latest / f"{name}.tif")))
        with rasterio.open(latest / f"{name}.tif") as raster:
            values = raster.read(1, masked=True)
            assert seen["size"] == [raster.width, raster.height]
            assert seen["geoTransform"] == list(raster.transform.to_gdal())
            assert f'ID["EPSG",{raster.crs.to_epsg()}]' in seen["coordinateSystem"]["wkt"]
            band = seen["bands"][0]
            assert band["noDataValue"] == raster.nodata
            assert [band["computedMin"], band["computedMax"]] == [values.min(), values.max()]
    for name in ("prediction_segments", "prediction_extent"):
        seen_layer = gdal("ogrinfo", "-ro", "-so", "-al", str(latest / f"{name}.gpkg"))
        rows = len(gpd.read_file(latest / f"{name}.gpkg"))
        assert re.search(r"Feature Count: (\d+)", seen_layer)[1] == str(rows)
        assert "Geometry: Multi Polygon" in seen_layer
