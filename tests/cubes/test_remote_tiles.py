"""Tiles over HTTP and from S3: what is fetched, and what happens when that goes wrong."""

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import numpy as np
import psutil
import pytest
import rasterio
import rasterio.shutil
from moto.server import ThreadedMotoServer
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from darts_assets.cubes import ArcticDemTiles, arcticdem_spec
from darts_assets.cubes._raster import OpenRasters, with_raster
from darts_assets.errors import CubeError, RasterError, SourceUnavailableError
from darts_assets.remote import gdal_options, retry
from tests.servers.network.file_server import running, serve_folder
from tests.servers.network.http_proxy import Proxy, proxy_of

pytestmark = pytest.mark.slow

GRID = arcticdem_spec(10).grid
FIRST = GRID.chunk_geobox(200, 300)
SIDE = 6000
MARGIN = 300  # pixels of the tile around the 4 x 4 chunks: no chunk begins where a block does


@pytest.fixture(scope="module")
def cog_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tile of 6000 x 6000 px as cloud optimized GeoTIFFs, blocks of 512, and its item."""
    folder = tmp_path_factory.mktemp("cog")
    affine = FIRST.affine @ FIRST.affine.translation(-MARGIN, -MARGIN)
    noise = np.random.default_rng(3).integers(0, 200, (SIDE, SIDE), dtype="uint8")
    dem = np.linspace(0, 900, SIDE, dtype="float32")[:, np.newaxis] + noise / np.float32(100)
    for name, values, nodata in (("dem", dem, -9999), ("datamask", (noise != 7).astype("uint8"), None)):
        profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": values.dtype}
        with MemoryFile() as memory:
            with memory.open(**profile, crs="EPSG:3413", transform=affine, nodata=nodata) as file:
                file.write(values, 1)
            target = folder / f"a_{name}.tif"
            options = {"blocksize": 512, "compress": "zstd", "level": 1, "overviews": "none"}
            rasterio.shutil.copy(memory.name, target, driver="COG", **options)
    box = GeoBox((SIDE, SIDE), affine, "EPSG:3413").boundingbox
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": "a", "geometry": None, "links": [],
        "properties": {
            "datetime": "2010-01-01T00:00:00Z", "gsd": 10, "proj:code": "EPSG:3413",
            "proj:bbox": [box.left, box.bottom, box.right, box.top],
        },
        "assets": {"dem": {"href": "./a_dem.tif"}, "datamask": {"href": "./a_datamask.tif"}},
    }  # fmt: skip
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    return folder


@pytest.fixture
def web(cog_folder: Path) -> Iterator[Proxy]:
    with serve_folder(cog_folder) as url, proxy_of(url) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.01, 0.01))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


def chunk(row: int, col: int) -> GeoBox:
    return GRID.chunk_geobox(200 + row, 300 + col)


def assert_true(folder: Path, values: np.ndarray, row: int, col: int, name: str = "dem") -> None:
    with rasterio.open(folder / f"a_{name}.tif") as file:
        window = rasterio.windows.Window(MARGIN + col * 1024, MARGIN + row * 1024, 1024, 1024)
        np.testing.assert_array_equal(values, file.read(1, window=window))


def test_a_static_catalog_of_links(cog_folder: Path, web: Proxy) -> None:
    (item,) = json.loads((cog_folder / "items.json").read_text())["features"]
    (cog_folder / "a.json").write_text(json.dumps(item))
    links = [{"rel": "root", "href": "./catalog.json"}, {"rel": "item", "href": "./a.json"}]
    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "dems", "description": "tiles", "links": links}
    (cog_folder / "catalog.json").write_text(json.dumps(catalog))
    web.fail("catalog.json", 503, times=2)
    web.fail("/a.json", "cut")
    (tile,) = ArcticDemTiles(f"{web.url}/catalog.json").under(FIRST)
    assert tile.dem == f"{web.url}/a_dem.tif"
    assert not web.pending
    (cog_folder / "a.json").unlink()
    with pytest.raises(CubeError, match=r"catalog\.json cannot be read as STAC: .*404"):
        ArcticDemTiles(f"{web.url}/catalog.json").under(FIRST)
    web.fail("catalog.json", 503, times=100)
    with pytest.raises(SourceUnavailableError, match=r"catalog\.json failed: HTTP status 503, .* after 5 attempts"):
        ArcticDemTiles(f"{web.url}/catalog.json").under(FIRST)


def test_neighbouring_chunks_fetch_every_block_once(cog_folder: Path, web: Proxy) -> None:
    tiles = ArcticDemTiles(f"{web.url}/items.json")
    tiles.under(FIRST)
    web.requests.clear()
    for row in range(4):
        for col in range(4):
            values = tiles.read_chunk(chunk(row, col)).values
            assert_true(cog_folder, values["dem"], row, col)
            assert_true(cog_folder, values["arcticdem_data_mask"], row, col, "datamask")
    under = 0
    blocks = range(MARGIN // 512, (MARGIN + 4 * 1024 - 1) // 512 + 1)
    for name in ("dem", "datamask"):
        with rasterio.open(cog_folder / f"a_{name}.tif") as file:
            under += sum(int(file.get_tag_item(f"BLOCK_SIZE_{i}_{j}", "TIFF", bidx=1)) for i in blocks for j in blocks)
    headers = [r for r in web.requests if r.headers.get("range", "").startswith("bytes=0-")]
    assert len(headers) == 2  # of dem and datamask, opened once
    fetched = sum(r.sent for r in web.requests if r.method == "GET" and r not in headers)
    assert under <= fetched < 1.01 * under
    assert len(web.requests) < 16 * 6  # three rows of blocks each in two files at most


@pytest.mark.parametrize("way", [429, 500, 503, "drop", "cut"])
@pytest.mark.parametrize("skip", [0, 1])
def test_failures_in_the_middle_are_survived(cog_folder: Path, web: Proxy, way, skip: int) -> None:
    tiles = ArcticDemTiles(f"{web.url}/items.json")
    tiles.under(FIRST)
    web.fail("GET /a_dem.tif", way, times=4, skip=skip)  # 0: from the header on; 1: from the first pixels on
    web.fail("HEAD /a_datamask.tif", way if isinstance(way, int) else "drop", times=3)
    data = tiles.read_chunk(FIRST)
    assert_true(cog_folder, data.values["dem"], 0, 0)
    assert_true(cog_folder, data.values["arcticdem_data_mask"], 0, 0, "datamask")
    web.fail("GET /a_dem.tif", way, times=5)  # the file is open by now
    assert_true(cog_folder, tiles.read_chunk(chunk(0, 1)).values["dem"], 0, 1)
    assert not web.pending


def test_silence_is_not_waited_for(cog_folder: Path, web: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gdal_options.PUBLIC_TILE_OPTIONS, "GDAL_HTTP_TIMEOUT", "1")
    tiles = ArcticDemTiles(f"{web.url}/items.json")
    web.fail("GET /a_dem.tif", "stall", skip=1)
    assert_true(cog_folder, tiles.read_chunk(FIRST).values["dem"], 0, 0)
    assert not web.pending


def test_a_service_that_stays_down(web: Proxy) -> None:
    tiles = ArcticDemTiles(f"{web.url}/items.json")
    tiles.under(FIRST)
    web.requests.clear()
    web.fail("a_dem.tif", 503, times=1000)
    with pytest.raises(SourceUnavailableError, match=r"/a_dem\.tif cannot be read: .*503.*; given up after 5 attempts"):
        tiles.read_chunk(FIRST)
    assert 5 <= len(web.requests) <= 20
    web.heal()
    web.fail("GET /a_dem.tif", 503, times=1000, skip=1)
    with pytest.raises(SourceUnavailableError, match=r"/a_dem\.tif cannot be read: .*; given up after 5 attempts"):
        tiles.read_chunk(FIRST)
    web.heal()
    tiles.read_chunk(FIRST)  # nothing of the failures is remembered


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_final_is_not_tried_again(web: Proxy, status: int) -> None:
    tiles = ArcticDemTiles(f"{web.url}/items.json")
    tiles.under(FIRST)
    web.requests.clear()
    web.fail("a_datamask.tif", status, times=1000)
    with pytest.raises(RasterError, match=rf"/a_datamask\.tif cannot be read: .*{status}"):
        tiles.read_chunk(FIRST)
    assert sum("datamask" in request.path for request in web.requests) <= 2


def test_nobody_answers() -> None:
    with pytest.raises(
        SourceUnavailableError,
        match=r"127\.0\.0\.1:9/403\.tif cannot be read: .* after 1 attempt\. Check the URL",
    ):
        with_raster("http://127.0.0.1:9/403.tif", lambda source: source.read())


def test_rasters_stay_open_for_their_thread_only(tmp_path: Path, raster_writer, make_tile_box) -> None:
    paths = [
        raster_writer(tmp_path / f"{n}.tif", np.full((64, 64), n, dtype="uint8"), make_tile_box(0, 0, 64, 64))
        for n in range(4)
    ]
    process = psutil.Process()

    def opened() -> set[str]:
        return {Path(file.path).name for file in process.open_files()} & {path.name for path in paths}

    rasters = OpenRasters(limit=2)
    seen: list[set[str]] = []
    values: list[int] = []

    def work() -> None:
        for n in (0, 1, 0, 2):
            values.append(int(with_raster(str(paths[n]), lambda source: source.read(1)[0, 0], rasters)))
            seen.append(opened())
        with pytest.raises(ZeroDivisionError):
            with_raster(str(paths[0]), lambda source: 1 / 0, rasters)
        seen.append(opened())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert values == [0, 1, 0, 2]
    # The one used longest ago goes first, and one whose use failed at once.
    assert seen == [{"0.tif"}, {"0.tif", "1.tif"}, {"0.tif", "1.tif"}, {"0.tif", "2.tif"}, {"2.tif"}]
    assert opened() == set()  # closed with the thread, although `rasters` is still there
    assert with_raster(str(paths[3]), lambda source: int(source.read(1)[0, 0]), rasters) == 3


@contextmanager
def redirecting_to(endpoint: str) -> Iterator[str]:
    """Answers as S3 does when a bucket is asked for in a region that it is not in."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bucket = self.path.split("/")[1]
            body = (
                '<?xml version="1.0" encoding="UTF-8"?><Error><Code>PermanentRedirect</Code><Message>The bucket you '
                "are attempting to access must be addressed using the specified endpoint.</Message>"
                f"<Endpoint>{endpoint}</Endpoint><Bucket>{bucket}</Bucket></Error>"
            ).encode()
            self.send_response(301)
            self.send_header("x-amz-bucket-region", "us-west-2")
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def s3(cog_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Proxy, str]]:
    """A public bucket with the tile, behind a proxy, and keys in the environment that are not for it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "MY-KEY", "AWS_SECRET_ACCESS_KEY": "MY-SECRET", "AWS_SESSION_TOKEN": "MY-TOKEN",
        "AWS_REGION": "eu-central-1", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    bucket = f"dems-{uuid.uuid4().hex}"  # GDAL remembers where buckets are
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    for name in ("a_dem.tif", "a_datamask.tif"):
        client.upload_file(str(cog_folder / name), bucket, f"v4.1/{name}", ExtraArgs={"ACL": "public-read"})
    with proxy_of(endpoint) as proxy:
        monkeypatch.setenv("AWS_S3_ENDPOINT", proxy.url.removeprefix("http://"))
        yield proxy, bucket
    server.stop()


def write_items(cog_folder: Path, target: Path, prefix: str) -> ArcticDemTiles:
    target.write_text((cog_folder / "items.json").read_text().replace('"./', f'"{prefix}/'))
    return ArcticDemTiles(str(target))


def test_public_s3_is_read_without_signature(cog_folder: Path, s3: tuple[Proxy, str], tmp_path: Path) -> None:
    proxy, bucket = s3
    tiles = write_items(cog_folder, tmp_path / "items.json", f"s3://{bucket}/v4.1")
    proxy.fail("a_dem.tif", 503, times=2, skip=1)
    data = tiles.read_chunk(FIRST)
    assert_true(cog_folder, data.values["dem"], 0, 0)
    assert_true(cog_folder, data.values["arcticdem_data_mask"], 0, 0, "datamask")
    assert not proxy.pending
    assert proxy.requests
    for request in proxy.requests:
        assert "authorization" not in request.headers
        assert "MY-" not in f"{request.path} {request.headers}"


def test_what_is_not_in_s3_is_named(cog_folder: Path, s3: tuple[Proxy, str], tmp_path: Path) -> None:
    proxy, bucket = s3
    tiles = write_items(cog_folder, tmp_path / "items.json", f"s3://{bucket}/v5")
    with pytest.raises(RasterError, match=rf"s3://{bucket}/v5/a_dem\.tif cannot be read: .*key does not exist"):
        tiles.read_chunk(FIRST)
    assert len(proxy.requests) < 5
    proxy.fail("a_dem.tif", 403, times=1000)
    with pytest.raises(RasterError, match=rf"s3://{bucket}/v5/a_dem\.tif cannot be read: .*403"):
        tiles.read_chunk(FIRST)


def test_a_bucket_in_another_region_is_found(
    cog_folder: Path, s3: tuple[Proxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, bucket = s3
    tiles = write_items(cog_folder, tmp_path / "items.json", f"s3://{bucket}/v4.1")
    with redirecting_to(proxy.url.removeprefix("http://")) as elsewhere:
        monkeypatch.setenv("AWS_S3_ENDPOINT", elsewhere)
        assert_true(cog_folder, tiles.read_chunk(FIRST).values["dem"], 0, 0)
    assert proxy.requests
