"""Tiles from a real STAC API: the same ones as plain geometry in EPSG:3413 finds, wherever a chunk is."""

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_assets.cubes import ArcticDemTiles, arcticdem_spec, stac_search
from darts_assets.errors import CubeError, SourceUnavailableError
from darts_assets.remote import retry, stac_client
from tests.servers.network.file_server import serve_folder
from tests.servers.network.http_proxy import Proxy, proxy_of
from tests.servers.stac_api.server import StacApi

TO_LONLAT = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
Tiles = dict[str, shapely.Polygon]


def make_item(name: str, resolution: int, footprint: shapely.Polygon, base: str = "s3://dems/v4.1") -> dict[str, Any]:
    """An item in the provider's layout; its geometry is the corners joined as if longitudes were a plain axis."""
    lonlat = shapely.transform(footprint, TO_LONLAT.transform, interleaved=False)
    left, bottom, right, top = footprint.bounds
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"{name}_{resolution}m_v4.1", "links": [],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "geometry": shapely.geometry.mapping(lonlat), "bbox": list(lonlat.bounds),
        "properties": {
            "datetime": "2010-01-01T00:00:00Z", "gsd": float(resolution), "proj:code": "EPSG:3413",
            "proj:bbox": [left, bottom, right, top],
        },
        "assets": {
            kind: {"href": f"{base}/{resolution}m/{name[:5]}/{name}_{resolution}m_v4.1_{kind}.tif"}
            for kind in ("dem", "datamask")
        },
    }  # fmt: skip


def super_tiles(rows: range, cols: range) -> Tiles:
    """The provider's squares of 100 km, each 100 m larger on every side, as the published ones are."""
    return {
        f"{row:02d}_{col:02d}": shapely.box(
            -4_100_000 + col * 100_000 - 100, -4_100_000 + row * 100_000 - 100,
            -4_100_000 + (col + 1) * 100_000 + 100, -4_100_000 + (row + 1) * 100_000 + 100,
        )
        for row in rows for col in cols
    }  # fmt: skip


def fine_tiles(rows: range, cols: range) -> Tiles:
    """The same in squares of 50 km."""
    tiles = {}
    for name, (i, j) in itertools.product(super_tiles(rows, cols), itertools.product((1, 2), (1, 2))):
        row, col = (int(part) for part in name.split("_"))
        left, bottom = -4_100_000 + col * 100_000 + (j - 1) * 50_000, -4_100_000 + row * 100_000 + (i - 1) * 50_000
        tiles[f"{name}_{i}_{j}"] = shapely.box(left - 100, bottom - 100, left + 50_100, bottom + 50_100)
    return tiles


TILES: dict[int, Tiles] = {
    2: fine_tiles(range(37, 46), range(37, 46)) | fine_tiles(range(58, 63), range(20, 25)),
    10: super_tiles(range(20, 64), range(18, 64)),
    32: super_tiles(range(20, 64), range(18, 64)),
}


@pytest.fixture(scope="module")
def api(stac_api: StacApi) -> StacApi:
    for resolution, tiles in TILES.items():
        items = (make_item(name, resolution, footprint) for name, footprint in tiles.items())
        stac_api.load(f"arcticdem-mosaics-v4.1-{resolution}m", items)
    return stac_api


@pytest.fixture
def proxy(api: StacApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(retry, "BACKOFF", (0.01, 0.01))
    with proxy_of(api.url) as running:
        yield running


def searches(proxy: Proxy) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in proxy.requests if request.path.startswith("/search")]


def expected(geobox: GeoBox, resolution: int) -> list[str]:
    box = shapely.box(*geobox.boundingbox.bbox)
    found = (name for name, tile in TILES[resolution].items() if box.intersects(tile) and not box.touches(tile))
    return sorted(f"{name}_{resolution}m_v4.1" for name in found)


