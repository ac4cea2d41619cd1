"""Services that fail, that want to be left alone, and that answer something else than was asked."""

import http.server
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import shapely

from darts_assets.errors import SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.sources.stac.scene_selection import SceneFilter, Selection
from darts_assets.sources.stac.search import StacCatalog
from darts_assets.sources.stac.services import CDSE
from tests.servers.network.file_server import running, serve_folder
from tests.servers.network.http_proxy import Proxy, proxy_of
from tests.servers.stac_api.scene_archive import SceneArchive, make_archive, newest
from tests.servers.stac_api.server import StacApi

SERVICE = replace(CDSE, collection="faults", page=50)
PAGES = 5
ALL = Selection(area=shapely.box(-180, -90, 180, 90), filter=SceneFilter(max_cloud_cover=100, max_snow_cover=100))
TILE = Selection(tiles=["33UUP"])


class Timed(list):  # type: ignore[type-arg]
    """Notes when something was added: a request, between its arrival and the end of its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, what: Any) -> None:
        self.times.append(time.monotonic())
        super().append(what)

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.times)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.01, 0.01))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def archive(stac_api: StacApi, shared: Path) -> SceneArchive:
    made = make_archive(shared, PAGES * 50 - 10)
    stac_api.load("faults", made.items)
    return made


@pytest.fixture
def proxy(stac_api: StacApi, archive: SceneArchive) -> Iterator[Proxy]:
    with proxy_of(stac_api.url) as proxy:
        proxy.requests = Timed()
        yield proxy


@pytest.fixture
def expected(archive: SceneArchive) -> list[str]:
    return sorted(newest(archive.truth).id)


def catalog_of(url: str, **options: Any) -> StacCatalog:
    return StacCatalog(SERVICE, **{"url": url, "pause": 0, **options})


def found(catalog: StacCatalog, selection: Selection = ALL) -> list[str]:
    return sorted(item["id"] for item in catalog.search(selection))


@pytest.mark.parametrize("way", [500, 502, 503, 408, "drop", "cut"])
def test_a_page_that_fails_twice(proxy: Proxy, expected: list[str], way: Any) -> None:
    proxy.fail("POST /search", way, times=2, skip=2)
    catalog = catalog_of(proxy.url)
    assert found(catalog) == expected
    assert len(proxy.requests) == catalog.requests == PAGES + 2
    repeated = [request.body for request in proxy.requests[2:5]]
    assert len(set(repeated)) == 1, "the same page is asked for again, none before it"


def test_too_many_requests(proxy: Proxy, expected: list[str]) -> None:
    """The service says for how many seconds it wants to be left alone."""
    proxy.fail("POST /search", 429, skip=2, Retry_After="1")
    assert found(catalog_of(proxy.url)) == expected
    assert [request.status for request in proxy.requests] == [200, 200, 429, 200, 200, 200]
    assert proxy.requests.gaps[2] >= 1


def test_too_many_requests_until_a_date(proxy: Proxy, expected: list[str]) -> None:
    until = int(time.time()) + 2
    proxy.fail("POST /search", 429, Retry_After=formatdate(until, usegmt=True))
    again: list[float] = []
    assert sorted(i["id"] for i in catalog_of(proxy.url).search(ALL, lambda *_: again.append(time.time()))) == expected
    assert again[0] >= until


def test_a_service_that_wants_to_be_left_alone_for_long(proxy: Proxy) -> None:
    proxy.fail("POST /search", 429, times=9, Retry_After="3600")
    with pytest.raises(SourceUnavailableError, match=r"HTTP status 429, .* because the service asks to wait 3600 s"):
        found(catalog_of(proxy.url))
    assert len(proxy.requests) == 1


def test_the_last_word(proxy: Proxy) -> None:
    proxy.fail("POST /search", 503, times=99, skip=1)
    given = []
    with pytest.raises(SourceUnavailableError) as raised:
        given.extend(catalog_of(proxy.url).search(ALL))
    assert 10 < len(given) <= 50, "what was found before is not lost"
    assert len(proxy.requests) == 1 + 5
    assert str(raised.value) == (
        f"faults at {proxy.url}: POST {proxy.url}/search failed: HTTP status 503, Service Unavailable; "
        "given up after 5 attempts"
    )


def test_nobody_answers() -> None:
    with pytest.raises(SourceUnavailableError, match=r"POST http://127\.0\.0\.1:9/search failed: .* refused"):
        found(catalog_of("http://127.0.0.1:9"))


def test_a_pause_between_any_two_requests(proxy: Proxy, expected: list[str]) -> None:
    """Also between those of several threads and catalogs, and before a repetition."""
    proxy.fail("POST /search", 500, skip=3)
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(found(catalog_of(proxy.url, pause=0.1)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected, expected]
    assert len(proxy.requests) == 2 * PAGES + 1
    assert min(proxy.requests.gaps) >= 0.1


def test_the_service_s_own_words(proxy: Proxy) -> None:
    """What it refuses is not asked again."""
    odd = StacCatalog(replace(SERVICE, page=-1), url=proxy.url, pause=0)
    with pytest.raises(SceneError, match=r"POST .*/search is refused: HTTP status 400, .*greater than"):
        found(odd)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {}, "is refused: HTTP status 401, Unauthorized"),
        (403, {}, "is refused: HTTP status 403, Forbidden"),
        (
            301,
            {"Location": "https://elsewhere.org/v2/search"},
            "moved to https://elsewhere.org/v2/search; set that",
        ),
    ],
)
def test_a_service_that_does_not_want_us(proxy: Proxy, status: int, headers: dict[str, str], said: str) -> None:
    proxy.fail("POST /search", status, **headers)
    with pytest.raises(SettingsError, match=said):
        found(catalog_of(proxy.url))
    assert len(proxy.requests) == 1


def test_what_is_no_stac_api(tmp_path: Path) -> None:
    with serve_folder(tmp_path) as url, pytest.raises(SettingsError, match=f"POST {url}/search is refused: .* 501"):
        found(catalog_of(url))
    with pytest.raises(SettingsError, match=r"stac\.dataspace\.copernicus\.eu/v1/search is not a URL"):
        found(catalog_of("stac.dataspace.copernicus.eu/v1"))


@contextmanager
def answering(*answers: Any) -> Iterator[str]:
    """A server with these answers, whatever is asked: JSON documents, or text; the last one again and again."""
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if isinstance(answer, str) else "application/geo+json")
            self.end_headers()
            self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def test_a_service_that_ignores_filters(archive: SceneArchive, caplog: pytest.LogCaptureFixture) -> None:
    """Of two pages, the second by a link for GET and with an item of the first, only what was asked for is given."""
    half = len(archive.items) // 2
    first, second = archive.items[:half], archive.items[half - 1 :]
    tile = archive.truth.tile.iloc[-1]
    wanted = Selection(tiles=[tile], filter=SceneFilter(max_cloud_cover=60, max_snow_cover=60))
    truth = archive.truth
    asked = newest(truth[truth.tile == tile])
    expected = asked[(asked.cloud <= 60) & (asked.snow <= 60)]
    pages = {"features": first, "links": []}, {"features": second, "links": []}
    with answering(*pages) as url, caplog.at_level(logging.WARNING, "darts_assets"):
        pages[0]["links"] = [{"rel": "next", "href": f"{url}/search?page=2"}]
        ids = found(catalog_of(url), wanted)
    assert ids == sorted(expected.id)
    assert len(ids) >= 1
    others = (truth.tile != tile).sum()
    assert f"{others} of {len(truth)} items do not match the request and are left out" in caplog.text


def test_pages_without_end(archive: SceneArchive) -> None:
    page = {"features": archive.items[:3], "links": []}
    with answering(page) as url:
        page["links"] = [{"rel": "next", "href": f"{url}/search", "method": "POST", "body": {"token": "again"}}]
        with pytest.raises(SourceUnavailableError, match="the link to the next page leads to one that was read"):
            found(catalog_of(url))


def processing(baseline: str, cloud: float | None, made: str = "20230415T230000") -> dict[str, Any]:
    return {
        "id": f"S2A_MSIL2A_20200715T202849_N{baseline}_R114_T33UUP_{made}", "geometry": None,
        "properties": {"datetime": "2020-07-15T20:28:49Z", "eo:cloud_cover": cloud, "eo:snow_cover": 0.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    "counts", [{"numberMatched": 3}, {"context": {"matched": 3, "returned": 2}}], ids=["STAC 1.0", "earlier"]
)
def test_a_page_without_the_link_to_the_next(counts: dict[str, Any]) -> None:
    items = [processing("0500", 1.0, made=f"2023041{n}T230000") for n in range(3)]
    with (
        answering({"features": items[:2], **counts}) as url,
        pytest.raises(SourceUnavailableError, match="3 items match, but the last page ends after 2 of them"),
    ):
        found(catalog_of(url), TILE)
    with answering({"features": items, **counts}) as url:
        assert found(catalog_of(url), TILE) == [items[2]["id"]]


def test_pages_that_overlap_do_not_count_twice() -> None:
    items = [processing("0500", 1.0, made=f"2023041{n}T230000") for n in range(3)]
    pages = [{"features": part, "links": [], "numberMatched": 3} for part in (items[:2], items[1:2])]
    with answering(*pages) as url:
        pages[0]["links"] = [{"rel": "next", "href": f"{url}/search?page=2"}]
        with pytest.raises(SourceUnavailableError, match="after 2 of them"):
            found(catalog_of(url), TILE)


def test_the_newest_processing_is_chosen_before_the_cloud_limit() -> None:
    outdated, current = processing("0214", 8.0), processing("0500", 12.0)
    unknown = processing("0510", None)
    with answering({"features": [outdated, current]}) as url:
        assert found(catalog_of(url), TILE) == []
        for limit in (12.0, 100.0):
            of_tile = replace(TILE, filter=SceneFilter(max_cloud_cover=limit))
            assert found(catalog_of(url), of_tile) == [current["id"]]
        named = replace(TILE, filter=SceneFilter(baseline="02.14"))
        assert found(catalog_of(url), named) == [outdated["id"]]
    with answering({"features": [outdated, current, unknown]}) as url:
        counts: Counter[str] = Counter()
        assert list(catalog_of(url).search(TILE, None, counts)) == []
        assert counts == {"eo:cloud_cover": 1}


def test_answers_that_are_something_else() -> None:
    with (
        answering("<html>Sign in</html>") as url,
        pytest.raises(SettingsError, match="is not a JSON object but begins with '<html>Sign in</html>'"),
    ):
        found(catalog_of(url))
    with answering([1, 2]) as url, pytest.raises(SettingsError, match="is not a JSON object"):
        found(catalog_of(url))
    with (
        answering({"type": "Catalog"}) as url,
        pytest.raises(SettingsError, match="has no STAC items; is this a STAC API"),
    ):
        found(catalog_of(url), TILE)
