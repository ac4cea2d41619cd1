"""Scenes in the layout of CDSE, from a real S3 service on loopback, with all that can go wrong on the way."""

import gc
import hashlib
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import rasterio
from moto.server import ThreadedMotoServer

from darts_assets.errors import RasterError, SettingsError, SourceUnavailableError
from darts_assets.remote import byte_reader, retry
from darts_assets.scene import Scene
from darts_assets.sources import S3Options, fetch, open_raw, parse_item, scene_grid
from darts_assets.sources.rasters import downloads
from tests.servers.network.http_proxy import Proxy, proxy_of
from tests.servers.network.tcp_proxy import tcp_proxy_of
from tests.servers.s3.eodata import Eodata, raster, scene_item

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}
FACTORS = {"blue": 1, "green": 1, "red": 1, "nir": 1, "rededge071": 2, "nir09": 6, "s2_scl": 2}
BANDS = tuple(FACTORS)


@dataclass
class Remote:
    """A scene on S3 behind a proxy, and its pixels."""

    item: dict[str, Any]
    values: dict[str, np.ndarray]
    bucket: Eodata
    proxy: Proxy

    @property
    def scene(self) -> Scene:
        return parse_item(self.item)

    @property
    def s3(self) -> S3Options:
        return S3Options(self.proxy.url, "us-east-1")

    def key(self, asset: str) -> str:
        return f"/{self.bucket.bucket}/{self.bucket.keys[asset]}"

    def asked_for(self, asset: str) -> list[str | None]:
        """The ranges of the requests for a file."""
        return [r.headers.get("range") for r in self.proxy.requests if r.path == self.key(asset)]


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for copies that is ours alone."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def made_bands() -> dict[str, tuple[np.ndarray, bytes]]:
    """Asset -> pixels and JPEG 2000 file."""
    random = np.random.default_rng(3)
    assets = ["B02_10m", "B03_10m", "B04_10m", "B08_10m", "B05_20m", "B09_60m", "SCL_20m"]
    made = {}
    for asset in assets:
        side = 2400 // int(asset[-3:-1])
        high, dtype = (12, np.uint8) if asset.startswith("SCL") else (12000, np.uint16)
        values = random.integers(0, high, (side, side)).astype(dtype)
        made[asset] = values, raster(values, int(asset[-3:-1]), "JP2OpenJPEG")
    return made


@pytest.fixture
def proxy(service: str) -> Iterator[Proxy]:
    with proxy_of(service) as running:
        yield running


@pytest.fixture
def new_scene(service: str, proxy: Proxy, made_bands: dict[str, tuple[np.ndarray, bytes]]) -> Callable[[], Remote]:
    """Puts a scene into a bucket of its own."""

    def put() -> Remote:
        bucket = Eodata(boto3.client("s3", endpoint_url=service))
        assets = {name: bucket.asset(name, content) for name, (_, content) in made_bands.items()}
        values = {band: made_bands[asset][0] for band, asset in zip(BANDS, made_bands, strict=True)}
        return Remote(scene_item(assets), values, bucket, proxy)

    return put


@pytest.fixture
def remote(new_scene: Callable[[], Remote]) -> Remote:
    return new_scene()


def assert_right(remote: Remote, dataset: Any, bands: tuple[str, ...] = BANDS) -> None:
    for name in bands:
        expected = remote.values[name].repeat(FACTORS[name], 0).repeat(FACTORS[name], 1)
        assert np.array_equal(np.asarray(dataset[name].values), expected), name


def left_behind(folder: Path) -> list[Path]:
    gc.collect()
    return list(folder.rglob("*"))


def test_all_bands_come_out_as_they_are(remote: Remote, temporary: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="darts_assets"):
        stream = fetch(remote.scene, BANDS, s3=remote.s3, window_rows=64)
    assert len(list(temporary.rglob("*.jp2"))) == 7
    assert_right(remote, stream.collect())
    # A look and one request for the whole: nothing is read by ranges.
    assert all(remote.asked_for(asset) == ["bytes=0-65535", None] for asset in remote.bucket.keys)
    assert stream.attrs["checksums"] == {
        band: remote.item["assets"][asset]["file:checksum"]
        for band, asset in zip(BANDS, remote.bucket.keys, strict=True)
    }
    assert stream.attrs["item_updated"] == "2023-06-16T03:00:00Z"
    told = [record.message for record in caplog.records if "downloaded" in record.message]
    assert len(told) == 7
    assert re.fullmatch(rf"scene {remote.scene.id}: 7 of 7 files downloaded, \d+ of \d+ MB", told[-1])
    del stream
    assert not left_behind(temporary)


