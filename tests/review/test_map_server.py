"""The server of the map over HTTP: files with ranges, the endpoint of verdicts, and what it refuses."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest
import uvicorn

from darts_assets.errors import SettingsError
from darts_assets.review.map_server import (
    API,
    LARGEST_BODY,
    PAGE,
    checked_token,
    has_page,
    is_loopback,
    listening,
    map_application,
    new_token,
    url_of,
)
from darts_assets.review.verdict_store import read_point_verdicts, read_verdicts
from darts_assets.stores.location import StoreLocation
from tests.review.verdict_samples import point_record, record
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

TOKEN = "a-token-of-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
CONTENT = bytes(range(256)) * 10


class Site:
    """A server in a thread, and requests to it that are sent as they are."""

    def __init__(self, root: StoreLocation, token: str | None = TOKEN) -> None:
        self.root, self._socket = root, listening("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        application = map_application(root, token=token)
        self._server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def request(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None and "Content_Length" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def api(self, method: str = "GET", body: Any = None, query: str = "", **headers: str) -> tuple[int, Any]:
        sent = {name.replace("-", "_"): value for name, value in (AUTHORIZED | headers).items() if value}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, received, answer = self.request(API + query, method, content, **sent)
        assert received["cache-control"] == "no-store"
        assert received["content-type"] == "application/json"
        return status, json.loads(answer)


def filled(root: StoreLocation) -> StoreLocation:
    objects = root.objects()
    for key in ("catalog/map/index.html", "catalog/map/app.js", "inventory/slumps/v/sites.parquet", "scenes/a/b.json"):
        obstore.put(objects, key, CONTENT)
    obstore.put(root.child("products").objects(), "sentinel2/scene/v/a b.tif", CONTENT)
    for key in ("raw/secret.zarr", "review/verdicts/secret.txt", "catalog/.hidden/secret", "top.json"):
        obstore.put(objects, key, b"classified")
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreLocation:
    folder = tmp_path_factory.mktemp("map")
    elsewhere = ("products", StoreLocation(str(folder / "elsewhere")))
    root = filled(replace(StoreLocation(str(folder / "store")), rooms=(elsewhere,)))
    (folder / "outside.txt").write_text("classified")
    catalog = folder / "store" / "catalog"
    (catalog / "outside.txt").symlink_to(folder / "outside.txt")
    (catalog / "up").symlink_to(folder)
    (catalog / "hidden").symlink_to(catalog / ".hidden")
    (catalog / "latest").symlink_to("map", target_is_directory=True)
    return root


@pytest.fixture(scope="module")
def site(store: StoreLocation) -> Iterator[Site]:
    running = Site(store)
    yield running
    running.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    running = Site(StoreLocation(str(tmp_path)))
    yield running
    running.stop()


def test_files_of_the_four_folders_are_served_with_their_type_and_headers(site: Site) -> None:
    kinds = {
        PAGE: "text/html; charset=utf-8",
        "/catalog/map/app.js": "text/javascript; charset=utf-8",
        "/catalog/latest/app.js?v=1": "text/javascript; charset=utf-8",
        "/inventory/slumps/v/sites.parquet": "application/vnd.apache.parquet",
        "/scenes/a/b.json": "application/json",
        "/products/sentinel2/scene/v/a%20b.tif": "image/tiff; application=geotiff",
    }
    for path, kind in kinds.items():
        status, headers, body = site.request(path)
        assert (status, body, headers["content-type"]) == (200, CONTENT, kind)
        assert headers["accept-ranges"] == "bytes"
        assert site.request(path, If_None_Match=headers["etag"])[0] == 304
        assert site.request(path, "HEAD")[1]["content-length"] == str(len(CONTENT))
    status, headers, _ = site.request("/?review")
    assert (status, headers["location"]) == (307, f"{PAGE}?review")


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def either(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> Iterator[Site]:
    if request.param == "path":
        yield site
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    running = Site(filled(server.location("root")))
    yield running
    running.stop()
    server.stop()


def test_a_range_of_the_version_that_a_client_has(either: Site) -> None:
    """Browsers ask so if they have a part of the file; the whole of a changed file would be read otherwise."""
    path = "/inventory/slumps/v/sites.parquet"
    tag = either.request(path)[1]["etag"]
    same = {"Range": "bytes=2-5", "If_Range": tag}
    status, headers, body = either.request(path, **same)
    assert (status, body, headers["content-range"]) == (206, CONTENT[2:6], f"bytes 2-5/{len(CONTENT)}")
    for other in ('"another"', "Sat, 29 Oct 1994 19:43:31 GMT", f"W/{tag}"):
        assert either.request(path, **same | {"If_Range": other})[::2] == (200, CONTENT), other


def test_ranges(either: Site) -> None:
    path, size = "/inventory/slumps/v/sites.parquet", len(CONTENT)
    parts = {"0-99": (0, 100), "100-": (100, size), "-100": (size - 100, size), "0-999999": (0, size)}
    for span, (start, end) in parts.items():
        status, headers, body = either.request(path, Range=f"bytes={span}")
        assert (status, body) == (206, CONTENT[start:end])
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert headers["content-length"] == str(end - start)
    for ignored in ("bytes=5-1", "bytes=-", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b"):
        assert either.request(path, Range=ignored)[::2] == (200, CONTENT)
    for outside in (f"bytes={size}-", f"bytes={size}-{size + 5}"):
        status, headers, _ = either.request(path, Range=outside)
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
    assert has_page(either.root)
    assert not has_page(either.root.child("nothing"))
    status, headers, body = either.request(path)
    assert (status, body) == (200, CONTENT)
    assert either.request(path, If_None_Match=headers["etag"])[0] == 304
    status, headers, body = either.request(path, "HEAD")
    assert (status, headers["content-length"], body) == (200, str(size), b"")
    assert either.request("/inventory/nothing")[0] == 404
    assert either.request("/inventory/nothing", Range="bytes=0-5")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/top.json", "/raw/secret.zarr", "/review/verdicts/secret.txt", "/catalog", "/catalog/", "/catalog/map",
        "/catalog/map/", "/catalog/../top.json", "/catalog/%2e%2e/top.json", "/catalog/%2E%2E%2Ftop.json",
        "/catalog/..%2ftop.json", "/catalog/map%2findex.html", "/catalog/map%5cindex.html", "/catalog/map\\index.html",
        "/catalog/..\\top.json", "/catalog/%252e%252e/top.json", "//catalog/map/index.html", "/catalog//map/index.html",
        "/./catalog/map/index.html", "/catalog/./map/index.html", "/catalog/.hidden/secret",
        "/catalog/%2ehidden/secret",
        "/catalog/outside.txt", "/catalog/up/outside.txt", "/catalog/hidden/secret", "/catalog/map/index.html%00",
        "/catalog/map/%ff", "/catalog/map/index.html/x", "/CATALOG/map/index.html", "/etc/passwd",
        "/catalog/%2fetc%2fpasswd", "/catalog//etc/passwd", "/catalog/map/index.html%0d%0aX-Own:%201",
        "/%2e%2e/top.json",
        "/catalog/" + "a" * 300, "/api/verdicts/x", "/api/../raw/secret.zarr",
    ],
)  # fmt: skip
def test_nothing_else_is_served(site: Site, path: str) -> None:
    status, headers, body = site.request(path)
    assert status == 404
    assert b"classified" not in body
    assert headers["content-type"] == "application/json"
    assert "x-own" not in headers
    assert len(json.loads(body)["error"]) < 400


def test_files_are_read_only(site: Site) -> None:
    for method in ("PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
        assert site.request("/catalog/map/app.js", method, b"x", **{"Content_Type": "text/plain"})[0] == 405
    assert site.request("/catalog/map/app.js")[2] == CONTENT


def test_every_answer_has_the_headers_that_protect_the_page(site: Site) -> None:
    for path in (PAGE, "/nothing", API, "/?review"):
        _, headers, _ = site.request(path, Origin="http://evil.example")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert not any(name.startswith("access-control-") for name in headers)
    status, headers, _ = site.request(
        API, "OPTIONS", Origin="http://evil.example", Access_Control_Request_Method="POST"
    )
    assert status == 405
    assert not any(name.startswith("access-control-") for name in headers)


def test_a_server_on_loopback_answers_no_other_host_name(site: Site) -> None:
    for host in (
        "evil.example",
        f"evil.example:{site.port}",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "[::1",
        "",
        "10.0.0.1",
    ):
        assert site.request(PAGE, Host=host)[0] == 421
        assert site.request(API, Host=host, Authorization=AUTHORIZED["Authorization"])[0] == 421
    for host in ("localhost", f"localhost:{site.port}", "127.0.0.1", f"[::1]:{site.port}", "LOCALHOST"):
        assert site.request(PAGE, Host=host)[0] == 200
    assert [is_loopback(host) for host in ("localhost", "127.1.2.3", "::1", "0.0.0.0", "::", "example.org")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_verdicts_are_stored_and_returned_as_text(fresh: Site) -> None:
    ada = record(
        reviewer="<script>alert(1)</script>", note="\"><img src=x onerror=alert(1)>\n'; DROP TABLE", slump_id="a"
    )
    bo = record(reviewer="Bo & Zoë", slump_id="a", verdict="no")
    assert fresh.api("POST", {"verdicts": [ada, bo]}) == (201, {"stored": 2})
    assert fresh.api("POST", {"verdicts": [ada, record(reviewer="Bo & Zoë", slump_id="b")]}) == (201, {"stored": 1})
    assert fresh.api("POST", {"verdicts": []}) == (201, {"stored": 0})
    query = "?reviewer=%3Cscript%3Ealert(1)%3C/script%3E"
    assert fresh.api(query=query) == (200, {"verdicts": [ada]})
    status, answer = fresh.api(query="?reviewer=Bo%20%26%20Zo%C3%AB")
    assert (status, {each["slump_id"] for each in answer["verdicts"]}) == (200, {"a", "b"})
    assert fresh.api(query="?reviewer=nobody") == (200, {"verdicts": []})
    later = bo | record(reviewer="Bo & Zoë", slump_id="a", time="2026-07-03T00:00:00Z", verdict="yes")
    fresh.api("POST", {"verdicts": [later]})
    _, answer = fresh.api(query="?reviewer=Bo%20%26%20Zo%C3%AB")
    assert later in answer["verdicts"]
    assert bo not in answer["verdicts"]
    stored = b"".join(path.read_bytes() for path in fresh.root.path.rglob("*.jsonl"))
    assert TOKEN.encode() not in stored
    assert len(read_verdicts(fresh.root)) == 4


def test_verdicts_about_points_go_through_the_same_endpoint_to_a_table_of_their_own(fresh: Site) -> None:
    point, slump = point_record(), record()
    assert fresh.api("POST", {"verdicts": [point, slump]}) == (201, {"stored": 2})
    assert fresh.api("POST", {"verdicts": [point]}) == (201, {"stored": 0})
    _, answer = fresh.api(query="?reviewer=Ada")
    assert sorted(answer["verdicts"], key=lambda each: "sample_id" in each) == [slump, point]
    assert [each.record() for each in read_verdicts(fresh.root)] == [slump]
    assert [each.record() for each in read_point_verdicts(fresh.root)] == [point]
    later = point_record(verdict="no", time="2026-07-03T12:00:00Z")
    fresh.api("POST", {"verdicts": [later]})
    _, answer = fresh.api(query="?reviewer=Ada")
    assert [each for each in answer["verdicts"] if "sample_id" in each] == [later]


def test_the_endpoint_needs_the_token(fresh: Site) -> None:
    body = {"verdicts": [record()]}
    for wrong in (
        "",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"bearer {TOKEN}",
        TOKEN,
        "Bearer ",
        "Basic YTpi",
        "Bearer é",
    ):
        for method in ("GET", "POST"):
            status, answer = fresh.api(method, body, "?reviewer=Ada", Authorization=wrong)
            assert (status, answer) == (401, {"error": "the token is missing or wrong"})
    assert fresh.request(f"{API}?reviewer=Ada&token={TOKEN}")[0] == 401
    assert read_verdicts(fresh.root) == []


def test_the_endpoint_refuses_what_is_not_its_table(fresh: Site) -> None:
    good = json.dumps({"verdicts": [record()]}).encode()
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert fresh.api("POST", good, **{"Content-Type": kind})[0] == 415
    for body in (
        b"",
        b"{}",
        b"[]",
        b"<html>",
        good + b"x",
        {"verdicts": [record(more=1)]},
        {"verdicts": [record(), 5]},
    ):
        status, answer = fresh.api("POST", body)
        assert (status, list(answer)) == (400, ["error"])
    assert fresh.api("POST", {"verdicts": [record(verdict="delete")]}) == (
        400, {"error": "verdicts[0].verdict: input should be 'yes', 'no', 'unsure' or 'redraw', not 'delete'"},
    )  # fmt: skip
    assert fresh.api("POST", {"verdicts": [record() for _ in range(101)]})[0] == 413
    for query in ("", "?reviewer=", f"?reviewer={'a' * 81}", "?reviewer=a&reviewer=b", "?reviewer=a&x=1", "?name=a"):
        assert fresh.api(query=query)[0] == 400
    for method in ("PUT", "DELETE", "PATCH"):
        assert fresh.request(API, method, good, Authorization=AUTHORIZED["Authorization"])[0] == 405
    assert read_verdicts(fresh.root) == []
    assert fresh.api("POST", good, **{"Content-Type": "application/json; charset=utf-8"}) == (201, {"stored": 1})


def test_a_large_body_is_refused_before_it_is_read(fresh: Site) -> None:
    """The answer comes although none of the announced bytes, or of an endless body only the limit, is sent."""
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=30) as announced:
        lines = (
            f"POST {API} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {TOKEN}",
            "Content-Type: application/json",
        )
        head = "".join(f"{line}\r\n" for line in lines)
        announced.sendall(f"{head}Content-Length: {LARGEST_BODY + 1}\r\n\r\n".encode())
        assert announced.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=30) as endless:
        endless.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(LARGEST_BODY // 0x10000 + 1):
            endless.sendall(chunk)
        assert endless.recv(4096).startswith(b"HTTP/1.1 413")
    assert fresh.api("POST", b" " * (LARGEST_BODY + 1))[0] == 413


def test_a_map_server_has_no_endpoint(tmp_path: Path) -> None:
    site = Site(filled(StoreLocation(str(tmp_path))), token=None)
    try:
        assert site.request(PAGE)[0] == 200
        assert site.request(f"{API}?reviewer=Ada", **{"Authorization": f"Bearer {TOKEN}"})[0] == 404
        assert site.request(API, "POST", b"{}")[0] == 405
    finally:
        site.stop()


def test_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert new_token() != new_token()
    assert len(checked_token(new_token())) >= 43
    for token in ("", "short", "with blanks and more", "ümlauts-in-the-token", "line\nbreak-in-the-token"):
        with pytest.raises(SettingsError, match="DARTS_REVIEW_TOKEN: expected at least 16") as refused:
            checked_token(token)
        assert not token or token not in str(refused.value)


def test_a_port_in_use_and_a_foreign_address_are_errors() -> None:
    with listening("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert url_of(bound) == f"http://127.0.0.1:{port}"
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} cannot be served: .*in use"):
            listening("127.0.0.1", port)
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1:0 cannot be served"):
        listening("192.0.2.1", 0)
