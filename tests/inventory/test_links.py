"""Pairs of detections that are linked, and the sites that they form."""

import numpy as np
import pytest
import shapely

from darts_assets.inventory.links import sites_of
from darts_assets.inventory.site_parameters import InventoryParameters


@pytest.mark.parametrize(
    ("cut", "sites"),
    [((False, False), [0, 1]), ((True, False), [0, 0]), ((False, True), [0, 0]), ((True, True), [0, 0])],
)
def test_detections_that_touch_are_one_site_if_either_is_cut(cut: tuple[bool, bool], sites: list[int]) -> None:
    touching = np.array([shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)], dtype=object)
    assert sites_of(touching, np.array([0, 1]), np.array(cut), InventoryParameters()).tolist() == sites


def test_detections_of_one_scene_are_not_linked() -> None:
    touching = np.array([shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)], dtype=object)
    assert sites_of(touching, np.array([0, 0]), np.array([True, True]), InventoryParameters()).tolist() == [0, 1]
