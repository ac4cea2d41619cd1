"""How areas are chosen in the configs that have one."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import SettingsError
from darts_assets.orchestration.auxiliary.chunk_selection import PrepareAuxiliaryConfig
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
from darts_assets.orchestration.scene_discovery.selection import SceneChoice, read_area, read_ids
from darts_assets.orchestration.scene_discovery.watched_areas import WatchedArea
from darts_assets.sources import S3Options

BOXES = {"first": shapely.box(10, 70, 11, 71), "second": shapely.box(20, 70, 21, 71)}


@pytest.mark.parametrize(
    "config",
    [
        SceneChoice(tiles=["08WMB"], aoi_layer="second"),
        PlanetChoice(aoi_layer="second"),
        PrepareAuxiliaryConfig(scenes=["S2X"], aoi_layer="second"),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_layer_without_an_area(config: Any) -> None:
    with pytest.raises(SettingsError, match="aoi_layer has no effect"):
        config.check()


def test_a_layer_of_a_watched_area(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aoi_layer has no effect without aoi"):
        WatchedArea(name="Peel", tiles=("08WMB",), aoi_layer="second")
    for name, box in BOXES.items():
        gpd.GeoDataFrame(geometry=[box], crs=4326).to_file(tmp_path / "a.gpkg", layer=name)
    area = WatchedArea(name="Peel", aoi="a.gpkg", aoi_layer="second")
    assert area.selection(str(tmp_path), S3Options()).area.equals(BOXES["second"])
    assert read_area(str(tmp_path / "a.gpkg"), S3Options()).equals(BOXES["first"] | BOXES["second"])


@pytest.mark.parametrize("content", ["[", "[" * 100_000])
def test_an_ids_file_that_is_not_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(SettingsError, match=r"ids_file .*ids\.json is not JSON"):
        read_ids(str(tmp_path / "ids.json"), Store(url=str(tmp_path)))
