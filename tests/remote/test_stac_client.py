"""The I/O class for STAC: pauses, `Retry-After`, pages, errors."""

import http.server
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from darts_assets.errors import SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.remote.stac_client import MissingDocumentError, RateLimitedStacIO
from tests.servers.network.file_server import running

Answer = tuple[int, dict[str, str], Any]


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, list[float]]]:
    """A server with these answers (status, headers, JSON or text), and the times of its requests."""
    left, times = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times.append(time.monotonic())
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, times


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))


def test_503_with_retry_after_is_honoured() -> None:
    with answering((503, {"Retry-After": "1"}, ""), (200, {}, {"id": "a"})) as (url, times):
        assert RateLimitedStacIO().read_json(f"{url}/a") == {"id": "a"}
    assert times[1] - times[0] >= 1


def test_truncated_json_is_repeated() -> None:
    with answering((200, {}, '{"id": "a", "links": ['), (200, {}, {"id": "a"})) as (url, _):
        assert RateLimitedStacIO().read_json(f"{url}/a") == {"id": "a"}


def test_a_pause_between_requests_of_any_client() -> None:
    with answering(*[(200, {}, {})] * 3) as (url, times):
        for _ in range(3):
            RateLimitedStacIO(pause=0.1).read_json(f"{url}/a")
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(times))


def test_an_empty_page_is_not_the_last_one() -> None:
    pages: list[dict[str, Any]] = [{"features": []}, {"features": [{"id": "a"}]}]
    with answering(*[(200, {}, page) for page in pages]) as (url, times):
        pages[0]["links"] = [{"rel": "next", "href": f"{url}/search?token=2"}]
        items = [page["features"] for page in RateLimitedStacIO().get_pages(f"{url}/search", "POST", {"limit": 1})]
    assert items == [[], [{"id": "a"}]]
    assert len(times) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, MissingDocumentError), (401, SettingsError), (501, SettingsError), (400, SceneError)],
)
def test_refusals_are_final(status: int, error: type[Exception]) -> None:
    with answering((status, {}, {"detail": "no, https://user:SECRET@host/?sig=SECRET"})) as (url, times):
        with pytest.raises(
            error, match=rf"^STAC: GET {url}/a[?][*]+ is refused: HTTP status {status}, no, https"
        ) as raised:
            RateLimitedStacIO().read_json(f"{url}/a?sig=SECRET")
        assert "SECRET" not in str(raised.value)
    assert len(times) == 1


def test_a_service_that_stays_down() -> None:
    with (
        answering(*[(502, {}, "bad gateway")] * 5) as (url, _),
        pytest.raises(SourceUnavailableError, match=r"failed: HTTP status 502, bad gateway; given up after 5 attempts"),
    ):
        RateLimitedStacIO().read_json(f"{url}/a")
