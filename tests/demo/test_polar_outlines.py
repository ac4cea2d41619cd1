import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from darts_assets.demo.polar_outlines import blob, horseshoe

GRID = GeoBox((200, 200), Affine(10, 0, 1000, 0, -10, 3000), "EPSG:3413")


def test_inside_the_field_is_inside_the_polygon() -> None:
    outline = horseshoe(np.random.default_rng(1), 2000, 2000, heading=0.7, area=6e4)
    inside = outline.local(GRID)[1] > 0
    rasterized = rasterize([outline.polygon], GRID.shape, transform=GRID.affine).astype(bool)
    # The field follows arcs between the polygon's corners.
    assert np.count_nonzero(inside != rasterized) <= 0.02 * rasterized.sum()
    assert inside.sum() * 100 == pytest.approx(6e4, rel=0.05)


def test_a_horseshoe_is_wider_at_its_head() -> None:
    for seed in range(5):
        outline = horseshoe(np.random.default_rng(seed), 2000, 2000, heading=1.1, area=9e4)
        fraction, _, along = outline.local(GRID)
        assert np.count_nonzero((fraction < 1) & (along > 0)) > np.count_nonzero((fraction < 1) & (along < 0))


def test_a_window_holds_the_outline_or_is_none() -> None:
    outline = blob(np.random.default_rng(2), 1100, 2900, radius=200, stretch=1.5, rough=0.1)
    window = outline.window(GRID, 1.0)
    assert window is not None
    everywhere = outline.local(GRID)[1] > 0
    assert everywhere[window].sum() == everywhere.sum() > 0
    far = blob(np.random.default_rng(2), 90000, 2900, radius=200, stretch=1.5, rough=0.1)
    assert far.window(GRID, 1.0) is None
