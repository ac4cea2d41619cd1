"""Time, memory and size of inventory, catalog and data set for many detections, and of an update with a new scene.

python -m tests.benchmarks.inventory_scale --slumps 50000 --years 10 --folder /tmp/scale

Each slump is detected twice a year, in scenes of 20 km. Scenes have only what these steps read: polygons, and the table
of products.
"""

import argparse
import datetime as dt
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from darts_assets.catalog.catalog_store import Tree, model_id
from darts_assets.catalog.detections import update_detections
from darts_assets.catalog.model_collection import model_item
from darts_assets.dataset.dataset_store import update_coverage, update_level1, update_level2
from darts_assets.dataset.release import build_release, publish_release, read_inputs
from darts_assets.dataset.release_parameters import ReleaseParameters
from darts_assets.geo.product_tables import Origin, product_tables
from darts_assets.inventory.inventory_store import read_inventory, read_year, write_followed, write_inventory
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.table_schemas import SceneRecord
from darts_assets.inventory.yearly_inventory import update
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.store_layout import dataset_place, slumps_place, year_place
from darts_assets.stores.vectors import write_table
from tests.dataset.published_world import MODEL

EPSG, WEST, SOUTH = 32608, 430_000, 7_600_000
SPACING, TILE = 600, 20_400  # metres between slumps, side of a scene
PER_SIDE = TILE // SPACING
FIRST_YEAR = 2014


