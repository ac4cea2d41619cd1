"""Reasons of failures of stores, as services and disks give them."""

import errno
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError, GenericError

from darts_assets.errors import StoreError, UnsafeStoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.preflight import ensure_safe
from darts_assets.stores.service_errors import in_words, known_problem
from tests.servers.s3.moto_server import CREDENTIALS

WRONG_REGION = "the region 'us-east-1' is wrong; expecting 'eu-north-1'"
ANSWERS = {
    "redirect": (301, "<Code>PermanentRedirect</Code><Message>Use the specified endpoint.</Message>"),
    "malformed": (400, f"<Code>AuthorizationHeaderMalformed</Code><Message>{WRONG_REGION}</Message>"),
    "tagged": (400, "<Code>AuthorizationHeaderMalformed</Code><Message>Wrong.</Message><Region>eu-north-1</Region>"),
    "constraint": (
        400, "<Code>IllegalLocationConstraintException</Code><Message>The eu-north-1 location constraint is "
        "incompatible</Message>",
    ),
    "conditional": (501, "<Code>NotImplemented</Code><Message>A header you provided is not implemented</Message>"),
    "other": (400, "<Code>InvalidRequest</Code>\n<Message>" + "long " * 100 + "end</Message>"),
}  # fmt: skip


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 service that answers all requests alike; `service(name)` is a location there."""
    answer = [0, ""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer
            if status == 501 and not self.headers.get("If-None-Match"):
                status, body = 404, ""
            self.send_response(status)
            content = f"<Error>{body}</Error>".encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_DELETE = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("darts_assets.stores.location.object_store_retries", lambda: {"max_retries": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def location(name: str) -> StoreLocation:
        answer[:] = ANSWERS[name]
        return StoreLocation(f"s3://bucket/{name}", f"http://127.0.0.1:{server.server_port}", "us-east-1")

    yield location
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("redirect", "the bucket is in another region: set DARTS_STORE_REGION ("),
        ("malformed", f"the bucket is in the region eu-north-1: set DARTS_STORE_REGION ({WRONG_REGION})"),
        ("tagged", "the bucket is in the region eu-north-1: set DARTS_STORE_REGION (Wrong.)"),
        ("constraint", "the bucket is in the region eu-north-1: set DARTS_STORE_REGION (The eu-north-1"),
        ("other", "long end"),
    ],
)
def test_a_service_that_refuses(service: Any, name: str, words: str) -> None:
    location = service(name)
    with pytest.raises(BaseError) as raised:
        obstore.put(location.objects(), "key", b"x", mode="create")
    assert words in in_words(raised.value)
    assert bool(known_problem(raised.value)) == (name != "other")
    with pytest.raises(StoreError) as untested:
        ensure_safe(location)
    assert f"{location}: the test for safe concurrent commits failed: " in str(untested.value)
    assert words in str(untested.value)


def test_a_service_without_conditional_writes(service: Any) -> None:
    words = r"does not support conditional writes, .*; use a store that honours If-None-Match .*A header you provided"
    with pytest.raises(UnsafeStoreError, match=words):
        ensure_safe(service("conditional"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GenericError("Unable to copy: No space left on device (os error 28)\n\nDebug source:\nx"), "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/a.tif"), "/data/a.tif: the disk is full"),
        (OSError("Read-only file system (os error 30)"), "the file system is read-only; set DARTS_STORE"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: this user has no permission"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is exceeded"),
        (FileNotFoundError(errno.ENOENT, "No such file"), ""),
    ],
)
def test_disks(error: Exception, words: str) -> None:
    assert known_problem(error).startswith(words) if words else known_problem(error) == ""
    assert "Debug" not in in_words(error)
