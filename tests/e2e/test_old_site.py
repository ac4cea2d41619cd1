"""A store and a Dagster instance of the first layout (commit `ae68dc1`) work with the present code."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import xarray as xr

from darts_assets.bands import band
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, STEPS
from darts_assets.settings import Settings
from darts_assets.store_migration import migrate_store
from darts_assets.stores.scene_paths import scene_paths
from tests.e2e.equal_stores import assert_equal_stores
from tests.e2e.harness import Site, reason

ROOT = Path(__file__).parents[2]
COMMIT = "ae68dc1"

BUILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import dagster as dg
import numpy as np
from darts_assets.demo import build_world
from darts_assets.settings import Settings
from harness import Site, reason

folder = Path(sys.argv[1])
world = build_world(folder / "world", seed=7, scenes=2, size=300)
settings = Settings(store=str(folder / "store"), arcticdem=str(world.arcticdem), tcvis=world.tcvis)
with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
    site = Site(folder, settings, instance)
    mapped, registered = site.register(*world.items)
    result = site.run(mapped)
    assert result.success, reason(result)
made = {"settings": settings.model_dump_json(), "mapped": mapped, "registered": registered, "run_id": result.run_id}
(folder / "site.json").write_text(json.dumps(made))
"""


@pytest.fixture(scope="module")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a demo world, a store with one mapped scene and an instance, all made by the old code."""
    folder = tmp_path_factory.mktemp("old")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no commit {COMMIT} in this checkout")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(folder / "code", filter="data")
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    paths = os.pathsep.join(str(folder / "code" / part) for part in ("", "tests/e2e"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], env={**os.environ, "PYTHONPATH": paths}, cwd=folder,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_site_of_the_first_layout_is_opened_and_a_scene_mapped_again(old_site: Path, tmp_path: Path) -> None:
    made = json.loads((old_site / "site.json").read_text())
    mapped, settings = made["mapped"], Settings.model_validate_json(made["settings"])
    shutil.copytree(old_site / "store", tmp_path / "store")
    with dg.DagsterInstance.from_config(str(old_site / "dagster")) as instance:
        site = Site(old_site, settings, instance)
        untouched = Site(tmp_path, settings.model_copy(update={"store": str(tmp_path / "store")}), instance)
        assert set(instance.get_dynamic_partitions(site.family.partitions.name)) == {mapped, made["registered"]}
        assert {step: site.materialized(step) for step in STEPS} == {step: {mapped} for step in STEPS}
        chunks = {layer: site.chunks(layer) for layer in CHUNK_KEYS}
        assert all(chunks.values())
        assert runs_of(site, mapped) == {step: [made["run_id"]] for step in STEPS}
        assert site.load("polygons", mapped)["segments"].equals(untouched.load("polygons", mapped)["segments"])
        with pytest.raises(dg.Failure, match=r"was written by a former release.*darts-assets migrate"):
            site.load("preprocessed_tile", mapped)
        for each in (site, untouched):
            done = migrate_store(each.settings.root, lambda line: None)
            assert (done.tiles, done.cubes, done.problems) == (3, 2, {})
            paths = scene_paths(each.settings.root, mapped)
            assert set(xr.open_zarr(paths["segmentation"]).data_vars) == {"probabilities"}
            with xr.open_zarr(paths["preprocessed_tile"]) as tile:
                assert all(tile[name].attrs["long_name"] == band(name).long_name for name in tile.data_vars)
                assert tile["slope"].attrs["standard_name"] == band("slope").standard_name
        assert (Path(scene_paths(site.settings.root, mapped)["products"]) / "prediction_segments.gpkg").exists()

        result = site.run(mapped)
        assert result.success, reason(result)
        assert materialization(result, site.family.key("raw_scene")).metadata["fetched"].value == []
        assert {e.asset_key.path[-1] for e in result.get_asset_materialization_events()} == set(STEPS)
        checks = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.partition == mapped]
        assert {check.check_name for check in checks} == {
            "auxiliary_coverage", "bands_complete", "detections_are_clear", "feature_ranges", "geometries_valid",
            "probabilities_plausible", "probabilities_valid", "scene_coverage", "scene_was_seen",
            "small_slumps_are_kept",
        }  # fmt: skip
        assert all(check.passed for check in checks)
        assert {step: site.materialized(step) for step in STEPS} == {step: {mapped} for step in STEPS}
        assert {layer: site.chunks(layer) for layer in CHUNK_KEYS} == chunks
        assert runs_of(site, mapped) == {step: [result.run_id, made["run_id"]] for step in STEPS}
        assert_equal_stores(untouched, site, mapped, places=2, attributes=False)  # the raw scene and the tile
        # It stored probabilities in whole percent, and its threshold was 0.505 in effect.
        old, new = (each.load("segmentation", mapped)["probabilities"].values for each in (untouched, site))
        np.testing.assert_allclose(old, new, atol=0.0051)
        before, after = (each.load("polygons", mapped) for each in (untouched, site))
        assert before["extent"].geometry.equals(after["extent"].geometry)
        larger = after["segments"].area.sum() / before["segments"].area.sum()
        assert 1 < larger < 1.02
        # The old polygons are read by the checks and by the inventory as entirely clear.
        assert "clear_fraction" not in before["segments"]
        assert (after["segments"]["clear_fraction"] == 1).all()

        result = site.run(made["registered"])
        assert result.success, reason(result)


def materialization(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dg.AssetMaterialization:
    (event,) = [each for each in result.get_asset_materialization_events() if each.asset_key == key]
    return event.step_materialization_data.materialization


def runs_of(site: Site, scene: str) -> dict[str, list[str]]:
    """The runs that have materialized a scene, by step, the latest first."""
    return {
        step: [
            record.run_id
            for record in site.instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=site.family.key(step), asset_partitions=[scene]), limit=10
            ).records
        ]
        for step in STEPS
    }