class Scenes:
    """Generated scenes, by id: `<year>-<day>-<tile>`."""

    def __init__(self, slumps: int) -> None:
        self.tiles = -(-slumps // PER_SIDE**2)
        self.columns = max(1, round(self.tiles**0.5))
        self.slumps = slumps

    def of_year(self, year: int, passes: int = 2) -> list[SceneRecord]:
        return [
            SceneRecord(f"{year}-{day}-{tile}", "sentinel2", dt.datetime(year, 7, day, 20, tzinfo=dt.UTC), "1")
            for day in range(1, passes + 1)
            for tile in range(self.tiles)
        ]

    def segments(self, scene_id: str) -> gpd.GeoDataFrame:
        year, day, tile = map(int, scene_id.split("-"))
        count = min(PER_SIDE**2, self.slumps - tile * PER_SIDE**2)
        random = np.random.default_rng([year, day, tile])
        index = np.arange(count)
        size = 40 + 60 * np.random.default_rng(tile).random(count) + 3 * (year - FIRST_YEAR)
        west, south = self._corner(tile)
        x = west + (index % PER_SIDE) * SPACING + 200 + random.normal(0, 3, count)
        y = south + (index // PER_SIDE) * SPACING + 200 + random.normal(0, 3, count)
        side = size + random.normal(0, 3, count)
        columns = {
            "Region_ID": index + 1, "touches_edge": False, "clear_fraction": 1.0, "min": 0.5, "max": 0.95, "mean": 0.8,
            "median": 0.8, "std": 0.1, "model_spread": np.nan, "npixel": (side**2 / 100).astype(int),
        }  # fmt: skip
        return gpd.GeoDataFrame(columns, geometry=shapely.box(x, y, x + side, y + side), crs=EPSG)

    def valid(self, scene_id: str) -> gpd.GeoDataFrame:
        west, south = self._corner(int(scene_id.split("-")[2]))
        return gpd.GeoDataFrame(geometry=[shapely.box(west, south, west + TILE, south + TILE)], crs=EPSG)

    observed = valid

    def _corner(self, tile: int) -> tuple[float, float]:
        return WEST + tile % self.columns * TILE, SOUTH + tile // self.columns * TILE

    def publish(self, root: StoreLocation, record: SceneRecord) -> None:
        """Publish the table of the products of a scene, as the catalog reads it."""
        name = record.scene_id
        tables = {"segments": self.segments(name), "extent": self.valid(name)}
        table = product_tables(tables, Origin(name, record.datetime, [MODEL.name], "1"))["segments"]
        step = {"code_version": "1", "data_version": "1", "parameters": {}}
        metadata = {
            "scene_id": name, "datetime": record.datetime.isoformat(), "models": {MODEL.name: MODEL.sha256},
            "model_hash": f"{MODEL.name}={MODEL.sha256[:16]}", "config_hash": "1", "steps": {"polygons": step},
        }  # fmt: skip
        west, _, _, north = tables["extent"].total_bounds
        grid = {
            "crs": f"EPSG:{EPSG}", "shape": [TILE // 10] * 2,
            "transform": list(Affine(10, 0, west, 0, -10, north))[:6],
        }  # fmt: skip
        place = Place(root.child("products", record.family, name))
        with place.new_version() as version:
            file = write_table(version, "prediction_segments", table)
            facts = {"metadata": metadata, "grid": grid, "footprint": None}
            place.publish(version, {file: version.id}, facts)


@contextmanager
def measured(name: str, count: str = "") -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    took, used = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name:44} {took:9.1f} {used:9.1f} {memory:9.2f}  {count}", flush=True)


def size_of(folder: Path) -> str:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{sum(path.stat().st_size for path in files) / 1e6:.0f} MB"


def main() -> None:
    """Print a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slumps", type=int, default=50_000)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    root, scenes = StoreLocation(str(options.folder)), Scenes(options.slumps)
    years = range(FIRST_YEAR, FIRST_YEAR + options.years)
    print(f"{'step':44} {'seconds':>9} {'CPU s':>9} {'peak GB':>9}")

    def year_of(year: int, passes: int, name: str) -> None:
        place, records = year_place(root, year), scenes.of_year(year, passes)
        with measured(name, f"{len(records)} scenes"):
            before = read_inventory(place, place.manifest(), year, InventoryParameters())
            inventory, changes = update(before, records, scenes)
            facts = {"data_version": f"{year} {len(records)}", "parameters": InventoryParameters().model_dump()}
            write_inventory(place, inventory, {"provenance": facts})
        print(f"{'':44} {len(inventory.sites)} sites, {changes.worked_out} computed", flush=True)

    def slumps(name: str) -> None:
        with measured(name):
            manifests = {year: year_place(root, year).require() for year in years}
            tables = {year: read_year(year_place(root, year), manifest, year) for year, manifest in manifests.items()}
            sites, found = ({year: tables[year][index] for year in years} for index in (0, 1))
            followed = follow(sites, found, scenes.observed, FollowParameters())
            inputs = {f"rts_{year}": each.metadata["provenance"]["data_version"] for year, each in manifests.items()}
            facts = {"data_version": str(sorted(inputs.items())), "inputs": inputs, "parameters": {}}
            write_followed(slumps_place(root), followed, {"provenance": facts})

    def catalog(name: str) -> None:
        with measured(name):
            update_detections(root, ["sentinel2"], licence="CC-BY-4.0")

    def data_set(name: str, version: str) -> None:
        made = slumps_place(root).require().metadata["provenance"]["data_version"]
        steps: dict[str, Callable[[], Any]] = {
            "level1": lambda: update_level1(root, dataset_place(root, "level1")),
            "level2": lambda: update_level2(
                root, dataset_place(root, "level2"), {"provenance": {"inputs": {"slumps": made}}}
            ),
            "coverage": lambda: update_coverage(root, dataset_place(root, "coverage"), lambda table: scenes, 250),
        }
        for step, work in steps.items():
            with measured(f"{name}: {step}"):
                work()
        parameters = ReleaseParameters(version=version, institution="Benchmark")
        folder = options.folder / f"release-{version}"
        folder.mkdir()
        with measured(f"{name}: release"):
            build_release(folder, read_inputs(root, parameters), parameters)
            publish_release(Place(root.child("dataset", "release", version)), folder, {})
        print(f"{'':44} {size_of(folder)}", flush=True)

    with measured("publish scenes (not a step)"):
        for year in years:
            for record in scenes.of_year(year):
                scenes.publish(root, record)
    for year in years:
        year_of(year, 2, f"inventory/rts {year} from scratch")
    slumps("inventory/slumps")
    catalog("catalog/detections from scratch")
    name = model_id(MODEL.name, MODEL.sha256)
    Tree(root.child("catalog")).write(f"stac/models/{name}.json", model_item(MODEL, None))
    data_set("dataset", "1.0")
    for folder in ("inventory", "catalog", "dataset"):
        print(f"{folder:44} {size_of(root.path / folder)}", flush=True)

    print("one new scene", flush=True)
    last = years[-1]
    extra = scenes.of_year(last, 3)[2 * scenes.tiles]
    scenes.publish(root, extra)
    original = scenes.of_year
    scenes.of_year = lambda year, passes=2: [*original(year), *([extra] if year == last else [])]  # type: ignore[method-assign]
    year_of(last, 2, f"inventory/rts {last}")
    slumps("inventory/slumps")
    catalog("catalog/detections")
    data_set("dataset", "1.1")


if __name__ == "__main__":
    main()
