"""What a step gets of its inputs comes from one published version; replaced versions stay as the store is set."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox

from darts_assets.orchestration.core import io_managers
from darts_assets.orchestration.core.io_managers import TileIOManager, VectorIOManager
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.training.common import read_preprocessed
from darts_assets.stores import tiles
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.tiles import write_tile
from darts_assets.stores.vectors import write_vectors
from darts_assets.tiles import TileStream, on_grid

GRID = GeoBox.from_bbox((500_000, 7_700_000, 500_100, 7_700_100), crs="EPSG:32608", resolution=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(url=str(tmp_path))


def publish_tile(place: Place, number: int) -> None:
    tile = on_grid({"tc_wetness": np.full(GRID.shape, number, "uint8")}, GRID)
    write_tile(
        place, TileStream(GRID, ("tc_wetness",), iter([tile])), metadata={"provenance": {"data_version": number}}
    )


def publish_table(place: Place, number: int) -> None:
    table = gpd.GeoDataFrame({"n": [number]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32608")
    write_vectors(place, {"segments": table}, {"provenance": {"data_version": number}})


@pytest.fixture
def publish_after_the_pointer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Publish again as soon as a reader has read the pointer; what it refers to stays readable."""

    def arrange(publish: Callable[[Place, int], None]) -> None:
        real = Place.manifest
        monkeypatch.setattr(Place, "_remove", lambda place, name: None)

        def manifest(place: Place) -> Manifest | None:
            first = real(place)
            monkeypatch.setattr(Place, "manifest", real)
            publish(place, 2)
            return first

        monkeypatch.setattr(Place, "manifest", manifest)

    return arrange


def test_a_table_and_its_provenance_are_of_one_version(
    store: Store, publish_after_the_pointer: Callable[..., None]
) -> None:
    place = store.place("vectors", "sentinel2", "polygons", "S")
    publish_table(place, 1)
    publish_after_the_pointer(publish_table)
    table = VectorIOManager(store=store).read(("sentinel2", "polygons"), "S")["segments"]
    assert (table["n"].tolist(), table.attrs["provenance"]["data_version"]) == ([1], 1)


@pytest.mark.parametrize("reader", ["io manager", "training"])
def test_a_tile_and_its_provenance_are_of_one_version(
    store: Store, publish_after_the_pointer: Callable[..., None], reader: str
) -> None:
    place = store.place("tiles", "sentinel2", "preprocessed_tile", "S")
    publish_tile(place, 1)
    publish_after_the_pointer(publish_tile)
    tile: Any
    if reader == "training":
        tile, version = read_preprocessed(store, SENTINEL2, "S")
    else:
        tile = TileIOManager(store=store).read(("sentinel2", "preprocessed_tile"), "S")
        version = tile.attrs["provenance"]["data_version"]
    assert (tile["tc_wetness"].values[0, 0], int(version)) == (1, 1)
    assert tiles.read_tile(place)["tc_wetness"].values[0, 0] == 2


@pytest.mark.parametrize(("hours", "kept"), [(0, 2), (24, 3)])
@pytest.mark.parametrize("kind", ["tiles", "vectors"])
def test_replaced_versions_stay_for_the_time_that_the_store_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, hours: float, kept: int
) -> None:
    monkeypatch.setattr(io_managers, "costs_of", lambda context: {})
    store = Store(url=str(tmp_path), keep_replaced_hours=hours)
    key, log = dg.AssetKey(["sentinel2", "segmentation"]), logging.getLogger()
    context: Any = SimpleNamespace(
        asset_key=key, asset_partition_key="S", log=log, output_metadata={}, add_output_metadata=lambda metadata: None
    )
    for number in (1, 2, 3):  # a write collects what earlier ones have replaced
        if kind == "tiles":
            tile = on_grid({"tc_wetness": np.full(GRID.shape, number, "uint8")}, GRID)
            io_managers.publish_tile(store, key, "S", TileStream(GRID, ("tc_wetness",), iter([tile])), {}, log)
        else:
            table = gpd.GeoDataFrame({"n": [number]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32608")
            VectorIOManager(store=store).handle_output(context, {"segments": table})
    folder = tmp_path / kind / "sentinel2/segmentation/S"
    assert len([path for path in folder.iterdir() if path.is_dir()]) == kept
