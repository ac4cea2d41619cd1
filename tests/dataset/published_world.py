"""Stores with planted scenes of three years and two sensors: polygons, products, catalog, inventory and slumps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.catalog.detections import update_detections
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.dataset.dataset_store import update_coverage, update_level1, update_level2
from darts_assets.demo import world
from darts_assets.detection.export import describe, export
from darts_assets.geo.product_tables import Origin, product_tables
from darts_assets.inventory.inventory_store import read_year, write_followed, write_inventory
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from darts_assets.model.header import read_header
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.store_layout import dataset_place, slumps_place, year_place
from darts_assets.stores.vectors import write_vectors
from darts_assets.tiles import on_grid
from tests.inventory.planted import Planted, Tables, brought_to, square

MODEL = read_header(Path(world.__file__).with_name("slumps_demo.ckpt"), "demo")
FAMILIES = ("sentinel2", "planet")
AREA = square(-1000, -1000, 6000)
CLOUD = square(2000, 2000, 1500)


def scenes() -> list[Planted]:
    """Two slumps over three years: one grows, the other begins in the second year; a third one is seen once."""
    return [
        Planted(180, [square(0, 0)], AREA, year=2021, clouds=CLOUD),
        Planted(190, [square(0, 0)], AREA, year=2021, clouds=shapely.Polygon(), family="planet"),
        Planted(180, [square(0, 0, 120), square(1000, 500)], AREA, year=2022, clouds=CLOUD),
        Planted(180, [square(0, 0, 118), square(1010, 500)], AREA, year=2022, clouds=CLOUD, family="planet"),
        Planted(200, [square(0, 0, 122)], AREA, year=2022, clouds=shapely.Polygon()),
        Planted(181, [square(0, 0, 150), square(1000, 500), square(3000, 4000, 60)], AREA, year=2023, clouds=CLOUD),
        Planted(195, [square(5, 0, 150)], AREA, year=2023, clouds=CLOUD, family="planet"),
    ]


def publish_scene(root: StoreLocation, scene: Planted) -> None:
    """Publish the polygons of a scene and its products, as far as the catalog reads them."""
    objects = scene.segments()
    mean = objects["mean"].to_numpy()
    objects = objects.assign(
        min=mean - 0.2, max=mean + 0.1, median=mean, std=0.05, npixel=(objects.area / 100).round().astype(int)
    )
    tables = {"segments": objects, "extent": scene.valid_area(), "clear": scene.observed()}
    facts = {"data_version": scene.version}
    write_vectors(Place(root.child("vectors", scene.family, "polygons", scene.id)), tables, {"provenance": facts})
    west, south, east, north = scene.valid_area().total_bounds
    shape = round((north - south) / 10), round((east - west) / 10)
    grid = GeoBox(shape, Affine(10, 0, west, 0, -10, north), f"EPSG:{scene.epsg}")
    values = on_grid({"probabilities": np.zeros(shape, "float32")}, grid)
    vectors = product_tables(tables, Origin(scene.id, scene.time, ["demo"], "0.1.0+1"))
    step = {"code_version": "0.1.0+1", "data_version": scene.version, "parameters": {}}
    metadata = {
        "scene_id": scene.id, "tile_id": scene.id, "source": "cdse", "datetime": scene.time.isoformat(),
        "terrain": "darts-2025", "threshold": 0.5, "min_object_size": 4, "models": {MODEL.name: MODEL.sha256},
        "export_date": "2026-01-02T03:04:05+00:00", "code_version": "0.1.0+2", "data_version": f"p{scene.version}",
        "model_hash": f"{MODEL.name}={MODEL.sha256[:16]}", "config_hash": "cafe", "item_hash": "beef",
        "crs": f"EPSG:{scene.epsg}",
        "steps": dict.fromkeys(("preprocessed_tile", "segmentation", "polygons"), step),
    }  # fmt: skip
    place = Place(root.child("products", scene.family, scene.id))
    with place.new_version() as fresh:
        folder = fresh.location.path
        folder.mkdir(parents=True)
        export(folder, ["polygonized"], probabilities=values, features=values, vectors=vectors, metadata=metadata)
        facts = {"metadata": metadata, "item": None, "tiles": {}, **describe(folder, grid, vectors)}
        names = sorted(path.name for path in folder.iterdir())
        place.publish(fresh, dict.fromkeys(names, fresh.id), {"provenance": {}, **facts})


def publish_inventory(root: StoreLocation, planted: Sequence[Planted], years: Iterable[int] = ()) -> None:
    """Publish the inventory of the years (by default of all scenes) and the slumps."""
    for year in years or sorted({scene.year for scene in planted}):
        of_year = [scene for scene in planted if scene.year == year]
        inventory = brought_to(empty_inventory(year, InventoryParameters()), of_year)
        version = f"{year} of " + " ".join(sorted(f"{scene.id} {scene.version}" for scene in of_year))
        facts = {"data_version": version, "parameters": InventoryParameters().model_dump()}
        write_inventory(year_place(root, year), inventory, {"provenance": facts})
    publish_slumps(root, planted)


def publish_slumps(root: StoreLocation, planted: Sequence[Planted], **verdicts: str) -> None:
    """Publish the slumps of the published years; `verdicts` are about slumps by id, with underscores."""
    years = sorted({scene.year for scene in planted})
    manifests = {year: year_place(root, year).require() for year in years}
    tables = {year: read_year(year_place(root, year), manifest, year) for year, manifest in manifests.items()}
    sites, found = ({year: tables[year][index] for year in years} for index in (0, 1))
    followed = follow(sites, found, Tables(list(planted)).observed, FollowParameters())
    if verdicts:
        told = followed.sites["slump_id"].map(lambda slump: verdicts.get(slump.replace("-", "_"), ""))
        judged = followed.sites.assign(reviewed=told != "", verdict=told, reviewers=1, agreement=1.0)
        followed = replace(followed, sites=judged)
    inputs = {f"rts_{year}": manifest.metadata["provenance"]["data_version"] for year, manifest in manifests.items()}
    version = f"{sorted(inputs.values())} {sorted(verdicts.items())}"
    facts = {"data_version": version, "inputs": inputs, "parameters": FollowParameters().model_dump()}
    write_followed(slumps_place(root), followed, {"provenance": facts})


def publish_catalog(root: StoreLocation) -> None:
    update_detections(root, FAMILIES, licence="CC-BY-4.0")
    update_stac(root, FAMILIES, [MODEL], licence="CC-BY-4.0")


def publish_world(root: StoreLocation, planted: Sequence[Planted]) -> None:
    """Publish scenes, inventory and catalog."""
    for scene in planted:
        publish_scene(root, scene)
    publish_inventory(root, planted)
    publish_catalog(root)


def update_tables(root: StoreLocation, planted: Sequence[Planted], cell: float = 100) -> tuple[list[int], list[int]]:
    """Update Level 1, Level 2 and coverage; returns the years whose Level 1 and coverage were written."""
    slumps = slumps_place(root).require().metadata["provenance"]["data_version"]
    facts: dict[str, Any] = {"provenance": {"inputs": {"slumps": slumps}}}
    update_level2(root, dataset_place(root, "level2"), facts)
    written = update_level1(root, dataset_place(root, "level1"))
    areas = Areas(list(planted))
    covered = update_coverage(root, dataset_place(root, "coverage"), lambda table: areas, cell)
    return written.made, covered.made


class Areas(Tables):
    """Valid and observed areas of planted scenes."""

    def valid(self, scene_id: str) -> gpd.GeoDataFrame:
        return self.scenes[scene_id].valid_area()
