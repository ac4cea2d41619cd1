"""Inventories on a path and on S3 come back as they were, to the last bit, and can be updated from there."""

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest

from darts_assets.inventory.inventory_store import read_inventory, read_year, write_followed, write_inventory, years_of
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.inventory.planted import Planted, Tables, assert_same, brought_to, built, square
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SCENES = [Planted(180, [square(0, 0), square(300, 0)]), Planted(190, [square(10, 0)]), Planted(200, [], None)]


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    if request.param == "path":
        yield StoreLocation(str(tmp_path / "store"))
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("root")
    server.stop()


def test_what_was_written_is_read_and_goes_on(root: StoreLocation) -> None:
    years = root.child("inventory", "rts")
    place = Place(years.child("2023"))
    assert years_of(years) == []
    assert len(read_inventory(place, place.manifest(), 2023, InventoryParameters()).scenes) == 0
    for count in range(len(SCENES) + 1):
        before = read_inventory(place, place.manifest(), 2023, InventoryParameters())
        write_inventory(place, brought_to(before, SCENES[:count]), {"count": count})
        assert_same(read_inventory(place, place.manifest(), 2023, InventoryParameters()), built(SCENES[:count]))
    assert years_of(years) == [2023]
    sites, scenes = read_year(place, place.require(), 2023)
    followed = follow({2023: sites}, {2023: scenes}, Tables(SCENES).observed, FollowParameters())
    manifest = write_followed(Place(root.child("inventory", "slumps")), followed, {})
    assert sorted(manifest.contents) == ["observers.parquet"] + [
        f"rts_{table}.{kind}" for table in ("sites", "slumps") for kind in ("gpkg", "parquet", "qml")
    ]


def test_tables_can_be_read_by_area(tmp_path: Path) -> None:
    place = Place(StoreLocation(str(tmp_path)))
    inventory = built(SCENES)
    version = write_inventory(place, inventory, {}).contents["rts_2023.parquet"]
    west = inventory.sites.total_bounds[0]
    some = gpd.read_parquet(tmp_path / version / "rts_2023.parquet", bbox=(west - 1, -1e7, west + 1, 1e7))
    assert len(some) == 1
