"""The same cube on an object store."""

import threading
import uuid
from collections.abc import Callable, Iterator

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ChunkData, Cube, arcticdem_spec, ensure
from darts_assets.errors import MissingChunksError
from darts_assets.stores.location import StoreLocation

Read = Callable[[GeoBox], ChunkData]


@pytest.fixture
def location(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    bucket = uuid.uuid4().hex  # the servers of a process share their contents
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    yield StoreLocation(f"s3://{bucket}/darts/aux/arcticdem_10m.icechunk", endpoint=endpoint, region="us-east-1")
    server.stop()


def test_fill_and_read(location: StoreLocation, read_surface: Read, make_surface) -> None:
    cube = Cube(location, arcticdem_spec(10))
    keys = [cube.spec.grid.key(100, col) for col in range(200, 204)]
    assert cube.missing(keys) == keys
    filled = ensure(cube, keys[:3], read_surface, message="run", workers=2)
    assert [f.key for f in filled] == keys[:3]
    assert all(f.bytes > 1000 for f in filled)
    fresh = Cube(location, arcticdem_spec(10))
    assert fresh.missing(keys) == keys[3:]
    box = cube.spec.grid.geobox[100 * 1024 + 100 : 100 * 1024 + 400, 201 * 1024 - 50 : 202 * 1024 + 50]
    np.testing.assert_allclose(fresh.window(box).dem, make_surface(box), atol=0.00502)
    with pytest.raises(MissingChunksError, match="10m-r0100-c0203"):
        fresh.window(cube.spec.grid.chunk_geobox(100, 203))
    leftovers = boto3.client("s3", endpoint_url=location.endpoint).list_objects_v2(
        Bucket=location.bucket, Prefix="darts/aux/."
    )
    assert leftovers["KeyCount"] == 0


def test_many_writers_at_once(location: StoreLocation, read_surface: Read, make_surface) -> None:
    grid = arcticdem_spec(10).grid
    keys = [grid.key(100 + row, 200 + col) for row in range(2) for col in range(4)]
    errors: list[BaseException] = []
    filled: list[str] = []
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()  # all of them create the cube
        try:
            done = ensure(Cube(location, arcticdem_spec(10)), keys, read_surface, message="run", workers=2)
            filled.extend(f.key for f in done)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(filled) == keys
    box = grid.geobox[100 * 1024 : 102 * 1024, 200 * 1024 : 204 * 1024]
    np.testing.assert_allclose(Cube(location, arcticdem_spec(10)).window(box).dem, make_surface(box), atol=0.00502)
