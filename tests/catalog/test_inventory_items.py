"""The inventory in the catalog: an item for each year and one for the slumps, with the files of their versions."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import pystac
import pytest
import shapely
from pystac.extensions.table import TableExtension
from pystac.validation import JsonSchemaSTACValidator, set_validator
from shapely.geometry import shape

from darts_assets.catalog.stac_tree import update_stac
from darts_assets.inventory.inventory_store import write_followed, write_inventory
from darts_assets.inventory.site_parameters import FollowParameters
from darts_assets.inventory.slumps import follow
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import mentioned_versions, place_at
from tests.catalog.stac_schemas import offline_validator
from tests.inventory.planted import Planted, Tables, built, square

from .conftest import written

SCENES = [Planted(180, [square(0, 0), square(300, 0)]), Planted(190, [square(10, 0)])]
PROVENANCE = {"code_version": "0.1.0+5", "data_version": "d1", "parameters": {"min_overlap": 0.25}}


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    set_validator(offline_validator())
    yield
    set_validator(JsonSchemaSTACValidator())


@pytest.fixture
def update(root: StoreLocation) -> Callable[..., Any]:
    return lambda **more: update_stac(root, ["sentinel2"], [], licence="CC-BY-4.0", **more)


def publish_year(root: StoreLocation, scenes: list[Planted]) -> str:
    place = place_at(root, "inventory", "rts", "2023", grace=timedelta(0))
    manifest = write_inventory(place, built(scenes), {"provenance": PROVENANCE})
    return next(iter(manifest.versions))


def publish_slumps(root: StoreLocation, scenes: list[Planted]) -> None:
    inventory = built(scenes)
    followed = follow({2023: inventory.sites}, {2023: inventory.scenes}, Tables(scenes).observed, FollowParameters())
    place = place_at(root, "inventory", "slumps", grace=timedelta(0))
    write_followed(place, followed, {"provenance": PROVENANCE})


def items(root: StoreLocation) -> dict[str, pystac.Item]:
    catalog = pystac.Catalog.from_file(str(root.path / "catalog" / "catalog.json"))
    child = catalog.get_child("inventory")
    return {item.id: item for item in child.get_items()} if child else {}


def test_items_describe_the_published_files(root: StoreLocation, update: Callable) -> None:
    version = publish_year(root, SCENES)
    publish_slumps(root, SCENES)
    assert update().inventory == ["rts_2023", "rts_slumps"]
    catalog = pystac.Catalog.from_file(str(root.path / "catalog" / "catalog.json"))
    assert catalog.validate_all() == 2
    year, slumps = items(root)["rts_2023"], items(root)["rts_slumps"]
    assert set(year.assets) == {"sites", "sites-gpkg", "sites-qml", "detections", "scenes"}
    assert set(slumps.assets) == {
        "slumps", "slumps-gpkg", "slumps-qml", "sites", "sites-gpkg", "sites-qml", "observers", "areas",
    }  # fmt: skip
    for item, place in ((year, "rts/2023"), (slumps, "slumps")):
        files = {path.name for path in (root.path / "inventory" / place / "latest").iterdir()}
        assert {Path(asset.href).name for asset in item.assets.values()} == files
        for asset in item.assets.values():
            path = Path(asset.get_absolute_href())
            assert asset.extra_fields["file:size"] == path.stat().st_size
            assert "latest" not in path.parts
    sites = gpd.read_parquet(year.assets["sites"].get_absolute_href())
    assert TableExtension.ext(year).row_count == len(sites) == 2
    assert [column.name for column in TableExtension.ext(year).columns][: len(sites.columns)] == list(sites.columns)
    assert len(gpd.read_file(year.assets["sites-gpkg"].get_absolute_href())) == 2
    assert version in year.assets["sites"].href
    assert (year.properties["darts:scenes"], year.properties["darts:families"]) == (2, ["sentinel2"])
    assert year.properties["darts:parameters"] == {"min_overlap": 0.25}
    assert year.properties["start_datetime"] == "2023-01-01T00:00:00Z"
    assert year.properties["created"][:4] == version[:4]
    inside = sites.to_crs("EPSG:4326").representative_point()
    assert shapely.contains(shape(year.geometry), inside.to_numpy()).all()
    assert shape(slumps.geometry).equals(shape(year.geometry))
    collection = catalog.get_child("inventory")
    assert isinstance(collection, pystac.Collection)
    assert collection.extent.spatial.bboxes[0] == year.bbox


def test_only_changed_places_are_read_and_their_versions_are_kept(
    root: StoreLocation, update: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_year(root, SCENES)
    publish_slumps(root, SCENES)
    update()
    before = written(root.path / "catalog")
    monkeypatch.setattr("darts_assets.catalog.inventory_items.read_table", None)
    assert update().inventory == ["rts_2023", "rts_slumps"]
    assert written(root.path / "catalog") == before
    monkeypatch.undo()
    second = publish_year(root, SCENES[:1])
    assert mentioned_versions(root, "2023") == {first}, "it is not collected before the catalog has moved on"
    publish_year(root, SCENES[1:])
    third = publish_year(root, SCENES)
    kept = {path.name for path in (root.path / "inventory/rts/2023").iterdir()}
    assert {first, third} <= kept
    assert second not in kept
    old = items(root)["rts_2023"]
    update()
    new = items(root)["rts_2023"]
    assert third in new.assets["sites"].href
    assert Path(old.get_self_href() or "").is_file(), "readers of the former collection still get its items"
    update()
    assert not Path(old.get_self_href() or "").exists()


def test_without_an_inventory_there_is_no_collection(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    assert update().inventory == []
    assert items(root) == {}


def test_a_year_without_scenes_has_no_footprint_and_a_damaged_one_is_left_out(
    root: StoreLocation, update: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    publish_year(root, [])
    update()
    item = items(root)["rts_2023"]
    assert item.geometry is None
    assert item.validate()
    (root.path / "inventory/rts/2023/current.json").write_text("{")
    assert update().inventory == []
    assert "left out of the catalog" in caplog.text
