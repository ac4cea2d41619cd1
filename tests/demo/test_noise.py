import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.demo.landscape import make_landscape
from darts_assets.demo.noise import noise, smoothstep


def grid(left: int, top: int, height: int, width: int) -> GeoBox:
    return GeoBox((height, width), Affine(10, 0, left, 0, -10, top), "EPSG:3413")


@pytest.mark.parametrize("spacing", [25, 300])
def test_noise_is_a_function_of_coordinates(spacing: float) -> None:
    whole = noise(grid(-2300000, 1500, 300, 400), spacing, key=5)
    part = noise(grid(-2300000 + 700, 1500 - 1200, 100, 150), spacing, key=5)
    np.testing.assert_allclose(part, whole[120:220, 70:220], atol=2e-6)


def test_noise_has_unit_deviation_and_keys_are_independent() -> None:
    box = grid(0, 0, 800, 800)
    first, second = noise(box, 30, key=1), noise(box, 30, key=2)
    assert first.dtype == np.float32
    assert abs(first.mean()) < 0.02
    assert first.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_smoothstep() -> None:
    values = smoothstep(np.array([-1, 0, 1, 2, 3], dtype=np.float32), 0, 2)
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1])


def test_hills_do_not_depend_on_the_window() -> None:
    whole = make_landscape(grid(-2300000, 3000, 500, 500), seed=4)
    part = make_landscape(grid(-2300000 + 1500, 3000 - 1500, 200, 200), seed=4)
    # Lakes that reach over the window's edge see less of their shore; greenness looks at a neighbourhood.
    assert np.median(np.abs(part.elevation - whole.elevation[150:350, 150:350])) < 1e-3
