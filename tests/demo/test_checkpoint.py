import json
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr

from darts_assets.bands import FEATURES
from darts_assets.demo import DEMO_CHECKPOINT, World, build_world, score
from darts_assets.demo.in_memory_chain import detect, scene_features
from darts_assets.model import SegmentParameters, read_header
from darts_assets.sources import read_item

pytestmark = pytest.mark.slow


def test_the_world_can_be_imported_without_torch() -> None:
    check = "import sys, darts_assets.demo; sys.exit('torch' in sys.modules or 'dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_shipped_checkpoint_takes_the_features() -> None:
    header = read_header(DEMO_CHECKPOINT)
    assert header.bands == FEATURES
    assert (header.terrain, header.format) == ("darts-2025", "lightning")
    assert DEMO_CHECKPOINT.stat().st_size < 5e6


def test_features_are_what_a_store_would_give_back(world: World) -> None:
    tile = scene_features(world, world.items[0], "darts-2025")
    assert set(FEATURES) <= set(tile.data_vars)
    slope = tile["slope"].values
    np.testing.assert_allclose(slope * 100, np.rint(slope * 100), atol=1e-3)
    assert np.isfinite(tile["relative_elevation"].values).all()
    assert tile["tc_brightness"].values.min() > 0


def test_an_old_baseline_whose_item_declares_an_offset_has_the_same_features(world: World, tmp_path: Path) -> None:
    """CDSE declares -0.1 for every baseline; the third scene is of baseline 02.14, whose digital numbers have none."""
    item = read_item(str(world.items[2]))
    for asset in item["assets"].values():
        if "raster:offset" in asset:
            asset["raster:offset"] = -0.1
    (tmp_path / "item.json").write_text(json.dumps(item))
    expected, tile = (scene_features(world, path, "darts-2025") for path in (world.items[2], tmp_path / "item.json"))
    assert 0.03 < float(expected["red"].median()) < 0.2
    xr.testing.assert_equal(tile, expected)


def test_the_shipped_checkpoint_finds_slumps_in_a_new_world(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world", seed=23, scenes=1, size=600, slumps=6)
    tile = scene_features(world, world.items[0], "darts-2025")
    detected, extent = detect(tile, read_header(DEMO_CHECKPOINT), SegmentParameters(patch_size=512, device="cpu"))
    result = score(detected, gpd.read_file(world.truth), extent)
    assert result.hits >= 4
    assert result.iou > 0.6
