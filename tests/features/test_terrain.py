import numpy as np
import pytest

from darts_assets.errors import SettingsError
from darts_assets.features import terrain


def plane(east: float, north: float, shape: tuple[int, int] = (9, 11), cell: float = 10.0) -> np.ndarray:
    """Rising by `east` and `north` metres per metre."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (500 + east * cell * columns - north * cell * rows).astype(np.float32)


@pytest.mark.parametrize(
    ("east", "north", "aspect"),
    [(-0.1, 0, 90), (0.1, 0, 270), (0, 0.1, 180), (0, -0.1, 0), (-0.1, -0.1, 45), (0.1, -0.1, 315), (0, 0, -1)],
)
def test_slope_and_aspect_of_a_plane(east, north, aspect):
    for gradient in terrain.gradients(plane(east, north), 10):
        assert terrain.aspect(gradient) == pytest.approx(np.full((7, 9), aspect), abs=1e-2)
        assert terrain.slope(gradient) == pytest.approx(
            np.full((7, 9), np.degrees(np.arctan(np.hypot(east, north)))), abs=1e-3
        )


def test_aspect_just_west_of_north_stays_below_360():
    gradient = terrain.Gradient(np.full((1, 1), 1e-9, np.float32), np.full((1, 1), 1, np.float32))
    assert terrain.aspect(gradient) == 0


def test_turning_is_addition_modulo_360():
    angle = np.linspace(-1, 360, 20_000, dtype=np.float32)
    for turn in (0.0, 94.3, -90.0, 270.0, np.linspace(-90, 270, 20_000, dtype=np.float32)):
        expected = np.mod(angle + np.float32(1) * turn, np.float32(360)).astype(np.float32)
        found = terrain.rotate(angle.copy(), turn)
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 360
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.isnan(terrain.rotate(np.full(3, np.nan, dtype=np.float32), 94.3)).all()


def test_illumination_is_one_where_the_sun_stands_on_the_normal():
    # 45 degrees down to the east, the sun 45 degrees above the eastern horizon.
    _, central = terrain.gradients(plane(-1, 0), 10)
    assert terrain.illumination(central, 90, 45) == pytest.approx(np.ones((7, 9)), abs=1e-5)
    assert terrain.illumination(central, 270, 45) == pytest.approx(np.zeros((7, 9)), abs=1e-5)
    assert terrain.illumination(central, np.full((7, 9), 270), 25).max() < 0


def test_curvature_of_a_bowl_in_hundredths_of_a_metre():
    rows, columns = np.mgrid[-4:5, -4:5] * 2.0
    bowl = (0.01 * (rows**2 + columns**2) + 1000).astype(np.float32)
    assert terrain.curvature(bowl, 2) == pytest.approx(np.full((7, 7), -4.0), abs=1e-2)


def test_a_hole_takes_only_the_cells_whose_formula_needs_it():
    dem = plane(0.1, 0.2)
    dem[4, 5] = np.nan
    horn, central = terrain.gradients(dem, 10)
    assert np.isnan(terrain.slope(horn)).sum() == 8
    assert np.isnan(terrain.illumination(central, 90, 45)).sum() == 4
    assert np.isnan(terrain.curvature(dem, 10)).sum() == 5


def test_kernel_is_a_disk_or_a_ring_in_cells_rounded_up():
    disk = terrain.tpi_kernel(25, 0, 10)
    assert disk.shape == (7, 7)
    assert disk.sum() == 29
    assert disk[3, 3]
    ring = terrain.tpi_kernel(25, 12, 10)
    assert ring.sum() == 29 - 13
    assert not ring[3, 3]
    # 100 / (10 - 1e-12) is a hair above 10.
    assert terrain.tpi_kernel(100, 0, 10 - 1e-12).shape == (21, 21)
    with pytest.raises(SettingsError, match=r"tpi_inner_radius \(95 m\) must be smaller"):
        terrain.tpi_kernel(100, 95, 10)


@pytest.mark.parametrize("inner", [0, 20])
@pytest.mark.parametrize("outer", [30, 70])
def test_relative_elevation_is_elevation_above_the_mean(outer, inner):
    dem = (np.random.default_rng(1).random((40, 50)) * 100 + 2000).astype(np.float32)
    kernel = terrain.tpi_kernel(outer, inner, 10)
    radius = outer // 10
    result = terrain.relative_elevation(dem, kernel)
    assert result.shape == (40 - 2 * radius, 50 - 2 * radius)
    for row, column in ((0, 0), (5, 7), (39 - 2 * radius, 49 - 2 * radius)):
        around = dem[row : row + 2 * radius + 1, column : column + 2 * radius + 1].astype(np.float64)
        assert result[row, column] == pytest.approx(around[radius, radius] - around[kernel].mean(), abs=1e-3)


def test_relative_elevation_is_missing_within_the_square_around_a_hole():
    dem = plane(0.1, 0.2, (40, 50))
    dem[20, 25] = np.nan
    missing = np.isnan(terrain.relative_elevation(dem, terrain.tpi_kernel(50, 0, 10)))
    assert missing.sum() == 11**2
    assert missing[10:21, 15:26].all()