def chunk_at(x: float, y: float, resolution: int) -> GeoBox:
    grid = arcticdem_spec(resolution).grid
    side = 1024 * resolution
    return grid.chunk_geobox(int((4_100_000 - y) // side), int((x + 4_100_000) // side))


PLACES = {
    "an ordinary place": (152_000, 1_949_500),
    "where four tiles meet": (-199_990, -300_010),
    "the pole": (0, 0),
    "beside the pole": (3_000, 20_000),
    "the antimeridian": (-1_870_000, 1_870_000),
    "the antimeridian, in a corner of four tiles": (-1_900_000, 1_900_000),
    "the antimeridian near the pole": (-101_000, 99_000),
    "the edge of the mosaic": (-2_299_000, 2_000_000),
}


@pytest.mark.parametrize("resolution", [2, 10, 32])
@pytest.mark.parametrize("place", PLACES)
def test_the_same_tiles_as_plain_geometry(api: StacApi, place: str, resolution: int) -> None:
    geobox = chunk_at(*PLACES[place], resolution)
    tiles = ArcticDemTiles(api.url).under(geobox)
    assert [tile.id for tile in tiles] == expected(geobox, resolution)
    if place == "the pole":
        assert len(tiles) == 4
        assert geobox.boundingbox.left < 0 < geobox.boundingbox.right
    for tile in tiles:
        name = tile.id.removesuffix(f"_{resolution}m_v4.1")
        assert tuple(tile.bounds) == TILES[resolution][name].bounds
        assert tile.dem == f"s3://dems/v4.1/{resolution}m/{name[:5]}/{tile.id}_dem.tif"


def test_any_chunk(api: StacApi) -> None:
    """Chunks all over the mosaic and past its edge."""
    tiles = ArcticDemTiles(api.url)
    rng = np.random.default_rng(5)
    found = 0
    for x, y in rng.uniform(-2_800_000, 2_800_000, (25, 2)):
        geobox = chunk_at(x, y, 10)
        ids = [tile.id for tile in tiles.under(geobox)]
        assert ids == expected(geobox, 10)
        found += len(ids)
    assert found > 15


def test_footprints_as_drawn_are_not_trusted(api: StacApi) -> None:
    """60_42 reaches 40 m into the box; drawn by its corners alone it ends some 600 m away from it."""
    box = (145_000, 1_889_700, 155_240, 1_899_940)
    drawn = make_item("60_42", 10, TILES[10]["60_42"])["geometry"]
    corners = shapely.transform(shapely.box(*box), TO_LONLAT.transform, interleaved=False)
    assert not shapely.geometry.shape(drawn).intersects(corners)
    geobox = GeoBox.from_bbox(box, "EPSG:3413", resolution=10, tight=True)
    assert expected(geobox, 10) == ["59_42_10m_v4.1", "60_42_10m_v4.1"]
    assert [tile.id for tile in ArcticDemTiles(api.url).under(geobox)] == expected(geobox, 10)


def test_the_provider_s_own_items(stac_api: StacApi, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_search, "COLLECTION", stac_search.COLLECTION + "-own")
    items = [json.loads(path.read_text()) for path in (shared / "data/pgc_template_items").glob("*.json")]
    for item in items:
        stac_api.load(f"{item['collection']}-own", [item])
    tiles = ArcticDemTiles(stac_api.url)
    for item in items:
        resolution = int(item["properties"]["gsd"])
        (tile,) = tiles.under(chunk_at(152_000, 1_952_000, resolution))
        assert tile.id == item["id"]
        assert tile.dem == item["assets"]["dem"]["href"]
        assert tile.datamask == item["assets"]["datamask"]["href"]


def test_all_pages_are_read(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_search, "_PAGE", 3)
    geobox = chunk_at(0, 0, 10)
    assert [tile.id for tile in ArcticDemTiles(proxy.url).under(geobox)] == expected(geobox, 10)
    pages = searches(proxy)
    assert len(pages) >= 16 / 3
    assert {page["limit"] for page in pages} == {3}


def test_one_search_serves_many_chunks_and_threads(proxy: Proxy) -> None:
    tiles = ArcticDemTiles(proxy.url)
    grid = arcticdem_spec(10).grid
    boxes = [grid.chunk_geobox(r, c) for r in range(214, 228) for c in range(220, 235)]  # across the antimeridian
    found: dict[int, list[str]] = {}
    together = threading.Barrier(4)

    def work(own: list[int]) -> None:
        together.wait()
        for n in own:
            found[n] = [tile.id for tile in tiles.under(boxes[n])]

    threads = [threading.Thread(target=work, args=(list(range(first, len(boxes), 4)),)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(boxes))] == [expected(box, 10) for box in boxes]
    assert len(boxes) == 210
    others = {"/", "/collections/arcticdem-mosaics-v4.1-10m"}
    assert {request.path for request in proxy.requests} == {"/search"} | others
    assert len(proxy.requests) <= 4 + len(others)


@pytest.mark.parametrize("way", [429, 500, 503, "drop", "cut"])
def test_failures_in_the_middle_are_survived(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, way) -> None:
    monkeypatch.setattr(stac_search, "_PAGE", 3)
    geobox = chunk_at(-1_870_000, 1_870_000, 10)
    headers = {"Retry_After": "1"} if way == 429 else {}
    proxy.fail("POST /search", way, times=2, skip=2, **headers)
    proxy.fail("GET /", way, times=1, **headers)
    assert [tile.id for tile in ArcticDemTiles(proxy.url).under(geobox)] == expected(geobox, 10)
    assert not proxy.pending


def test_a_service_that_stays_down(proxy: Proxy) -> None:
    tiles = ArcticDemTiles(proxy.url)
    geobox = chunk_at(0, 0, 10)
    proxy.fail("POST /search", 503, times=100)
    with pytest.raises(SourceUnavailableError, match=r"POST .*/search failed: HTTP status 503, .* after 5 attempts"):
        tiles.under(geobox)
    assert len(searches(proxy)) == 5
    proxy.heal()
    assert [tile.id for tile in tiles.under(geobox)] == expected(geobox, 10)  # failures are not remembered


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)
    with pytest.raises(
        SourceUnavailableError, match=r"GET http://127\.0\.0\.1:9/ failed: 127\.0\.0\.1:9 refused the connection"
    ):
        ArcticDemTiles("http://127.0.0.1:9/").read_chunk(chunk_at(0, 0, 10))


def test_silence_is_not_waited_for(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_client, "TIMEOUT", (1, 0.5))
    proxy.fail("POST /search", "stall")
    geobox = chunk_at(0, 0, 10)
    assert [tile.id for tile in ArcticDemTiles(proxy.url).under(geobox)] == expected(geobox, 10)
    assert not proxy.pending


def test_a_missing_collection_is_not_an_empty_mosaic(api: StacApi, tmp_path: Path) -> None:
    geobox = GeoBox.from_bbox((0, 0, 5120, 5120), "EPSG:3413", resolution=5)
    with pytest.raises(CubeError, match=rf"{api.url} has no collection arcticdem-mosaics-v4\.1-5m"):
        ArcticDemTiles(api.url).under(geobox)
    with pytest.raises(CubeError, match=r"/no/such/api cannot be read as STAC: .*HTTP status 404"):
        ArcticDemTiles(f"{api.url}no/such/api").under(geobox)
    (tmp_path / "page.html").write_text("<html></html>")
    with serve_folder(tmp_path) as url, pytest.raises(CubeError, match=r"page\.html cannot be read as STAC"):
        ArcticDemTiles(f"{url}/page.html").under(geobox)
