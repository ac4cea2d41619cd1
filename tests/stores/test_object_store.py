"""The same code on S3: publishing on a store that honours conditional writes, refusal of one that does not."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import obstore
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, on_grid
from tests.servers.s3.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.servers.s3.rclone_server import Rclone, serving

GRID = GeoBox.from_bbox((500_000, 7_700_000, 506_000, 7_706_000), crs="EPSG:32608", resolution=10)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def bucket(server: S3Server) -> StoreLocation:
    return server.location("root")


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[Rclone]:
    with serving(tmp_path / "served") as running:
        yield running


def stream(value: float) -> TileStream:
    tile = on_grid({"red": np.full(GRID.shape, value, "float32")}, GRID)
    return TileStream(GRID, ("red",), iter([tile]))


def test_a_tile_is_published_and_replaced(bucket: StoreLocation) -> None:
    place = Place(bucket.child("tiles", "scene"))
    assert place.manifest() is None
    for value in (0.1, 0.2):
        write_tile(place, stream(value), metadata={})
        np.testing.assert_allclose(read_tile(place)["red"].values, value, atol=6e-5)
    manifest = place.require()
    versions = {key.split("/")[0] for key in place.location.keys() if "/" in key}  # noqa: SIM118 - not a mapping
    assert versions == manifest.versions | manifest.replaced.keys()
    assert len(versions) == 2


def test_a_window_of_a_band_is_one_request(bucket: StoreLocation, server: S3Server) -> None:
    place = Place(bucket.child("tiles", "scene"))
    server.requests()
    write_tile(place, stream(0.1), metadata={})
    asked = [request for request in server.requests() if "/red/c/" in request]
    assert [request.split()[0] for request in asked] == ["PUT", "PUT"]
    opened = read_tile(place)["red"]
    server.requests()
    np.testing.assert_allclose(opened[:512].values, 0.1, atol=6e-5)
    (request,) = server.requests()
    assert request.endswith("/red/c/0/0 200")


def test_a_slow_reader_reads_the_version_that_it_has_opened_to_its_end(bucket: StoreLocation) -> None:
    place = Place(bucket.child("tiles", "scene"))
    write_tile(place, stream(0.1), metadata={})
    options = {"endpoint_url": bucket.endpoint, "use_listings_cache": False}
    theirs = xr.open_zarr(place.current_url(), storage_options=options)["red"]
    ours = read_tile(place)["red"]
    for opened in (ours, theirs):
        np.testing.assert_allclose(opened[:512].values, 0.1, atol=6e-5)
    for value in (0.2, 0.3):
        write_tile(place, stream(value), metadata={})
    for opened in (ours, theirs):
        np.testing.assert_allclose(opened[512:].values, 0.1, atol=6e-5)


def test_bands_that_are_kept_are_copied_by_the_server(bucket: StoreLocation, server: S3Server) -> None:
    place = Place(bucket.child("tiles", "scene"))
    write_tile(place, stream(0.1), metadata={})
    kept = place.require().contents
    green = TileStream(GRID, ("green",), iter([on_grid({"green": np.full(GRID.shape, 0.2, "float32")}, GRID)]))
    server.requests()
    write_tile(place, green, metadata={}, keep=kept)
    red = [request for request in server.requests() if "/red/c/" in request]
    assert [request.split()[0] for request in red] == ["PUT", "PUT"], "copied, not read"
    for name, value in (("red", 0.1), ("green", 0.2)):
        np.testing.assert_allclose(read_tile(place)[name].values, value, atol=6e-5)


def test_a_failed_write_leaves_nothing(bucket: StoreLocation) -> None:
    place = Place(bucket.child("tiles", "scene"))

    def broken():
        yield stream(0.1).collect().isel(y=slice(0, 520))
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        write_tile(place, TileStream(GRID, ("red",), broken()), metadata={})
    assert list(place.location.keys()) == ["current.json"]
    assert place.manifest() is None


@pytest.fixture
def faults(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize("kind", ["lost", "500", "503", "reset"])
def test_a_pointer_is_written_although_its_requests_fail(
    bucket: StoreLocation, faults: FaultProxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darts_assets.remote.retry.BACKOFF", (0.0, 0.0))
    place = Place(faults.before(bucket.child("tiles", "scene")))
    write_tile(place, stream(0.1), metadata={})
    faults.faults = [Fault(kind, "PUT", r"scene/current\.json", times=1, skip=skip) for skip in (0, 1)]
    write_tile(place, stream(0.2), metadata={})
    assert faults.happened == [kind, kind]
    np.testing.assert_allclose(read_tile(place)["red"].values, 0.2, atol=6e-5)


def test_a_pointer_that_is_cut_short_is_read_again(
    bucket: StoreLocation, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darts_assets.remote.retry.BACKOFF", (0.0, 0.0))
    place = Place(faults.before(bucket.child("tiles", "scene")))
    write_tile(place, stream(0.1), metadata={})
    faults.faults = [Fault("truncated", "GET", r"scene/current\.json", times=2)]
    np.testing.assert_allclose(read_tile(place)["red"].values, 0.1, atol=6e-5)
    assert faults.happened == ["truncated", "truncated"]


def test_a_stalled_writer_does_not_undo_a_later_one(bucket: StoreLocation, faults: FaultProxy) -> None:
    """A's pointer is under way while B starts, publishes and reports success."""
    place = Place(bucket.child("tiles", "scene"))
    write_tile(place, stream(0.1), metadata={})
    slow = Place(faults.before(place.location))
    faults.faults = [Fault("late", "PUT", r"scene/current\.json", seconds=1.0, skip=1)]
    errors: list[Exception] = []

    def write() -> None:
        try:
            write_tile(slow, stream(0.2), metadata={})
        except StoreError as error:
            errors.append(error)

    stalled = threading.Thread(target=write)
    stalled.start()
    while not faults.happened:
        time.sleep(0.01)
    write_tile(place, stream(0.3), metadata={})
    stalled.join()
    assert len(errors) == 1
    assert "another run is writing here" in str(errors[0])
    np.testing.assert_allclose(read_tile(place)["red"].values, 0.3, atol=6e-5)


