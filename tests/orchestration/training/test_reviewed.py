"""Verdicts become samples: the asset, with the set that is assembled from them."""

from pathlib import Path

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import shapely
import zarr

from darts_assets.demo import build_world
from darts_assets.demo.in_memory_chain import scene_features
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.training.common import DATASET, REVIEWED_SAMPLES
from darts_assets.settings import Settings
from darts_assets.stores.publish import Place
from darts_assets.stores.store_layout import items_folder, slumps_place
from darts_assets.stores.tiles import write_tile
from darts_assets.stores.vectors import write_vectors
from darts_assets.tiles import TileStream, geobox_of
from tests.e2e.asset_runs import failure, run, said

pytestmark = pytest.mark.slow


def test_judged_sites_become_a_training_set(tmp_path) -> None:
    settings = Settings(store=str(tmp_path / "store"))
    instance = dg.DagsterInstance.ephemeral()
    world = build_world(tmp_path / "world", seed=3, scenes=1, size=256, slumps=4)
    tile = scene_features(world, world.items[0], "darts-2025")
    grid, scene = geobox_of(tile), world.items[0].stem
    instance.add_dynamic_partitions(SENTINEL2.partitions.name, [scene])
    folder = items_folder(settings.root, "sentinel2").path
    folder.mkdir(parents=True)
    (folder / f"{scene}.json").write_text(world.items[0].read_text())
    write_tile(
        Place(settings.root.child("tiles", "sentinel2", "preprocessed_tile", scene)),
        TileStream(grid, tuple(map(str, tile.data_vars)), iter([tile]), tile.attrs),
        metadata={"provenance": {"data_version": "one"}},
    )
    left, bottom, *_ = grid.extent.geom.bounds
    shapes = [shapely.box(left + x, bottom + 1000, left + x + 200, bottom + 1200) for x in (300, 1000, 1800)]
    sites = gpd.GeoDataFrame(
        {"site_id": list("abc"), "slump_id": list("abc"), "year": int(scene.split("_")[2][:4])},
        geometry=shapes, crs=str(grid.crs),
    ).to_crs(6931)  # fmt: skip
    place = slumps_place(settings.root)
    write_vectors(place, {"rts_sites": sites}, {"provenance": {"data_version": "1"}})
    config = {"patch_size": 128, "overlap": 0, "exclude_nan": False, "margin": 60}
    assert "has no verdicts: materialize inventory/slumps again" in failure(
        run(settings, instance, REVIEWED_SAMPLES, scene, **config)
    )
    write_vectors(place, {"rts_sites": sites.assign(verdict=["yes", "no", "redraw"])}, {"provenance": {}})
    metadata = said(settings, instance, REVIEWED_SAMPLES, scene, **config)
    assert (metadata["slumps"], metadata["hard_negatives"], metadata["ignored"]) == (1, 1, 1)
    assert metadata["patches"] >= 1
    made = said(settings, instance, DATASET, dataset="reviewed")
    assert (made["samples"], made["with_slumps"] >= 1) == (1, True)
    (region,) = (dict(row.data) for row in made["regions"].records)
    assert region["region"] == metadata["region"]

    # As shares, for sets of several experts.
    said(settings, instance, REVIEWED_SAMPLES, scene, **config, agreement=True, dataset="shares")
    assert "expert_pairs" not in said(settings, instance, DATASET, dataset="shares")
    (shares,) = (Path(settings.root.url) / "training" / "shares" / "set").glob("*/data.zarr")
    y = np.asarray(zarr.open_group(shares, mode="r")["y"])
    assert y.dtype == np.float32
    classes = np.asarray(zarr.open_group(next(shares.parents[3].glob("reviewed/set/*/data.zarr")), mode="r")["y"])
    np.testing.assert_array_equal(np.where(np.isnan(y), 2, y), classes)
    assert set(np.unique(classes)) == {0, 1, 2}