def test_lazy_pixels_keep_their_copies(remote: Remote, temporary: Path) -> None:
    raw = open_raw(remote.scene, ("blue", "nir09"), s3=remote.s3)
    part = raw[["blue"]].isel(y=slice(10, 20))
    del raw
    gc.collect()
    assert np.array_equal(part["blue"].values, remote.values["blue"][10:20])
    assert len(list(temporary.rglob("*.jp2"))) == 2
    del part
    assert not left_behind(temporary)


def test_a_stream_that_nobody_reads_leaves_nothing(remote: Remote, temporary: Path) -> None:
    stream = fetch(remote.scene, ("blue",), s3=remote.s3)
    del stream
    assert not left_behind(temporary)


def test_the_grid_alone_needs_no_download(remote: Remote, temporary: Path) -> None:
    assert scene_grid(remote.scene, ("blue", "green"), remote.s3).shape == (240, 240)
    assert None not in remote.asked_for("B02_10m")
    assert not left_behind(temporary)


def test_a_real_band(remote: Remote, real_jp2: Path) -> None:
    content = real_jp2.read_bytes()
    asset = remote.bucket.asset("B02_10m", content) | {"proj:code": "EPSG:32631"}
    del asset["proj:shape"], asset["proj:transform"]
    scene = parse_item({**remote.item, "assets": {f"B{n}_10m": asset for n in ("02", "03", "04", "08")}})
    stream = fetch(scene, ("blue",), s3=remote.s3)
    with rasterio.open(real_jp2) as file:
        assert np.array_equal(stream.collect()["blue"].values, file.read(1))
    assert stream.attrs["checksums"] == {"blue": "1620" + hashlib.sha3_256(content).hexdigest()}


@pytest.mark.parametrize("times", [1, 2])
def test_a_broken_download_goes_on_where_it_broke_off(
    remote: Remote, times: int, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_reader, "_CHUNK", 1024)
    remote.proxy.fail(remote.key("B02_10m"), "cut", skip=1, times=times)
    assert_right(remote, fetch(remote.scene, BANDS, s3=remote.s3).collect())
    size, start, expected = remote.item["assets"]["B02_10m"]["file:size"], 0, []
    for _ in range(times):
        start += (size - start) // 2 // 1024 * 1024
        expected.append(f"bytes={start}-")
    assert remote.asked_for("B02_10m") == ["bytes=0-65535", None, *expected]
    assert not left_behind(temporary)


