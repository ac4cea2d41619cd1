"""What users give on an object store beside the store itself: areas, ids, watched areas, rasters of the trends."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from darts_assets.bands import TCVIS
from darts_assets.cubes import TcvisRasters, tcvis_spec
from darts_assets.cubes.arcticdem import open_catalog
from darts_assets.errors import CubeError, RasterError, SettingsError
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.scene_discovery.selection import read_ids, write_ids
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings
from darts_assets.sources import S3Options
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

BOX = shapely.box(-139, 69, -138, 69.5)
AREAS = 'version = 1\n[[areas]]\nname = "Peel"\naoi = "areas/peel.gpkg"\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with areas, and keys to it in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:8]}"  # GDAL remembers where buckets are
    server.client.create_bucket(Bucket=name)
    table = gpd.GeoDataFrame(geometry=[BOX], crs="EPSG:4326")
    table.to_file(tmp_path / "peel.gpkg")
    table.to_parquet(tmp_path / "peel.parquet")
    for file in ("peel.gpkg", "peel.parquet"):
        server.client.upload_file(str(tmp_path / file), name, f"watch/areas/{file}")
    server.client.put_object(Bucket=name, Key="watch/areas.toml", Body=AREAS.encode())
    return name


@pytest.fixture
def s3(server: S3Server) -> S3Options:
    return S3Options(server.endpoint, "us-east-1")


@pytest.mark.parametrize("file", ["peel.gpkg", "peel.parquet"])
def test_an_area_of_interest(bucket: str, s3: S3Options, file: str) -> None:
    area = read_aoi(f"s3://{bucket}/watch/areas/{file}", s3)
    assert area.geometry.symmetric_difference(BOX).area < 1e-9
    with pytest.raises(SettingsError, match=rf"aoi s3://{bucket}/nothing\.gpkg: there is no such file"):
        read_aoi(f"s3://{bucket}/nothing.gpkg", s3)


def test_ids_are_on_the_service_of_the_store(bucket: str, server: S3Server, s3: S3Options) -> None:
    store = Store(url=f"s3://{bucket}/store", endpoint=server.endpoint, region="us-east-1")
    write_ids(f"s3://{bucket}/some/ids.json", ["A", "B"], store)
    assert read_ids(f"s3://{bucket}/some/ids.json", store) == ["A", "B"]
    with pytest.raises(SettingsError, match=rf"ids_file s3://{bucket}/other\.json: there is no such file"):
        read_ids(f"s3://{bucket}/other.json", store)


def test_watched_areas_and_what_lies_beside_them(bucket: str, s3: S3Options, tmp_path: Path) -> None:
    path = Settings(watch=f"s3://{bucket}/watch/areas.toml").watch_file
    watch = Watch(path=path)
    (area,) = watch.read(s3).areas
    selection = area.selection(watch.folder, s3)
    assert selection.area is not None
    assert selection.area.symmetric_difference(BOX).area < 1e-9
    with pytest.raises(SettingsError, match=rf"watched areas s3://{bucket}/areas\.toml: there is no such file"):
        Watch(path=f"s3://{bucket}/areas.toml").read(s3)


def test_rasters_of_the_trends_in_a_public_bucket(
    bucket: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = tcvis_spec(2024).grid.chunk_geobox(80, 123)
    part = box[:64, :32]
    values = np.random.default_rng(1).integers(1, 256, (3, *part.shape), dtype="uint8")
    with rasterio.open(
        tmp_path / "tcvis.tif", "w", driver="GTiff", count=3, dtype="uint8", crs="EPSG:4326", transform=part.affine,
        height=part.shape[0], width=part.shape[1], tiled=True, blockxsize=16, blockysize=16,
    ) as raster:  # fmt: skip
        raster.write(values)
    server.client.upload_file(str(tmp_path / "tcvis.tif"), bucket, "tcvis_2024.tif", ExtraArgs={"ACL": "public-read"})
    for name, value in {
        "AWS_S3_ENDPOINT": server.endpoint.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    rasters = TcvisRasters(f"s3://{bucket}/tcvis_{{vintage}}.tif")
    chunk = rasters.read_chunk(2024, box)
    for name, band in zip(TCVIS, values, strict=True):
        np.testing.assert_array_equal(chunk.values[name][:64, :32], band)
    assert chunk.sources == ("tcvis_2024.tif",)
    with pytest.raises(RasterError, match=rf"s3://{bucket}/tcvis_2022\.tif cannot be read"):
        rasters.read_chunk(2022, tcvis_spec(2022).grid.chunk_geobox(80, 123))


@pytest.mark.parametrize("catalog", ["s3://bucket/items.json", "s3://bucket/folder", "gs://bucket/catalog.json"])
def test_a_catalog_of_tiles_on_s3_is_refused_with_what_is_possible(catalog: str) -> None:
    with pytest.raises(CubeError, match=rf"{catalog}: expected a path or http"):
        open_catalog(catalog)
