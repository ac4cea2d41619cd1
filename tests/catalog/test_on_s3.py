"""The catalog of a store on S3: the same as on a path, and with as few requests as there are changes."""

from collections.abc import Callable, Iterator
from io import BytesIO

import geopandas as gpd
import obstore
import pytest

from darts_assets.catalog.detections import update_detections
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

from .conftest import YAMAL, clone

pytestmark = pytest.mark.slow


@pytest.fixture
def server(
    tmp_path: object, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    running = S3Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.stop()


def upload(root: StoreLocation, remote: StoreLocation) -> None:
    store = remote.objects()
    for path in sorted((root.path / "products").rglob("*")):
        if path.is_file():
            obstore.put(store, str(path.relative_to(root.path)), path)


def update(root: StoreLocation) -> None:
    update_stac(root, ["sentinel2"], [], licence="other")
    update_detections(root, ["sentinel2"], licence="other")


def puts(server: S3Server) -> set[str]:
    """Keys within the catalog that were written, except the markers of writers."""
    answered = (line.split() for line in server.requests())
    keys = {key.partition("/catalog/")[2] for method, key, _ in answered if method == "PUT"}
    return {key for key in keys if not key.endswith(".writer")}


def test_on_s3_it_is_the_same_as_on_a_path(server: S3Server, root: StoreLocation, put: Callable[..., int]) -> None:
    put("scene-a")
    put("scene-y", YAMAL, when="2021-08-01T07:00:00+00:00")
    remote = server.location("store")
    upload(root, remote)
    update(root)
    update(remote)
    here = {str(path.relative_to(root.path)) for path in (root.path / "catalog").rglob("*") if path.is_file()}
    there = {key for key in remote.keys() if key.startswith("catalog/")}  # noqa: SIM118
    assert there == here
    for key in here:
        local, far = (root.path / key).read_bytes(), bytes(obstore.get(remote.objects(), key).bytes())
        assert local == far or key.endswith("collection.json")  # they remember the tags of the store's own objects

    server.requests()
    update(remote)
    assert puts(server) == set(), "nothing has changed, nothing is written"

    clone(root, "scene-a", "scene-b")
    upload(root, remote)
    server.requests()
    update(remote)
    changed = puts(server)
    tables = {"detections/year=2023/region=08W/part.parquet", "stac/sentinel2/items.parquet"}
    assert {key for key in changed if key.endswith(".parquet")} == tables
    part = obstore.get(remote.objects(), "catalog/detections/year=2023/region=08W/part.parquet").bytes()
    assert set(gpd.read_parquet(BytesIO(bytes(part)))["scene"]) == {"scene-a", "scene-b"}
