"""Labels of a Planet image on the Sentinel-2 scene that is found for it in a STAC API, as Dagster runs it."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.demo import build_world
from darts_assets.demo.in_memory_chain import scene_features
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.training.common import DATASET, MATCHES, SENTINEL2_SAMPLES
from darts_assets.settings import Settings
from darts_assets.sources.stac.services import CDSE
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import write_tile
from darts_assets.tiles import TileStream, geobox_of, on_grid
from tests.e2e.asset_runs import said
from tests.servers.stac_api.server import StacApi

pytestmark = pytest.mark.slow

X, Y = 2.4, -1.7
"""Pixels by which the Planet image lies elsewhere."""


class Workshop:
    """The scene's tile, the same ground as a Planet image shows it elsewhere, and labels drawn on that."""

    def __init__(self, folder: Path, api: StacApi) -> None:
        self.folder = folder
        self.settings = Settings(store=str(folder / "store"), cdse_url=api.url, catalog_pause=0)
        self.instance = dg.DagsterInstance.ephemeral()
        world = build_world(folder / "world", seed=3, scenes=1, size=400, slumps=8)
        tile = scene_features(world, world.items[0], "darts-2025")
        grid = geobox_of(tile)
        self.scene = world.items[0].stem
        day, time = self.scene.split("_")[2].split("T")
        self.image = f"{day}_{time}_1026"
        self.instance.add_dynamic_partitions(SENTINEL2.partitions.name, [self.scene])
        elsewhere = GeoBox(grid.shape, grid.affine @ Affine.translation(X, Y), grid.crs)
        planet = on_grid({"nir": tile["nir"].values}, elsewhere)
        self.keep("sentinel2", self.scene, TileStream(grid, tuple(map(str, tile.data_vars)), iter([tile]), tile.attrs))
        self.keep("planet", self.image, TileStream(geobox_of(planet), ("nir",), iter([planet])))
        seen = shapely.box(*grid.extent.geom.bounds).buffer(-500, join_style="mitre")
        truth = gpd.read_file(world.truth)
        truth = truth[truth.within(seen.buffer(-60))]
        labels = folder / "labels" / "iteration002"
        labels.mkdir(parents=True)
        drawn = truth.translate(10 * X, -10 * Y).to_frame("geometry").assign(image_id=self.image, label=1)
        drawn.to_file(labels / "TrainingLabel_RTS.gpkg")
        prints = gpd.GeoDataFrame({"image_id": [self.image], "datasource": "s"}, geometry=[seen], crs=truth.crs)
        prints.to_file(labels / "ImageFootprints_RTS.gpkg")
        self.labels = str(folder / "labels")
        self.drawn = len(drawn)
        item = json.loads(world.items[0].read_text())
        item["properties"] |= {
            "eo:cloud_cover": 2.0, "eo:snow_cover": 0.0, "grid:code": "MGRS-08WMB", "processing:version": "05.09",
            "published": "2023-08-01T00:00:00Z",
        }  # fmt: skip
        shape = shapely.box(*grid.extent.to_crs("EPSG:4326").geom.bounds)
        item |= {"assets": {}, "links": [], "geometry": shapely.geometry.mapping(shape), "bbox": list(shape.bounds)}
        api.load(CDSE.collection, [item])

    def keep(self, family: str, name: str, stream: TileStream) -> None:
        place = Place(self.settings.root.child("tiles", family, "preprocessed_tile", name))
        write_tile(place, stream, metadata={"provenance": {"data_version": "one"}})

    def metadata(self) -> gpd.GeoDataFrame:
        """The patches of the current set."""
        place = Place(self.settings.root.child("training", "default", "set"))
        return gpd.read_parquet(Path(place.current_url()) / "metadata.parquet")

    def said(self, key: dg.AssetKey, partition: str | None = None, **config: Any) -> dict[str, Any]:
        return said(self.settings, self.instance, key, partition, **config)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, stac_api: StacApi) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("matched"), stac_api)


def test_labels_come_to_lie_on_the_scene(workshop: Workshop) -> None:
    ids = workshop.folder / "scenes.json"
    matches = workshop.said(MATCHES, labels=workshop.labels, source="cdse", write_ids=str(ids))
    assert (matches["images"], matches["matched"], matches["scenes"]) == (1, 1, [workshop.scene])
    (row,) = (dict(record.data) for record in matches["best"].records)
    assert row["image_id"] == workshop.image
    assert row["score"] == pytest.approx(0.16, abs=1e-3), "clouds of 2 %, all of the footprint, the same time"
    assert json.loads(ids.read_text()) == [workshop.scene]

    config = {"labels": workshop.labels, "patch_size": 96, "overlap": 0, "exclude_nan": False}
    samples = workshop.said(SENTINEL2_SAMPLES, workshop.scene, **config)
    assert samples["images"] == [workshop.image]
    assert samples["patches"][workshop.image] > 3
    assert workshop.said(DATASET)["with_slumps"] > 0
    table = workshop.metadata()
    assert set(table["scene_id"]) == {workshop.scene}
    assert table["shift_x"].iloc[0] == pytest.approx(-10 * X, abs=1)
    assert table["shift_y"].iloc[0] == pytest.approx(10 * Y, abs=1)
    assert table["labels_aligned"].iloc[0] > workshop.drawn / 2
    assert table["score"].iloc[0] == pytest.approx(0.16, abs=1e-3)

    workshop.said(SENTINEL2_SAMPLES, workshop.scene, align=False, **config)
    workshop.said(DATASET)
    table = workshop.metadata()
    assert table["labels_aligned"].iloc[0] == 0
