from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.demo import build_world
from darts_assets.demo.demo_scenes import ACQUISITIONS
from darts_assets.demo.landscape import make_landscape
from darts_assets.demo.world_blocks import blocks_of
from darts_assets.errors import SettingsError

AREA = GeoBox((7000, 9100), Affine(10, 0, -2_310_000, 0, -10, 60_000), "EPSG:3413")


def test_a_small_world_is_one_block() -> None:
    (block,) = blocks_of(AREA, 3000)
    assert block.geobox == AREA
    assert block.within.all()
    assert block.numbers == ()


def test_blocks_share_the_ground_among_them() -> None:
    blocks = list(blocks_of(AREA, 6500))
    assert len(blocks) == 12
    assert sum(block.share for block in blocks) == pytest.approx(1)
    times = np.zeros(AREA.shape, dtype=np.uint8)
    for block in blocks:
        times[block.core] += 1
        assert block.geobox[block.inner] == AREA[block.core]
        assert block.within[block.inner][40:-40, 40:-40].all()
        assert block.within.sum() == block.within[block.inner][40:-40, 40:-40].size
    assert (times == 1).all()


def test_each_pixel_of_another_grid_is_made_by_one_block() -> None:
    scene = ACQUISITIONS[0].geobox(3600)
    grid = scene.zoom_out(20)
    polar = scene.extent.to_crs("EPSG:3413", resolution=500).boundingbox
    size = int(max(polar.span_x, polar.span_y) // 10) + 200
    area = GeoBox((size, size), Affine(10, 0, polar.left - 1000, 0, -10, polar.top + 1000), "EPSG:3413")
    times = np.zeros(grid.shape, dtype=np.uint8)
    for block in blocks_of(area, 3600):
        window = block.window_of(grid)
        assert window is not None
        assert all(side.start % 2 == side.stop % 2 == 0 for side in window)
        held = block.covers(grid[window])
        times[window] += held
        assert block.covers(grid).sum() == held.sum()  # nothing that it holds is beyond its window
    assert (times == 1).all()


def test_ground_does_not_show_where_its_block_ends() -> None:
    whole = GeoBox((700, 1400), Affine(10, 0, -2_300_000, 0, -10, 3_000), "EPSG:3413")
    west, east = (make_landscape(whole[:, columns], seed=4) for columns in (slice(0, 1000), slice(400, 1400)))
    seam = slice(300, 400), slice(690, 710)  # 3 km from the edges of both
    for name in ("elevation", "water", "greenness", "moisture"):
        left, right = getattr(west, name)[seam], getattr(east, name)[seam[0], 290:310]
        np.testing.assert_allclose(left, right, atol=2e-3, err_msg=name)


def test_only_the_clear_scene_can_be_large(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="more than 3000 pixels has one scene"):
        build_world(tmp_path / "world", scenes=2, size=3002)