def test_a_store_without_conditional_writes_is_refused_before_anything_is_written(rclone: Rclone) -> None:
    with pytest.raises(UnsafeStoreError, match="the object store ignores conditional writes"):
        write_tile(Place(rclone.location.child("tiles", "scene")), stream(0.1), metadata={})
    assert rclone.files() == []


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_a_lost_response_is_no_reason_to_refuse_a_store(bucket: StoreLocation, faults: FaultProxy, skip: int) -> None:
    faults.faults = [Fault("lost", "PUT", skip=skip)]
    ensure_safe(faults.before(bucket))
    assert faults.happened == ["lost"]


def in_another_process(location: StoreLocation) -> None:
    code = (
        "import sys; from darts_assets.stores.location import StoreLocation; "
        "from darts_assets.stores.preflight import ensure_safe; ensure_safe(StoreLocation(*sys.argv[1:]))"
    )
    arguments = [location.url, location.endpoint or "", location.region or ""]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=os.environ | CREDENTIALS)


def record_of(location: StoreLocation) -> str:
    (key,) = location.keys()
    return key


def was_tested(requests: list[str]) -> bool:
    """Whether two writers were refused: one that would create, one that would replace."""
    return sum(request.startswith("PUT") and request.endswith("412") for request in requests) == 2


