"""A finished scene whose tiles are released: status, provenance, catalog, later steps, and how they are made again."""

import json
import re
import shlex
from pathlib import Path

import dagster as dg

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.orchestration.run_monitoring.event_log import step_rows
from darts_assets.stores.tile_retention import released_inputs, released_steps
from tests.e2e.harness import Site, metadata_of, reason

TILES = ["raw_scene", "preprocessed_tile", "segmentation"]


def zarr_assets(store: Path) -> list[Path]:
    """The Zarr stores that the items of the catalog refer to."""
    paths = []
    collection = store / "catalog" / "stac" / "sentinel2" / "collection.json"
    for link in json.loads(collection.read_text())["links"]:
        if link["rel"] == "item":
            item = (collection.parent / link["href"]).resolve()
            assets = json.loads(item.read_text())["assets"].values()
            paths += [(item.parent / asset["href"]).resolve() for asset in assets if "zarr" in asset["type"]]
    return paths


def test_tiles_of_a_finished_scene_are_released(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    chain = site.run(scene)
    assert chain.success, reason(chain)
    store, root = Path(site.settings.root.path), site.settings.root
    assert site.defs.resolve_job_def("publish_catalog").execute_in_process(instance=site.instance).success
    assert len(zarr_assets(store)) == 3

    def release(**config: str) -> dg.ExecuteInProcessResult:
        return site.using(keep_replaced_hours=0.0).run_job("release_tiles", "release_old_tiles", **config)

    assert release().success
    assert released_steps(root, "sentinel2", scene) == [], "the default keeps all"
    assert "expected all, until_products" in reason(release(keep="never"))
    assert release(keep="until_products").success
    assert released_steps(root, "sentinel2", scene) == TILES

    assert all(site.materialized(step) == {scene} for step in STEPS)
    for step in TILES:
        records = site.instance.fetch_observations(SENTINEL2.key(step), limit=5).records
        (observed,) = (record.event_log_entry.asset_observation for record in records)
        assert observed is not None
        assert (observed.partition, observed.metadata["released"].value) == (scene, True)
    assert release(keep="until_products").success
    assert all(path.exists() for path in zarr_assets(store)), "the catalog mentions them"
    for _ in range(2):  # the second update removes the former items
        assert site.defs.resolve_job_def("publish_catalog").execute_in_process(instance=site.instance).success
    assert zarr_assets(store) == []
    assert release(keep="until_products").success
    assert not [path for path in store.glob("*/**/*.zarr") if {"raw", "tiles"} & set(path.relative_to(store).parts)]

    checks = site.run(scene, "polygons", polygons={"threshold": 0.4})
    assert not checks.success
    (row,) = (row for row in step_rows(site.instance, checks.dagster_run) if row["asset"] == "sentinel2/polygons")
    assert "released on" in row["error"]
    command = shlex.split(row["error"].partition("First make them again: ")[2])
    assert command[command.index("--partition") + 1] == scene
    again = re.findall(r'key:"sentinel2/(\w+)"', command[command.index("--select") + 1])
    assert again == released_inputs(root, "sentinel2", scene, "polygons") == TILES
    made = site.run(scene, *again)
    assert made.success, reason(made)
    for step in TILES:
        assert metadata_of(made, step)["provenance"] == metadata_of(chain, step)["provenance"]
    later = site.run(scene, "polygons", "products", polygons={"threshold": 0.4})
    assert later.success, reason(later)
    assert released_steps(root, "sentinel2", scene) == []