@pytest.mark.parametrize("way", ["cut", "drop", 503])
def test_always_broken(remote: Remote, temporary: Path, monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    remote.proxy.fail(remote.key("B02_10m"), way, skip=1, times=99)
    with pytest.raises(SourceUnavailableError) as raised:
        fetch(remote.scene, BANDS, s3=remote.s3)
    assert f"scene {remote.scene.id}, band blue, file s3://{remote.bucket.bucket}/" in str(raised.value)
    assert str(raised.value).endswith("given up after 5 attempts")
    del raised
    assert not left_behind(temporary)


def test_the_service_is_asked_again_as_late_as_it_wants(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    remote.proxy.fail(remote.key("B02_10m"), 429, Retry_After="2")
    remote.proxy.fail(remote.key("B03_10m"), 503, skip=1, Retry_After="3")
    assert_right(remote, fetch(remote.scene, BANDS, s3=remote.s3).collect())
    words = {re.sub(".*_B", "B", record.message) for record in caplog.records if record.levelno == logging.WARNING}
    assert words == {
        "B02_10m.jp2 cannot be read: HTTP 429 Too Many Requests; attempt 2 of 5 follows in 2 s",
        "B03_10m.jp2 cannot be read: HTTP 503 Service Unavailable; attempt 2 of 5 follows in 3 s",
    }


def test_nobody_waits_for_hours(remote: Remote) -> None:
    remote.proxy.fail(remote.key("B02_10m"), 429, times=2, Retry_After="7200")
    with pytest.raises(SourceUnavailableError, match="because the service asks to wait 7200 s"):
        fetch(remote.scene, BANDS, s3=remote.s3)
    assert len(remote.asked_for("B02_10m")) == 1


def test_reads_by_ranges_wait_too(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    remote.item["assets"]["B02_10m"] = remote.bucket.asset("B02_10m", raster(remote.values["blue"], 10, "COG"), "tif")
    stream = fetch(remote.scene, ("blue",), s3=remote.s3)
    assert "checksums" not in stream.attrs  # nobody has seen the whole file
    # GDAL's read fails, and so does the question of how the service is, which then waits.
    remote.proxy.fail(f"{remote.key('B02_10m')} bytes=0-16383", 429)
    remote.proxy.fail(f"{remote.key('B02_10m')} bytes=0-65535", 429, Retry_After="2")
    caplog.clear()
    assert_right(remote, stream.collect(), ("blue",))
    asked, repeated = [record.message for record in caplog.records if "attempt" in record.message]
    assert asked.endswith("HTTP 429 Too Many Requests; attempt 2 of 5 follows in 2 s")
    assert "band blue, file s3://" in repeated


def test_a_file_that_changes_meanwhile_is_read_anew(
    remote: Remote, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of one version never meets the second half of another."""
    monkeypatch.setattr(byte_reader, "_CHUNK", 1024)
    old = raster(remote.values["blue"], 10, "JP2OpenJPEG")
    new = raster(remote.values["blue"][::-1].copy(), 10, "JP2OpenJPEG")
    asset = remote.item["assets"]["B02_10m"]
    asset |= {"file:size": None, "file:checksum": None}
    size = max(len(old), len(new))
    padded = [
        content + struct.pack(">I4s", 8 + size - len(content), b"free") + bytes(size - len(content))
        for content in (old, new)
    ]
    remote.bucket.asset("B02_10m", padded[0])
    remote.proxy.fail(remote.key("B02_10m"), "cut", skip=1)

    class Replaced(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "attempt 2" in record.getMessage():
                remote.bucket.asset("B02_10m", padded[1])

    handler = Replaced()
    logging.getLogger("darts_assets.remote.retry").addHandler(handler)
    try:
        tile = fetch(remote.scene, ("blue",), s3=remote.s3).collect()
    finally:
        logging.getLogger("darts_assets.remote.retry").removeHandler(handler)
    assert np.array_equal(tile["blue"].values, remote.values["blue"][::-1])
    assert [r.status for r in remote.proxy.requests if r.path == remote.key("B02_10m")] == [206, 200, 412, 200]
    assert any("the file changed during the download" in record.message for record in caplog.records)


def test_other_contents_than_promised(remote: Remote, temporary: Path) -> None:
    promised = remote.item["assets"]["B03_10m"]["file:checksum"]
    content = raster(remote.values["green"] + np.uint16(1), 10, "JP2OpenJPEG")
    remote.item["assets"]["B03_10m"] = remote.bucket.asset("B03_10m", content) | {"file:checksum": promised}
    scene, found = remote.scene, hashlib.sha3_256(content).hexdigest()
    for read in (fetch, open_raw):
        with pytest.raises(RasterError) as raised:
            read(scene, BANDS, s3=remote.s3)
        assert str(raised.value) == (
            f"scene {scene.id}, band green, file {scene.bands['green'].href} is damaged: its sha3_256 is {found}, "
            f"its item states {promised[4:]}"
        )
        del raised
    assert not left_behind(temporary)
    assert_right(remote, fetch(scene, ("blue",), s3=remote.s3).collect(), ("blue",))


@pytest.mark.parametrize("sized", [True, False])
def test_cut_on_the_server(remote: Remote, sized: bool, temporary: Path) -> None:
    content = raster(remote.values["green"], 10, "JP2OpenJPEG")
    asset = remote.bucket.asset("B03_10m", content[:-700] + content[-2:])  # a whole end, but not all tiles
    remote.item["assets"]["B03_10m"] = asset | {"file:size": len(content) if sized else None, "file:checksum": None}
    with pytest.raises(RasterError, match=rf"band green, file s3://.* is truncated{'' if sized else ' or damaged'}: "):
        fetch(remote.scene, BANDS, s3=remote.s3)
    assert (None in remote.asked_for("B02_10m")) == (not sized)  # a wrong size is seen before anything is fetched
    assert not left_behind(temporary)


def test_no_room(remote: Remote, temporary: Path) -> None:
    with pytest.raises(SettingsError, match=r"copies of its files need 1000000000 MB, .* MB left; set TMPDIR"):
        downloads._check_room(remote.scene, temporary, 10**15)


@pytest.mark.parametrize("most", [4, 1])
def test_one_process_keeps_to_its_connections(new_scene: Callable[[], Remote], proxy: Proxy, most: int) -> None:
    """8 scenes at once, copies and reads by ranges, from a service that keeps connections open."""
    scenes = [new_scene() for _ in range(8)]
    for scene in scenes:
        for band, asset in (("blue", "B02_10m"), ("green", "B03_10m")):
            scene.item["assets"][asset] = scene.bucket.asset(asset, raster(scene.values[band], 10, "COG"), "tif")
    with tcp_proxy_of(proxy.url) as counter, ThreadPoolExecutor(8) as pool:
        s3 = S3Options(counter.url, "us-east-1", connections=most)
        tiles = pool.map(lambda scene: fetch(scene.scene, BANDS, s3=s3, window_rows=64).collect(), scenes)
        for scene, tile in zip(scenes, tiles, strict=True):
            assert_right(scene, tile)
        assert counter.peak == most
        assert counter.total > 8 * 12
        # None is kept open for later; the proxy takes a moment to notice.
        for _ in range(1000):
            if counter.open:
                time.sleep(0.01)
        assert counter.open == 0


def test_processes_share_what_a_pool_gives_them(remote: Remote, tmp_path: Path) -> None:
    """Four slots of a pool, of one connection each."""
    item = tmp_path / "item.json"
    item.write_text(json.dumps(remote.item))
    script = (
        "import sys\n"
        "from darts_assets.sources import S3Options, fetch, parse_item, read_item\n"
        "scene = parse_item(read_item(sys.argv[1]))\n"
        "s3 = S3Options(sys.argv[2], 'us-east-1', connections=1)\n"
        "for _ in range(3):\n"
        "    print(int(fetch(scene, list(scene.bands), s3=s3).collect()['blue'].sum()))\n"
    )
    with tcp_proxy_of(remote.proxy.url) as proxy:
        runs = [
            subprocess.Popen([sys.executable, "-c", script, str(item), proxy.url], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        said = [run.communicate(timeout=120)[0].split() for run in runs]
        assert 1 < proxy.peak <= 4
    assert said == [[str(int(remote.values["blue"].sum()))] * 3] * 4


def test_a_killed_download_is_removed_by_the_next(remote: Remote, temporary: Path, tmp_path: Path) -> None:
    item = tmp_path / "item.json"
    item.write_text(json.dumps(remote.item))
    script = (
        "import sys\n"
        "from darts_assets.sources import S3Options, fetch, parse_item, read_item\n"
        "fetch(parse_item(read_item(sys.argv[1])), ['blue'], s3=S3Options(sys.argv[2], 'us-east-1'))\n"
    )
    with tcp_proxy_of(remote.proxy.url) as proxy:
        proxy.stall_after = 80_000  # the look passes, the file does not
        environment = {**os.environ, "TMPDIR": str(temporary)}
        run = subprocess.Popen([sys.executable, "-c", script, str(item), proxy.url], env=environment)
        assert proxy.stalled.wait(60)
        # Someone else's copies are left alone while they are in use.
        fetch(remote.scene, ("green",), s3=remote.s3)
        gc.collect()
        (part,) = temporary.rglob("*.jp2")
        assert part.stat().st_size < remote.item["assets"]["B02_10m"]["file:size"]
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert part.exists()
    fetch(remote.scene, ("green",), s3=remote.s3)
    assert not left_behind(temporary)
