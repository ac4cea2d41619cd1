"""Regions from the web: fetched once, kept in the store, and done without where there is no network."""

import logging
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import TrainingError
from darts_assets.stores.location import StoreLocation
from darts_assets.training import region_download
from darts_assets.training.region_download import GEOBOUNDARIES, regions_from
from darts_assets.training.regions import EQUAL_AREA, regions_of
from tests.servers.network.file_server import serve_folder

FOOTPRINTS = gpd.GeoDataFrame(
    geometry=[shapely.box(10.1, 70.1, 10.3, 70.2), shapely.box(11.4, 70.1, 11.6, 70.2)],
    index=["a", "b"], crs="EPSG:4326",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["West", "East", "Far south"]
    shapes = [shapely.box(10, 70, 11, 71), shapely.box(11, 70, 12, 71), shapely.box(10, 0, 11, 1)]
    table = gpd.GeoDataFrame({"shapeName": names, "shapeGroup": "NOR"}, geometry=shapes, crs="EPSG:4326")
    (tmp_path / "web").mkdir()
    table.to_file(tmp_path / "web" / "adm2.gpkg")
    table.drop(columns="shapeName").to_file(tmp_path / "web" / "nameless.gpkg")
    return tmp_path / "web"


@pytest.fixture
def cache(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store" / "training" / "regions"))


def test_regions_are_fetched_once(folder: Path, cache: StoreLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    with serve_folder(folder, requests) as url:
        monkeypatch.setattr(region_download, "GEOBOUNDARIES_URL", f"{url}/adm2.gpkg")
        regions = regions_from(GEOBOUNDARIES, FOOTPRINTS, cache)
        assert set(requests) == {"/adm2.gpkg"}
        requests.clear()
        again = regions_from(f"{url}/adm2.gpkg", FOOTPRINTS, cache)
        assert requests == []
    assert regions is not None
    assert again is not None
    assert regions.crs == EQUAL_AREA
    assert regions_of(FOOTPRINTS, regions).to_dict() == {"a": "West", "b": "East"}
    assert again["region"].tolist() == regions["region"].tolist() == ["West", "East"], "those far south are left out"
    offline = regions_from(GEOBOUNDARIES, FOOTPRINTS, cache, offline=True)
    assert offline is not None, "what is kept needs no network"
    direct = regions_from(str(folder / "adm2.gpkg"), FOOTPRINTS, cache)
    assert direct is not None
    assert regions_of(FOOTPRINTS, direct).to_dict() == {"a": "West", "b": "East"}


def test_without_a_network_there_is_one_region(
    folder: Path, cache: StoreLocation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert regions_from(GEOBOUNDARIES, FOOTPRINTS, cache, offline=True) is None
    assert "DARTS_OFFLINE is set" in caplog.text
    assert "`split_by: auto` divides the set by sample" in caplog.text
    with serve_folder(folder) as url, caplog.at_level(logging.WARNING):
        assert regions_from(f"{url}/moved.gpkg", FOOTPRINTS, cache) is None
    assert "moved.gpkg" in caplog.text


def test_a_file_without_names_is_refused(folder: Path, cache: StoreLocation) -> None:
    with (
        serve_folder(folder) as url,
        pytest.raises(TrainingError, match="no column 'shapeName'; columns are shapeGroup"),
    ):
        regions_from(f"{url}/nameless.gpkg", FOOTPRINTS, cache)
