"""Limits of responses, in each of their readers."""

import http.server
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from darts_assets.cubes._raster import with_raster
from darts_assets.errors import DartsError, SourceUnavailableError, TooLargeError
from darts_assets.remote import responses
from darts_assets.remote.byte_reader import ByteReader, RemoteFile, S3Options, read_bytes
from darts_assets.remote.responses import GuardedSession, is_private
from darts_assets.remote.stac_client import RateLimitedStacIO
from tests.servers.network.file_server import running

BODY = b'{"a": "' + b"b" * 1000 + b'"}'


@contextmanager
def served(location: str = "", pause: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """A server that redirects everything but `/end`, or sends `BODY` slowly; yields its URL and the paths requested."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            redirects = bool(location) and self.path != "/end"
            self.send_response(302 if redirects else 200)
            self.send_header("Location", location) if redirects else None
            self.send_header("Content-Length", str(0 if redirects else len(BODY)))
            self.end_headers()
            for part in () if redirects else (BODY[:500], BODY[500:]):
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(pause)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, paths


def saved(url: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        RemoteFile(url, S3Options()).save(Path(folder, "a"), size)


READERS: dict[str, Callable[[str], object]] = {
    "document": read_bytes,
    "file": ByteReader,
    "download": lambda url: saved(url, len(BODY)),
    "catalog": lambda url: RateLimitedStacIO().read_json(url),
    "tile": lambda url: with_raster(url, lambda raster: raster.read()),
}


@pytest.mark.parametrize("reader", READERS)
def test_redirects_to_private_addresses(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as (private, reached), served(location=f"{private}/end") as (public, _):
        hosts = {private: True, public: False}
        monkeypatch.setattr(responses, "is_private", lambda url: hosts[url.rpartition("/")[0]])
        with pytest.raises(SourceUnavailableError, match=r"redirects to a private address, which is not followed"):
            READERS[reader](f"{public}/a")
        assert not reached


def test_redirects_of_private_services(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as (elsewhere, _), served(location=f"{elsewhere}/end") as (private, _):
        assert read_bytes(f"{private}/a") == BODY


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("localhost", True), ("10.1.2.3", True), ("169.254.169.254", True), ("100.64.0.1", True),
        ("[::1]", True), ("[fd00::1]", True), ("[::ffff:10.0.0.1]", True), ("0.0.0.0", True), ("2130706433", True),
        ("8.8.8.8", False), ("[2001:4860:4860::8888]", False), ("host.invalid", False),
    ],
)  # fmt: skip
def test_private_addresses(host: str, expected: bool) -> None:
    assert is_private(f"http://{host}:80/a") == expected


def test_redirects_to_public_addresses_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    response = requests.Response()
    response.status_code, response.url = 302, "https://8.8.8.8/a"
    response.headers["Location"] = "/b"
    assert GuardedSession().get_redirect_target(response) == "/b"


@pytest.mark.parametrize("reader", ["document", "download", "catalog"])
def test_size(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_assets.remote.stac_client.MAX_PAGE_BYTES", 900)
    read = {**READERS, "document": lambda url: read_bytes(url, most=900)}
    read["download"] = lambda url: saved(url, 900)
    with served() as (url, paths):
        with pytest.raises(TooLargeError, match=r"/a has more than 900 bytes"):
            read[reader](f"{url}/a")
        assert len(paths) == 1


def test_size_of_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(BODY)
    with pytest.raises(TooLargeError, match=r"a\.json has more than 900 bytes"):
        read_bytes(str(tmp_path / "a.json"), most=900)


@pytest.mark.parametrize("reader", ["document", "download", "catalog"])
def test_time(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(responses, "SLOWEST", 10**12)
    monkeypatch.setattr(responses, "_CHUNK", 400)
    monkeypatch.setattr("darts_assets.remote.byte_reader._CHUNK", 400)
    with served(pause=0.05) as (url, paths):
        with pytest.raises(DartsError, match=r"/a is not complete after 0 s"):
            READERS[reader](f"{url}/a")
        assert len(paths) == 1


def test_links_of_a_public_catalog_to_private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as (private, reached), served() as (public, _):
        hosts = {private: True, public: False}
        monkeypatch.setattr("darts_assets.remote.stac_client.is_private", lambda url: hosts[url.rpartition("/")[0]])
        catalog = RateLimitedStacIO()
        catalog.read_json(f"{public}/a")
        with pytest.raises(SourceUnavailableError, match=r"a link leads to .*, a private address"):
            catalog.read_json(f"{private}/end")
        assert not reached
        RateLimitedStacIO().read_json(f"{private}/end")
        assert reached
