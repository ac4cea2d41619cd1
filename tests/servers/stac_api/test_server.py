"""The API that other tests search: thousands of items, pages, and CQL2 filters."""

from typing import Any

import pytest
from pystac_client import Client

from tests.servers.stac_api.server import StacApi


def make_item(number: int) -> dict[str, Any]:
    lon, lat = number % 100, 50 + number // 100 * 0.1
    corners = [[lon, lat], [lon + 0.5, lat], [lon + 0.5, lat + 0.05], [lon, lat + 0.05], [lon, lat]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"scene-{number:05d}", "links": [], "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [corners]}, "bbox": [lon, lat, lon + 0.5, lat + 0.05],
        "properties": {
            "datetime": f"2024-07-{1 + number % 28:02d}T00:00:00Z", "eo:cloud_cover": number % 97,
            "grid:code": f"MGRS-33UU{'ABCDE'[number % 5]}",
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def client(stac_api: StacApi) -> Client:
    stac_api.load("scenes", (make_item(number) for number in range(5000)), title="Scenes")
    return Client.open(stac_api.url)


def test_everything_comes_in_pages(client: Client) -> None:
    pages = [page["features"] for page in client.search(collections=["scenes"], limit=1000).pages_as_dicts()]
    assert [len(page) for page in pages] == [1000] * 5
    assert len({item["id"] for page in pages for item in page}) == 5000


@pytest.mark.parametrize(
    "search",
    [
        {"filter": {"op": "and", "args": [
            {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]},
            {"op": "in", "args": [{"property": "grid:code"}, ["MGRS-33UUA", "MGRS-33UUC"]]},
        ]}},
        {"filter": "\"eo:cloud_cover\" < 10 AND \"grid:code\" IN ('MGRS-33UUA', 'MGRS-33UUC')", "method": "GET"},
    ],
    ids=["CQL2 JSON", "CQL2 text"],
)  # fmt: skip
def test_filters(client: Client, search: dict[str, Any]) -> None:
    found = client.search(collections=["scenes"], datetime="2024-07-01/2024-07-14", limit=50, **search)
    expected = {
        f"scene-{n:05d}" for n in range(5000) if n % 97 < 10 and n % 5 in (0, 2) and n % 28 < 14
    }  # fmt: skip
    assert {item["id"] for item in found.items_as_dicts()} == expected
    assert len(expected) > 60  # more than a page


def test_areas(client: Client) -> None:
    found = client.search(collections=["scenes"], bbox=[10.6, 50.01, 12.2, 51.02])
    rows = range(11)
    assert {item["id"] for item in found.items_as_dicts()} == {
        f"scene-{100 * r + c:05d}" for r in rows for c in (11, 12)
    }


def test_a_collection_is_replaced(stac_api: StacApi) -> None:
    for count in (3, 2):
        stac_api.load("few", (make_item(number) for number in range(count)))
        client = Client.open(stac_api.url)
        assert len(list(client.search(collections=["few"]).items_as_dicts())) == count
    assert client.get_collection("none") is None