def test_a_store_that_honours_conditional_writes_is_tested_once_and_remembers(
    bucket: StoreLocation, server: S3Server
) -> None:
    server.requests()
    ensure_safe(bucket)
    assert was_tested(server.requests())
    record = record_of(bucket)
    assert record.startswith(".preflight/passed-")
    server.requests()
    ensure_safe(bucket)
    assert server.requests() == []
    in_another_process(bucket)
    assert server.requests() == [f"GET /{bucket.bucket}/root/{record} 200"]
    facts = json.loads(bytes(obstore.get(bucket.objects(), record).bytes()))
    assert (facts["endpoint"], facts["bucket"], facts["prefix"]) == (server.endpoint, bucket.bucket, "root")
    assert "If-None-Match" in facts["proven"]
    assert "If-Match" in facts["proven"]
    assert facts["by"].startswith("darts_assets ")
    assert abs(datetime.fromisoformat(facts["tested"]).timestamp() - time.time()) < 60


def test_what_a_store_remembers_does_not_hold_for_another_place(
    bucket: StoreLocation, server: S3Server, tmp_path: Path
) -> None:
    ensure_safe(bucket)
    record = record_of(bucket)
    body = bytes(obstore.get(bucket.objects(), record).bytes())
    other = S3Server(tmp_path)
    try:
        copied = other.location("root", bucket=bucket.bucket)
        obstore.put(copied.objects(), record, body)
        other.requests()
        ensure_safe(copied)
        assert was_tested(other.requests())
    finally:
        other.stop()
    server.requests()
    ensure_safe(replace(bucket, url=f"{bucket.url}/deeper"))
    assert was_tested(server.requests())


def earlier(facts: dict[str, str]) -> dict[str, str]:
    return facts | {"tested": (datetime.fromisoformat(facts["tested"]) - timedelta(hours=1)).isoformat()}


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts | {"endpoint": "http://elsewhere:9000"},
        lambda facts: facts | {"bucket": "another"},
        lambda facts: facts | {"proven": "something less"},
        earlier,  # as it is when the bucket's content was put into another one behind the same address
        lambda facts: {},
        lambda facts: [facts],
    ],
    ids=["endpoint", "bucket", "test", "copy", "empty", "list"],
)
def test_a_record_that_does_not_fit_is_not_believed(
    bucket: StoreLocation, server: S3Server, change: Callable[[dict[str, str]], object]
) -> None:
    ensure_safe(bucket)
    record = record_of(bucket)
    facts = json.loads(bytes(obstore.get(bucket.objects(), record).bytes()))
    obstore.put(bucket.objects(), record, json.dumps(change(facts)).encode())
    server.requests()
    in_another_process(bucket)
    assert was_tested(server.requests())
    assert record_of(bucket) == record
    in_another_process(bucket)  # what the last one wrote is believed
    assert not was_tested(server.requests())


def test_many_may_test_at_once(bucket: StoreLocation) -> None:
    together, errors = threading.Barrier(8), []

    def test() -> None:
        together.wait()
        try:
            ensure_safe(bucket)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=test) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert record_of(bucket)


@pytest.mark.slow
def test_a_store_that_ignores_conditional_writes_is_refused_until_it_is_repaired(
    rclone: Rclone, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(UnsafeStoreError, match=r"s3://bucket/root: the object store ignores conditional writes"):
            ensure_safe(rclone.location)
        assert rclone.files() == []
    rclone.process.kill()
    rclone.process.wait()
    repaired = S3Server(tmp_path, int(str(rclone.location.endpoint).rpartition(":")[2]))
    try:
        assert repaired.location("root", bucket="bucket") == rclone.location
        ensure_safe(rclone.location)
        assert record_of(rclone.location)
    finally:
        repaired.stop()


def test_a_store_that_does_not_let_us_write_is_a_clear_error(server: S3Server) -> None:
    absent = StoreLocation("s3://no-such-bucket/root", endpoint=server.endpoint, region="us-east-1")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/root: .*: the bucket no-such-bucket does not exist"):
        ensure_safe(absent)


def test_a_local_path_needs_no_proof(tmp_path: Path) -> None:
    ensure_safe(StoreLocation(str(tmp_path / "absent")))
    assert not (tmp_path / "absent").exists()
