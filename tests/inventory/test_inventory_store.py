"""Inventories on a path and on S3 come back as they were, to the last bit, and can be updated from there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import pytest

from darts_assets.inventory.area_intervals import area_by_year
from darts_assets.inventory.inventory_store import (
    STATE_FORMAT,
    read_inventory,
    read_year,
    write_followed,
    write_inventory,
    years_of,
)
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.table_schemas import SITE_COLUMNS
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
    assert sorted(manifest.contents) == ["area_by_year.parquet", "observers.parquet"] + [
        f"rts_{table}.{kind}" for table in ("sites", "slumps") for kind in ("gpkg", "parquet", "qml")
    ]


def test_tables_can_be_read_by_area(tmp_path: Path) -> None:
    place = Place(StoreLocation(str(tmp_path)))
    inventory = built(SCENES)
    version = write_inventory(place, inventory, {}).contents["rts_2023.parquet"]
    west = inventory.sites.total_bounds[0]
    some = gpd.read_parquet(tmp_path / version / "rts_2023.parquet", bbox=(west - 1, -1e7, west + 1, 1e7))
    assert len(some) == 1


def test_sites_of_an_earlier_format_have_no_intervals(tmp_path: Path) -> None:
    place = Place(StoreLocation(str(tmp_path)))
    inventory = built(SCENES)
    new = ["area_25_ha", "area_50_ha", "area_75_ha", *(name for name in SITE_COLUMNS if name.startswith("area_d"))]
    new += ["area_mean_ha", "area_sd_ha", "area_se_ha", "area_low_ha", "area_high_ha"]
    manifest = write_inventory(place, replace(inventory, sites=inventory.sites.drop(columns=new)), {})
    sites, scenes = read_year(place, manifest, 2023)
    assert {name: str(sites[name].dtype) for name in new} == {name: SITE_COLUMNS[name] for name in new}
    assert sites["area_mean_ha"].isna().all()
    assert (sites["area_days"] == 0).all()
    followed = follow(
        {2022: sites.assign(year=2022), 2023: sites},
        {2022: scenes, 2023: scenes},
        Tables(SCENES).observed,
        FollowParameters(),
    )
    assert set(followed.sites["change"]) == {"", "uncertain"}
    areas = area_by_year(followed.sites)
    assert areas["area_mean_ha"].tolist() == pytest.approx([inventory.sites["area_ha"].sum()] * len(areas))
    assert areas["area_low_ha"].isna().all()
    before = {**manifest.metadata, "state_format": STATE_FORMAT - 1}
    assert read_inventory(place, replace(manifest, metadata=before), 2023, InventoryParameters()).sites.empty
