"""Files behind a token service whose tokens live for seconds, read byte by byte and by GDAL."""

import datetime as dt
import http.server
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from darts_assets.errors import SourceUnavailableError
from darts_assets.orchestration.core.resources import SourceAccess
from darts_assets.remote import retry
from darts_assets.remote.byte_reader import ByteReader, S3Options
from darts_assets.remote.sas_tokens import PLANETARY_COMPUTER, SUBSCRIPTION_KEY, is_signed
from darts_assets.sources import ANY_SCENES
from tests.servers.network.file_server import running
from tests.servers.s3.eodata import EPSG, raster

BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/08/W/NB/T08WNB_B02_10m.tif"


@dataclass
class Storage:
    """A container and its token service.

    Attributes:
        url: of both.
        seconds: life of a token.
        stated: life that the service states.
        issued: tokens issued so far.
        refused: requests with an invalid token, or without one.
        keys: subscription keys in requests for tokens.
    """

    url: str = ""
    seconds: float = 1.5
    stated: float = 1.5
    issued: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    is_broken: bool = False

    @property
    def options(self) -> S3Options:
        return S3Options(token_service=f"{self.url}/api/sas/v1/token")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(retry, "BACKOFF", (0.01, 0.02))
    state, names = Storage(), itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/api/sas/v1/token/127/sentinel2-l2":
                return self.issue()
            token = parse_qs(url.query).get("sig", [""])[0]
            if state.issued.get(token, 0) < time.monotonic():
                state.refused.append(url.path)
                return self.reply(403, b"AuthenticationFailed")
            content = (tmp_path / url.path.lstrip("/")).read_bytes()
            if self.command == "HEAD":
                return self.reply(200, content)
            first, _, last = self.headers.get("Range", f"bytes=0-{len(content) - 1}")[6:].partition("-")
            part = content[int(first) : int(last) + 1]
            return self.reply(206, part, f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")

        def issue(self) -> None:
            state.keys.append(self.headers.get("Ocp-Apim-Subscription-Key"))
            if state.is_broken:
                return self.reply(200, b'{"detail": "no token today"}')
            token = f"SECRET%2B{next(names)}"
            state.issued[token.replace("%2B", "+")] = time.monotonic() + state.seconds
            expiry = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=state.stated)
            return self.reply(
                200, json.dumps({"token": f"se=x&sig={token}", "msft:expiry": expiry.isoformat()}).encode()
            )

        def reply(self, status: int, content: bytes, part: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as state.url:
        yield state


def item_of(storage: Storage, folder: Path, side: int = 512) -> tuple[dict[str, Any], np.ndarray]:
    """An item in the layout of the Planetary Computer, and the pixels of its blue band."""
    random = np.random.default_rng(3)
    container = folder / "sentinel2-l2"
    container.mkdir()
    assets = {}
    for band in ("B02", "B03", "B04", "B08", "SCL"):
        res, dtype = (20, np.uint8) if band == "SCL" else (10, np.uint16)
        values = random.integers(1, 12, (side * 10 // res,) * 2).astype(dtype)
        (container / f"{band}.tif").write_bytes(raster(values, res, "COG"))
        assets[band] = {"href": f"{storage.url}/sentinel2-l2/{band}.tif", "type": "image/tiff"}
        if band == "B02":
            blue = values
    properties = {
        "datetime": "2023-06-15T21:00:21.024Z", "proj:epsg": EPSG, "s2:mgrs_tile": "08WNB",
        "s2:processing_baseline": "05.09", "s2:mean_solar_zenith": 45.75, "s2:mean_solar_azimuth": 170.5,
        "s2:product_uri": "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122.SAFE",
    }  # fmt: skip
    name = "S2A_MSIL2A_20230615T210021_R100_T08WNB_20230616T001122"
    return {"type": "Feature", "id": name, "properties": properties, "assets": assets}, blue


def test_which_files_get_a_token() -> None:
    assert is_signed(BLOB, PLANETARY_COMPUTER)
    assert not is_signed(BLOB, None)
    for href in (
        f"{BLOB}?sig=theirs", BLOB.replace("https", "http"), "https://other.org/sentinel2-l2/B02.tif",
        "https://blob.core.windows.net.other.org/B02.tif", "s3://bucket/B02.tif", "/folder/B02.tif",
    ):  # fmt: skip
        assert not is_signed(href, PLANETARY_COMPUTER)
    access = SourceAccess()
    assert access.options_for("planetary_computer").s3.token_service == PLANETARY_COMPUTER
    assert access.options_for("earth_search").s3.token_service is None


def test_a_long_read_renews_its_token(storage: Storage, tmp_path: Path) -> None:
    item, blue = item_of(storage, tmp_path)
    access = SourceAccess(token_service=storage.options.token_service)
    scene = ANY_SCENES.parse(item)
    assert (scene.source, scene.tile, scene.bands["blue"].offset) == ("planetary_computer", "08WNB", -0.1)
    options = access.options_for(scene.source)
    raw = ANY_SCENES.open_raw(scene, ["blue", "s2_scl"], options)
    parts = []
    for first in range(0, 512, 128):
        parts.append(raw["blue"].isel(y=slice(first, first + 128)).values)
        time.sleep(0.6)
    assert np.array_equal(np.concatenate(parts), blue)
    assert 2 <= len(storage.issued) <= 4  # of 1.5 s each, over 2.4 s
    assert not storage.refused
    assert "sig" not in json.dumps(scene.item)


def test_a_token_that_is_refused_is_replaced(storage: Storage, tmp_path: Path) -> None:
    storage.seconds, storage.stated = 0.5, 3600
    item, blue = item_of(storage, tmp_path)
    scene, access = ANY_SCENES.parse(item), SourceAccess(token_service=storage.options.token_service)
    raw = ANY_SCENES.open_raw(scene, ["blue"], access.options_for(scene.source))
    time.sleep(0.6)
    assert np.array_equal(raw["blue"].values, blue)
    assert len(storage.issued) >= 2
    assert storage.refused


def test_bytes(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUBSCRIPTION_KEY, "my key")
    (tmp_path / "sentinel2-l2").mkdir()
    (tmp_path / "sentinel2-l2" / "a.bin").write_bytes(bytes(range(250)) * 1000)
    reader = ByteReader(f"{storage.url}/sentinel2-l2/a.bin", storage.options)
    time.sleep(1.6)
    assert reader.read(200_000, 3) == bytes([0, 1, 2])
    assert (len(storage.issued), storage.refused, set(storage.keys)) == (2, [], {"my key"})


def test_a_service_without_tokens(storage: Storage) -> None:
    storage.is_broken = True
    with pytest.raises(SourceUnavailableError, match="the response is not a token; an object with 'token'"):
        ByteReader(f"{storage.url}/sentinel2-l2/a.bin", storage.options)
    storage.is_broken = False
    storage.seconds = -1
    with pytest.raises(
        SourceUnavailableError, match=r"a\.bin cannot be read: its token was refused .* after 5 attempts"
    ) as caught:
        ByteReader(f"{storage.url}/sentinel2-l2/a.bin", storage.options)
    assert "SECRET" not in str(caught.value)
