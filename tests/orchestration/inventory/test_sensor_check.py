"""The check `sensors_agree`: a planted difference between two sensors warns, unless they are kept apart."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.inventory.inventory_store import write_inventory
from darts_assets.inventory.sensor_agreement import BANDS
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.inventory.sensor_check import SensorCheckConfig, sensor_check
from darts_assets.stores.tiles import write_tile
from darts_assets.tiles import TileStream, on_grid
from tests.inventory.planted import SOUTH, WEST, Planted, built, square

SCENES = [Planted(190, [square(0, 0)]), Planted(192, [square(0, 0)], family="planet")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url=str(tmp_path / "store"))


def publish(store: Store, values: dict[str, float], **parameters: Any) -> None:
    """An inventory of 2023, and tiles with constant values by family."""
    for scene in SCENES:
        if scene.family in values:
            pixel = {"sentinel2": 10, "planet": 3}[scene.family]
            side = 3000 // pixel
            grid = GeoBox((side, side), Affine(pixel, 0, WEST - 1500, 0, -pixel, SOUTH + 1500), "EPSG:32608")
            bands = dict.fromkeys(BANDS, np.full((side, side), values[scene.family], "float32"))
            bands["quality_data_mask"] = np.full((side, side), 2, "uint8")
            stream = TileStream(grid, tuple(bands), iter([on_grid(bands, grid)]))
            place = store.place("tiles", scene.family, "preprocessed_tile", scene.id)
            write_tile(place, stream, metadata={"provenance": {}})
    facts = {"provenance": {"parameters": parameters}}
    write_inventory(store.place("inventory", "rts", "2023"), built(SCENES, **parameters), facts)


def checked(store: Store, **config: Any) -> dg.AssetCheckResult:
    result = sensor_check(dg.build_asset_check_context(), SensorCheckConfig(**config), store)
    assert isinstance(result, dg.AssetCheckResult)
    return result


def test_a_difference_warns(store: Store) -> None:
    publish(store, {"sentinel2": 0.1, "planet": 0.15})
    result = checked(store)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert result.description is not None
    assert result.description.startswith("at the same places in 2023, blue: planet minus sentinel2 is +0.050")
    assert "ndvi" not in result.description
    assert result.description.endswith("`sensors: apart` keeps the families apart")
    assert result.metadata["pairs"].value == 1
    (blue, *_) = result.metadata["bands"].records
    assert (blue.data["one"], blue.data["band"], blue.data["bias"]) == ("planet", "blue", 0.05)
    assert checked(store, largest_bias=0.06).passed
    assert not checked(store, largest_bias=0.06, largest_ndvi_bias=0.01).passed


def test_sensors_that_are_apart_may_differ(store: Store) -> None:
    publish(store, {"sentinel2": 0.1, "planet": 0.15}, sensors="apart")
    result = checked(store)
    assert result.passed
    assert result.description is not None
    assert result.description.endswith("The inventory keeps the families apart")


def test_equal_sensors_pass_and_missing_tiles_are_no_evidence(store: Store) -> None:
    assert checked(store).description == "no inventory yet"
    publish(store, {"sentinel2": 0.1})
    assert checked(store).description == "2023: no two families have clear pixels of the same places in the same month"
    publish(store, {"sentinel2": 0.1, "planet": 0.1})
    result = checked(store)
    assert result.passed
    assert result.description == "2023: median differences of at most 0.000 in 1 pairs of scenes"
